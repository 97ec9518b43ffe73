//go:build unix

package crew

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// TestAskAsRoot: what root asks for belongs to the service's user, who could not read it else, nor the folder ever again.
func TestAskAsRoot(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can give files away")
	}
	const user, group = 12345, 12346
	dir := t.TempDir()
	if err := os.Chown(dir, user, group); err != nil {
		t.Fatal(err)
	}
	name, err := Ask(dir, Change{Member: alice})
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{filepath.Join(dir, "crew"), filepath.Join(dir, "crew", name+".json")} {
		st, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if sys := st.Sys().(*syscall.Stat_t); sys.Uid != user || sys.Gid != group || st.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: owner %d, group %d, mode %s", path, sys.Uid, sys.Gid, st.Mode())
		}
	}
}
