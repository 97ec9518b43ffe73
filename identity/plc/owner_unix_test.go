//go:build unix

package plc_test

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/atcr-dev/atcr/identity"
	"github.com/atcr-dev/atcr/identity/internal/plclog"
	"github.com/atcr-dev/atcr/identity/plc"
)

// TestRotateAsRoot: key files that root makes belong to the service's user, who could not read them else.
func TestRotateAsRoot(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can give files away")
	}
	const user, group = 12345, 12346
	ctx, cfg := t.Context(), identity.Config{Dir: t.TempDir(), PublicURL: "https://hold.example.com"}
	id, err := identity.LoadOrCreateDID(ctx, cfg)
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
	m := manage(t, id, cfg)
	if _, err := m.RequestRotation(ctx, plc.RotateOptions{}); err != nil {
		t.Fatal(err)
	}
	owned(path + plclog.NextSuffix)
	if _, err := m.Rotate(ctx, plc.RotateOptions{}); err != nil {
		t.Fatal(err)
	}
	owned(path)
	owned(path + plclog.OldSuffix)
}
