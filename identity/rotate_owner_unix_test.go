//go:build unix

package identity

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// TestRotateAsRoot: key files that root makes belong to the service's user, who could not read them else.
func TestRotateAsRoot(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can give files away")
	}
	const user, group = 12345, 12346
	ctx, cfg := t.Context(), Config{Dir: t.TempDir(), PublicURL: "https://hold.example.com"}
	id, err := LoadOrCreateDID(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(cfg.Dir, "keys", "signing.key")
	if err := os.Chown(path, user, group); err != nil {
		t.Fatal(err)
	}
	owned := func(path string) {
		t.Helper()
		st, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if sys := st.Sys().(*syscall.Stat_t); sys.Uid != user || sys.Gid != group || st.Mode() != 0o600 {
			t.Errorf("%s: owner %d, group %d, mode %s", path, sys.Uid, sys.Gid, st.Mode())
		}
	}
	if _, err := AskSigningKey(cfg, ""); err != nil {
		t.Fatal(err)
	}
	owned(path + nextSuffix)
	if _, _, err := RotateSigningKey(ctx, id, cfg, "", false); err != nil {
		t.Fatal(err)
	}
	owned(path)
	owned(path + oldSuffix)
}
