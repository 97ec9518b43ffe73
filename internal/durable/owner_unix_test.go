//go:build unix

package durable

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// TestSameOwnerOfLink: who owns a folder can't have root give him a file elsewhere by a link.
func TestSameOwnerOfLink(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can give files away")
	}
	dir := t.TempDir()
	like, secret, link := filepath.Join(dir, "like"), filepath.Join(dir, "secret"), filepath.Join(dir, "link")
	for _, path := range []string{like, secret} {
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chown(like, 12345, 12346); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(secret, link); err != nil {
		t.Fatal(err)
	}
	if err := SameOwner(link, like); err != nil {
		t.Fatal(err)
	}
	st, err := os.Stat(secret)
	if err != nil {
		t.Fatal(err)
	}
	if sys := st.Sys().(*syscall.Stat_t); sys.Uid != uint32(os.Getuid()) {
		t.Errorf("the file that the link leads to was given to %d", sys.Uid)
	}
}
