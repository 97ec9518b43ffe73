// Command runtests runs go test and says how far it is:
//
//	go run ./internal/realtest/runtests [-install default] [-- flags of go test] [packages]
//
// Packages are ./... unless named. It prints go test's closing line of each
// package ("ok  	package	1.2s"), the whole output of tests that fail and of
// nothing else, a line each 20 seconds with what is done and what runs, and at
// the end the ten packages that took longest. The exit status is go test's.
//
// With -install it first installs the named components while the tests compile.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/atcr-dev/atcr/internal/realtest/tools"
)

// first are the packages that take longest: they begin first, so that the others fill in beside them.
var first = []string{
	"e2e", "registry/pds", "hold", "repo/sqlstore",
	"cmd/atcr-hold", "hold/backup", "registry/appview", "identity", "identity/plc",
}

const interval = 20 * time.Second // between two lines that say how far it is

func main() {
	install := flag.String("install", "", "components to install first, as of internal/realtest/install, with commas")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	code, err := run(ctx, os.Stdout, *install, flag.Args())
	if err != nil {
		fmt.Fprintln(os.Stderr, "runtests:", err)
	}
	os.Exit(code)
}

func run(ctx context.Context, out io.Writer, install string, args []string) (int, error) {
	flags, patterns := split(args)
	packages, err := list(ctx, patterns)
	if err != nil {
		return 1, err
	}
	start := time.Now()
	if install != "" {
		if err := prepare(ctx, out, install, append(flags, packages...)); err != nil {
			return 1, err
		}
		fmt.Fprintf(out, "# installed and compiled in %s\n", short(time.Since(start)))
	}
	return goTest(ctx, newReport(out, len(packages)), append(flags, packages...))
}

// split separates the flags of go test, each of one word, from the packages.
func split(args []string) (flags, patterns []string) {
	for _, a := range args {
		if strings.HasPrefix(a, "-") {
			flags = append(flags, a)
		} else {
			patterns = append(patterns, a)
		}
	}
	if patterns == nil {
		patterns = []string{"./..."}
	}
	return flags, patterns
}

// list returns the packages, the slow ones first.
func list(ctx context.Context, patterns []string) ([]string, error) {
	cmd := exec.CommandContext(ctx, "go", append([]string{"list"}, patterns...)...)
	cmd.Stderr = os.Stderr
	text, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list %s: %w", strings.Join(patterns, " "), err)
	}
	packages := strings.Fields(string(text))
	module, err := exec.CommandContext(ctx, "go", "list", "-m").Output()
	if err != nil {
		return nil, fmt.Errorf("go list -m: %w", err)
	}
	place := func(pkg string) int {
		if i := slices.Index(first, strings.TrimPrefix(pkg, strings.TrimSpace(string(module))+"/")); i >= 0 {
			return i
		}
		return len(first)
	}
	slices.SortStableFunc(packages, func(a, b string) int { return place(a) - place(b) })
	return packages, nil
}

// prepare installs components while the tests compile. What does not compile is left to be shown by the tests.
func prepare(ctx context.Context, out io.Writer, install string, args []string) error {
	var components []tools.Component
	for name := range strings.SplitSeq(install, ",") {
		parsed, err := tools.Parse(name)
		if err != nil {
			return err
		}
		components = append(components, parsed...)
	}
	compiled := make(chan struct{})
	go func() {
		defer close(compiled)
		start := time.Now()
		cmd := exec.CommandContext(ctx, "go", append([]string{"test", "-exec=true"}, args...)...)
		if cmd.Run() == nil {
			fmt.Fprintf(out, "# tests compiled in %s\n", short(time.Since(start)))
		}
	}()
	err := tools.Install(ctx, out, components...)
	if err == nil {
		fmt.Fprintln(out, "# installed: "+install+"; waiting for the compiler")
	}
	<-compiled
	return err
}

// goTest runs go test and returns its exit status.
func goTest(ctx context.Context, r *report, args []string) (int, error) {
	cmd := exec.CommandContext(ctx, "go", append([]string{"test", "-json"}, args...)...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = time.Minute
	cmd.Stderr = os.Stderr
	events, err := cmd.StdoutPipe()
	if err != nil {
		return 1, err
	}
	if err := cmd.Start(); err != nil {
		return 1, err
	}
	done := make(chan struct{})
	go r.tick(done, interval)
	r.read(events)
	err = cmd.Wait()
	close(done)
	r.summary()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0, nil
	case errors.As(err, &exit) && exit.ExitCode() > 0:
		return exit.ExitCode(), nil
	default:
		return 1, fmt.Errorf("%s: %w", filepath.Base(cmd.Path), err)
	}
}
