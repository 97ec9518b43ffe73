package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"github.com/atcr-dev/atcr/internal/realtest"
)

// pseudoTerminal opens one of 100 columns; what is written to tty comes out of screen.
func pseudoTerminal() (screen, tty *os.File, err error) {
	screen, err = os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, nil, err
	}
	fd := int(screen.Fd())
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		err = unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 30, Col: 100})
	}
	if err == nil {
		tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	}
	return screen, tty, err
}

// command makes one of a script's, which testscript can't run as these tests want it.
func command(ts *testscript.TestScript, args []string) *exec.Cmd {
	env := []string{}
	for _, name := range []string{"PATH", "HOME", "TMPDIR", "WORK", "ATCR_PASSPHRASE", "HOLD_SERVER_ADDR", "HOLD_SERVER_PUBLIC_URL",
		"HOLD_SERVER_TEST_MODE", "HOLD_REGISTRATION_OWNER_DID", "HOLD_DATABASE_PATH"} {
		env = append(env, name+"="+ts.Getenv(name))
	}
	var path string
	for _, dir := range filepath.SplitList(ts.Getenv("PATH")) {
		if _, err := os.Stat(filepath.Join(dir, args[0])); err == nil {
			path = filepath.Join(dir, args[0])
			break
		}
	}
	return &exec.Cmd{Path: path, Args: args, Env: env, Dir: ts.MkAbs(".")}
}

// onTerminal runs a command whose standard error is a terminal, and wants a text on it: onterminal [-in FILE] PATTERN COMMAND…
func onTerminal(ts *testscript.TestScript, neg bool, args []string) {
	screen, tty, err := pseudoTerminal()
	ts.Check(err)
	var in io.Reader
	if args[0] == "-in" {
		in = strings.NewReader(ts.ReadFile(args[1]))
		args = args[2:]
	}
	cmd := command(ts, args[1:])
	cmd.Stdin, cmd.Stderr = in, tty
	ts.Check(cmd.Start())
	tty.Close()
	seen := make(chan string)
	go func() {
		text, _ := io.ReadAll(screen) // it ends with EIO when the last has closed the terminal
		screen.Close()
		seen <- string(text)
	}()
	err = cmd.Wait()
	text := <-seen
	if (err != nil) != neg || !regexp.MustCompile(args[0]).MatchString(text) {
		ts.Fatalf("%v; the terminal shows %q", err, text)
	}
}

// interrupted starts a command, sends it SIGINT as soon as a file is there that fits a pattern, and wants it to end with
// 130. When it was faster the file OUT is removed, and it is tried again: interrupted GLOB OUT COMMAND…
func interrupted(ts *testscript.TestScript, _ bool, args []string) {
	for range 20 {
		var errs bytes.Buffer
		cmd := command(ts, args[2:])
		cmd.Stderr = &errs
		ts.Check(cmd.Start())
		done := make(chan error, 1)
		go func() { done <- cmd.Wait() }()
		err := realtest.WaitFor(30*time.Second, func() error {
			if found, err := filepath.Glob(ts.MkAbs(args[0])); err != nil || len(found) > 0 {
				return err
			}
			if len(done) > 0 {
				return nil
			}
			return fmt.Errorf("there is no %s", args[0])
		})
		ts.Check(err)
		_ = cmd.Process.Signal(os.Interrupt)
		<-done
		switch code := cmd.ProcessState.ExitCode(); {
		case code == 130 && strings.Contains(errs.String(), "atcr-hold: interrupted: "):
			return
		case code != 0:
			ts.Fatalf("it ended with %d: %s", code, errs.String())
		}
		ts.Check(os.RemoveAll(ts.MkAbs(args[1])))
	}
	ts.Fatalf("it was always faster than SIGINT")
}

// TestTerminal has what people see on a terminal, and do there.
func TestTerminal(t *testing.T) {
	records := map[string]string{}
	for i := range 20_000 {
		records[fmt.Sprintf("io.atcr.test/k%05d", i)] = fmt.Sprint(i)
	}
	big := carOf(t, "did:web:big.example", records)
	testscript.Run(t, testscript.Params{
		Dir: "testdata/terminal",
		Setup: func(env *testscript.Env) error {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				return err
			}
			ln.Close()
			env.Setenv("HOLD_SERVER_ADDR", ln.Addr().String())
			env.Setenv("BIG", big)
			env.Setenv("TMPDIR", filepath.Join(env.WorkDir, "tmp"))
			return os.Mkdir(filepath.Join(env.WorkDir, "tmp"), 0o700)
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){"answers": answers, "onterminal": onTerminal,
			"interrupted": interrupted},
	})
}
