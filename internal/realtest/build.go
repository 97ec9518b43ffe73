package realtest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// builds are the programs that this process has built: only tests import this package, so it may be a global.
var builds sync.Map // dir + pkg -> *build

type build struct {
	once sync.Once
	err  error
}

// Build compiles a main package of this module with cgo off, as it ships, into
// dir and returns the program's path. pkg is relative to the module's root, such
// as "./cmd/atcr-hold". A second build into the same dir does nothing. Safe for
// concurrent use.
func Build(t testing.TB, dir, pkg string) string {
	t.Helper()
	out := filepath.Join(dir, filepath.Base(pkg))
	known, _ := builds.LoadOrStore(dir+" "+pkg, &build{})
	b := known.(*build)
	b.once.Do(func() { b.err = compile(out, pkg) })
	if b.err != nil {
		t.Fatalf("realtest: build %s: %v", pkg, b.err)
	}
	return out
}

func compile(out, pkg string) error {
	root, err := moduleRoot()
	if err != nil {
		return err
	}
	cmd := exec.Command("go", "build", "-o", out, pkg)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w\n%s", err, text)
	}
	return nil
}

// moduleRoot is the folder of go.mod.
func moduleRoot() (string, error) {
	out, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("go env GOMOD: %w", err)
	}
	return filepath.Dir(strings.TrimSpace(string(out))), nil
}
