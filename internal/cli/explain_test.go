package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
)

// TestExplain: a full disk names the folders, a folder of another user both users.
func TestExplain(t *testing.T) {
	own := Folder{"database.path", t.TempDir()}
	other := Folder{"storage.path", t.TempDir()}
	if os.Geteuid() == 0 {
		if err := os.Chown(other.Path, 65534, 65534); err != nil {
			t.Fatal(err)
		}
	}
	both := []Folder{own, other}
	denied := fmt.Errorf("lock folder: %w", fs.ErrPermission)
	for _, c := range []struct {
		err     error
		folders []Folder
		want    []string
	}{
		{fmt.Errorf("write: %w", syscall.ENOSPC), both, []string{"no space left in " + own.Path + " (database.path) or " + other.Path +
			" (storage.path)", "free some"}},
		{errors.New("create version table: database or disk is full (13)"), both[:1],
			[]string{"no space left in " + own.Path + " (database.path): "}},
		{denied, both[:1], []string{"may not write to " + own.Path + " (database.path)", "lock folder"}},
		{errors.New("port taken"), both, []string{"port taken"}},
	} {
		got := explain(c.err, c.folders)
		if !errors.Is(got, c.err) {
			t.Errorf("%v hides %v", got, c.err)
		}
		for _, want := range c.want {
			if !strings.Contains(got.Error(), want) {
				t.Errorf("no %q in %q", want, got)
			}
		}
	}
	if os.Geteuid() == 0 {
		if got := explain(denied, both).Error(); !strings.Contains(got, other.Path+" (storage.path) belongs to user ") ||
			!strings.Contains(got, "(65534), and this runs as user root (0)") {
			t.Error(got)
		}
	}
	port := fmt.Errorf("hold: listen: %w", &net.OpError{Op: "listen", Net: "tcp", Err: os.NewSyscallError("bind", syscall.EACCES)})
	if got := explain(port, both).Error(); strings.Contains(got, own.Path) || !strings.Contains(got, "bind: permission denied") {
		t.Errorf("a port that may not be bound is a matter of a folder: %s", got)
	}
	if explain(nil, both) != nil {
		t.Error("an error of none")
	}
}
