package tools

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Install installs what of components is missing and says on w what it does,
// one line each. It may be called by several processes at once. Debian packages
// need root.
func Install(ctx context.Context, w io.Writer, components ...Component) error {
	missing := func(c Component) bool { return slices.Contains(components, c) && !Installed(c) }
	if missing(ATProto) {
		components = append([]Component{Compiler, NPM}, components...) // it is built with these
	} else if missing(Axe) {
		components = append([]Component{NPM}, components...)
	}
	var deb, todo []Component
	for _, c := range components {
		if Installed(c) || slices.Contains(todo, c) {
			continue
		}
		todo = append(todo, c)
		if _, ok := debTools[c]; ok {
			deb = append(deb, c)
		}
	}
	if len(todo) > 0 {
		fmt.Fprintf(w, "realtest: to install: %v\n", todo)
	}
	if len(deb) > 0 {
		if err := locked(ctx, "apt", func() error { return installDeb(ctx, w, deb) }); err != nil {
			return err
		}
	}
	for i, c := range todo {
		if Installed(c) {
			continue
		}
		fmt.Fprintf(w, "realtest: installing %s (%d of %d)\n", c, i+1, len(todo))
		err := locked(ctx, string(c), func() error {
			if Installed(c) { // another process was faster
				return nil
			}
			start := time.Now()
			var err error
			if _, ok := goTools[c]; ok {
				err = installGo(ctx, c)
			} else if _, ok := unpacked[c]; ok {
				err = locked(ctx, "apt", func() error { return unpackDeb(ctx, c) })
			} else if c == Axe {
				err = axe.install(ctx)
			} else {
				err = installStack(ctx)
			}
			if err != nil {
				return fmt.Errorf("install %s: %w", c, err)
			}
			if !Installed(c) {
				return fmt.Errorf("install %s: the installation went through but the program is not there", c)
			}
			fmt.Fprintf(w, "realtest: installed %s in %s\n", c, time.Since(start).Round(time.Second))
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func installDeb(ctx context.Context, w io.Writer, components []Component) error {
	var packages []string
	for _, c := range components {
		if !Installed(c) {
			packages = append(packages, debTools[c].packages...)
		}
	}
	if len(packages) == 0 {
		return nil
	}
	if os.Getuid() != 0 {
		return fmt.Errorf("install %v: not root; run: sudo apt-get install --no-install-recommends %s",
			components, strings.Join(packages, " "))
	}
	fmt.Fprintf(w, "realtest: installing Debian's %s\n", strings.Join(packages, ", "))
	start := time.Now()
	env := []string{"DEBIAN_FRONTEND=noninteractive"}
	if err := run(ctx, "", env, "apt-get", "update", "-qq"); err != nil {
		return err
	}
	args := append([]string{"install", "-y", "-qq", "--no-install-recommends"}, packages...)
	if err := run(ctx, "", env, "apt-get", args...); err != nil {
		return err
	}
	fmt.Fprintf(w, "realtest: installed %v in %s\n", components, time.Since(start).Round(time.Second))
	return nil
}

// unpackDeb takes the program out of a package, and renames it into its place.
func unpackDeb(ctx context.Context, c Component) error {
	bin := filepath.Dir(Path(c))
	if err := os.MkdirAll(bin, 0o755); err != nil {
		return err
	}
	tmp, err := os.MkdirTemp(Dir(), "deb-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	if os.Getuid() == 0 {
		if err := run(ctx, "", nil, "apt-get", "update", "-qq"); err != nil {
			return err
		}
	}
	if err := run(ctx, tmp, nil, "apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download", string(c)); err != nil {
		return err
	}
	found, err := filepath.Glob(filepath.Join(tmp, "*.deb"))
	if err != nil || len(found) != 1 { // the pattern is good, so err is nil
		return fmt.Errorf("apt-get download %s: %d files, want one", c, len(found))
	}
	if err := run(ctx, tmp, nil, "dpkg-deb", "--extract", found[0], tmp); err != nil {
		return err
	}
	return os.Rename(filepath.Join(tmp, unpacked[c]), Path(c))
}

// installGo builds into a folder of its own and renames, so that a reader never
// sees half a program.
func installGo(ctx context.Context, c Component) error {
	g := goTools[c]
	bin := filepath.Join(Dir(), "bin")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		return err
	}
	tmp, err := os.MkdirTemp(Dir(), "go-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	// From outside any module, and without its flags: the tool's own go.mod decides.
	if err := run(ctx, tmp, []string{"GOBIN=" + tmp, "GOWORK=off", "GOFLAGS="}, "go", "install", g.pkg+"@"+g.version); err != nil {
		return err
	}
	return os.Rename(filepath.Join(tmp, g.binary), Path(c))
}

// run runs a command; its output is in the error when it fails.
func run(ctx context.Context, dir string, env []string, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, tail(out, 4000))
	}
	return nil
}

func tail(b []byte, n int) []byte {
	if len(b) > n {
		return append([]byte("…"), b[len(b)-n:]...)
	}
	return b
}

// locked runs f while this process holds the lock file of name.
func locked(ctx context.Context, name string, f func() error) error {
	if err := os.MkdirAll(Dir(), 0o755); err != nil {
		return err
	}
	lock, err := os.OpenFile(filepath.Join(Dir(), "."+name+".lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return err
	}
	defer lock.Close()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return f()
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return fmt.Errorf("lock %s: %w", lock.Name(), err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for another installation of %s: %w", name, ctx.Err())
		case <-tick.C:
		}
	}
}
