package plc_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/atcr-dev/atcr/identity"
	"github.com/atcr-dev/atcr/identity/internal/plclog"
	"github.com/atcr-dev/atcr/identity/plc"
	"github.com/atcr-dev/atcr/internal/durable"
)

// testPLCBehindTheBack: what a process that runs as id makes of a signing key that somebody else put in place, or whose
// file can't get its name.
func testPLCBehindTheBack(t *testing.T, n *plcNet) {
	ctx, cfg := t.Context(), n.config(t.TempDir())
	running, _ := mustBoot(t, cfg)
	finish := func(what string, want *identity.Identity, kind error) {
		t.Helper()
		m := manage(t, running, cfg)
		err := m.CompleteRotations(ctx)
		if !errors.Is(err, kind) || kind == nil && err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if running = m.Identity(); !running.Key.Equal(want.Key) {
			t.Fatalf("%s: another key is in use", what)
		}
	}

	other, _ := rotate(t, running, cfg, plc.RotateOptions{})
	n.proxy.SetTarget("http://127.0.0.1:1")
	finish("the directory is down", running, identity.ErrPLCUnavailable)
	n.proxy.SetTarget(n.PLC)
	finish("put in place by somebody else", other, nil)

	path := filepath.Join(cfg.Dir, "keys", "signing.key")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	finish("the file is not there", other, identity.ErrKeyMissing)
	if _, _, err := plclog.LoadOrCreateKey(path, ""); err != nil {
		t.Fatal(err)
	}
	finish("a key that nobody names", other, identity.ErrKeyFile)
	if err := durable.ReplaceSecret(path, []byte(other.Key.Multibase())); err != nil {
		t.Fatal(err)
	}

	// No room for the old key.
	old := path + ".old"
	if err := errors.Join(os.Remove(old), os.MkdirAll(filepath.Join(old, "full"), 0o700)); err != nil {
		t.Fatal(err)
	}
	m := manage(t, running, cfg)
	c, err := m.Rotate(ctx, plc.RotateOptions{})
	next := m.Identity()
	if err == nil || !c.Submitted || next.Key.Equal(other.Key) {
		t.Fatalf("the directory names the new key: %+v, %v", c, err)
	}
	finish("no room", next, fs.ErrExist)
	n.proxy.SetTarget("http://127.0.0.1:1")
	finish("no room, the directory is down", next, identity.ErrPLCUnavailable)
	n.proxy.SetTarget(n.PLC)
	if id, s := mustBoot(t, cfg); !id.Key.Equal(next.Key) || len(s.Drift) != 0 {
		t.Errorf("a start without room: %+v", s)
	}
	if err := os.RemoveAll(old); err != nil {
		t.Fatal(err)
	}
	finish("room again", next, nil)
	if id, s := mustBoot(t, cfg); !id.Key.Equal(next.Key) || len(s.Log.Entries) != 3 {
		t.Errorf("a start afterwards: %+v", s)
	}

	// The rotation key is there for the moment.
	if _, err := manage(t, running, cfg).RequestRotation(ctx, plc.RotateOptions{}); err != nil {
		t.Fatal(err)
	}
	without := *running
	without.Rotation = nil
	m = manage(t, &without, cfg)
	err = m.CompleteRotations(ctx)
	if last := m.Identity(); err != nil || last.Rotation != nil || last.Key.Equal(next.Key) {
		t.Errorf("a rotation key for the moment: kept %t, %v", m.Identity().Rotation != nil, err)
	}
}
