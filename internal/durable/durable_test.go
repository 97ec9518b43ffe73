package durable_test

import (
	"bufio"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/atcr-dev/atcr/internal/durable"
)

// names lists a folder.
func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var ns []string
	for _, e := range entries {
		ns = append(ns, e.Name())
	}
	return ns
}

func TestWriteFileReplacesWhole(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	for _, content := range []string{"one", "a longer two", ""} {
		if err := durable.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(path)
		if err != nil || string(got) != content {
			t.Errorf("read %q, %v; want %q", got, err, content)
		}
	}
	st, err := os.Stat(path)
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v; want 0600", st.Mode(), err)
	}
	if got := names(t, dir); len(got) != 1 {
		t.Errorf("folder holds %q, want f alone", got)
	}
}

func TestWriteFileFailsCleanly(t *testing.T) {
	dir := t.TempDir()
	// A folder that isn't empty can't be renamed over: the last step fails.
	target := filepath.Join(dir, "taken")
	if err := os.MkdirAll(filepath.Join(target, "inside"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := durable.WriteFile(target, []byte("x"), 0o600); err == nil || !strings.Contains(err.Error(), target) {
		t.Errorf("error is %v, want one that names %s", err, target)
	}
	if got := names(t, dir); len(got) != 1 {
		t.Errorf("folder holds %q after a failed write, want %q alone", got, "taken")
	}
	if err := durable.WriteFile(filepath.Join(dir, "no", "such"), nil, 0o600); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error is %v, want %v", err, fs.ErrNotExist)
	}
}

func TestCreateFileHasOneWinner(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "key")
	var won atomic.Int32
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			switch err := durable.CreateFile(path, []byte{byte(i)}, 0o600); {
			case err == nil:
				won.Add(1)
			case !errors.Is(err, fs.ErrExist):
				t.Errorf("error is %v, want %v", err, fs.ErrExist)
			}
		})
	}
	wg.Wait()
	if won.Load() != 1 {
		t.Errorf("%d of 16 callers made the file", won.Load())
	}
	if got := names(t, dir); len(got) != 1 {
		t.Errorf("folder holds %q, want key alone", got)
	}
}

func TestMkdirAll(t *testing.T) {
	dir := t.TempDir()
	deep := filepath.Join(dir, "a", "b", "c")
	for range 2 {
		if err := durable.MkdirAll(deep, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if st, err := os.Stat(deep); err != nil || !st.IsDir() {
		t.Errorf("%v, %v: want a folder", st, err)
	}
	file := filepath.Join(dir, "file")
	if err := durable.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{file, filepath.Join(file, "below")} {
		if err := durable.MkdirAll(bad, 0o700); err == nil {
			t.Errorf("MkdirAll(%s) succeeded over a file", bad)
		}
	}
}

func TestRenameAndRemove(t *testing.T) {
	dir := t.TempDir()
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	if err := durable.WriteFile(a, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := durable.Rename(a, b); err != nil {
		t.Fatal(err)
	}
	if err := durable.Remove(b); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{durable.Remove(b), durable.Rename(a, b), durable.SyncDir(a)} {
		if !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("error is %v, want %v", err, fs.ErrNotExist)
		}
	}
}

func TestRemoveTemp(t *testing.T) {
	dir := t.TempDir()
	for _, n := range []string{durable.TempPrefix + "1", durable.TempPrefix + "2", "keep", ".keep"} {
		if err := os.WriteFile(filepath.Join(dir, n), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := durable.RemoveTemp(dir); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(names(t, dir), " "); got != ".keep keep" {
		t.Errorf("folder holds %q, want .keep and keep", got)
	}
}

func TestLockDirInOneProcess(t *testing.T) {
	dir := t.TempDir()
	l, err := durable.LockDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var locked *durable.LockedError
	if _, err := durable.LockDir(dir); !errors.Is(err, durable.ErrLocked) || !errors.As(err, &locked) || locked.PID != os.Getpid() {
		t.Errorf("second lock: %v, want ErrLocked with our pid", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := durable.LockDir(dir)
	if err != nil {
		t.Fatalf("lock after Close: %v", err)
	}
	again.Close()
	if _, err := durable.LockDir(filepath.Join(dir, "missing")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error is %v, want %v", err, fs.ErrNotExist)
	}
}

const lockEnv = "ATCR_TEST_LOCK_DIR"

// TestLockDirHolder is the other process of the next test.
func TestLockDirHolder(t *testing.T) {
	dir := os.Getenv(lockEnv)
	if dir == "" {
		t.Skip("only as the second process of TestLockDirOfAKilledProcess")
	}
	if _, err := durable.LockDir(dir); err != nil {
		t.Fatal(err)
	}
	os.Stdout.WriteString("locked\n")
	os.Stdin.Read(make([]byte, 1)) // until killed
}

func TestLockDirOfAKilledProcess(t *testing.T) {
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestLockDirHolder$")
	cmd.Env = append(os.Environ(), lockEnv+"="+dir)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "locked\n" {
		t.Fatalf("the other process said %q, %v", line, err)
	}
	var locked *durable.LockedError
	if _, err := durable.LockDir(dir); !errors.As(err, &locked) || locked.PID != cmd.Process.Pid {
		t.Errorf("lock beside process %d: %v, want an error with that pid", cmd.Process.Pid, err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	cmd.Wait()
	l, err := durable.LockDir(dir)
	if err != nil {
		t.Fatalf("lock after the holder was killed: %v", err)
	}
	l.Close()
}
