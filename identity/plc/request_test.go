package plc_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"github.com/atcr-dev/atcr/identity"
	"github.com/atcr-dev/atcr/identity/internal/plclog"
	"github.com/atcr-dev/atcr/identity/plc"
)

// TestRequestRotation: one key is made however often it is requested, each time is seen, and it is taken into use by whoever runs as the
// identity, or by the next start.
func TestRequestRotation(t *testing.T) {
	ctx, cfg := t.Context(), identity.Config{Dir: t.TempDir(), PublicURL: "https://hold.example.com"}
	before, err := identity.LoadOrCreateDID(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	next := filepath.Join(cfg.Dir, "keys", "signing.key.next")
	complete := func() (*identity.Identity, error) {
		m := manage(t, before, cfg)
		err := m.CompleteRotations(ctx)
		return m.Identity(), err
	}
	same := func(id *identity.Identity, err error) {
		t.Helper()
		if err != nil || id != before || !manage(t, before, cfg).RotationRequested().IsZero() {
			t.Fatalf("nothing is requested: %v", err)
		}
	}
	same(complete())
	for name, finish := range map[string]func() (*identity.Identity, error){
		"running":    complete,
		"next start": func() (*identity.Identity, error) { return identity.LoadOrCreateDID(ctx, cfg) },
	} {
		if before, err = identity.Load(cfg); err != nil {
			t.Fatal(err)
		}
		m := manage(t, before, cfg)
		pub, err := m.RequestRotation(ctx, plc.RotateOptions{Type: "p256"})
		if err != nil {
			t.Fatal(err)
		}
		asked := m.RotationRequested()
		again, err := m.RequestRotation(ctx, plc.RotateOptions{Type: "k256"})
		if err != nil || !again.Equal(pub) {
			t.Fatalf("%s: another key was made: %v", name, err)
		}
		if at := m.RotationRequested(); asked.IsZero() || !at.After(asked) {
			t.Errorf("%s: requested at %s, again at %s", name, asked, at)
		}
		if id, err := identity.Load(cfg); err != nil || !id.Key.Equal(before.Key) {
			t.Errorf("%s: a request alone changed the key: %v", name, err)
		}
		if err := os.Chmod(next, 0o644); err != nil {
			t.Fatal(err)
		}
		if id, err := complete(); !errors.Is(err, identity.ErrKeyPermissions) || id != before {
			t.Errorf("%s: a key that others may read: %v", name, err)
		}
		if err := os.Chmod(next, 0o600); err != nil {
			t.Fatal(err)
		}
		after, err := finish()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := after.Key.PublicKey(); err != nil || !got.Equal(pub) || after.DID != before.DID {
			t.Errorf("%s: another key is in use: %v", name, err)
		}
		if old, err := plc.LoadKey(filepath.Join(cfg.Dir, "keys", "signing.key.old")); err != nil || !old.Equal(before.Key) {
			t.Errorf("%s: the old key: %v", name, err)
		}
		before = after
		same(complete())
	}
	rotation := plc.RotateOptions{Key: plc.RotationKey}
	if _, err := manage(t, before, cfg).RequestRotation(ctx, rotation); !errors.Is(err, plc.ErrNotPLC) {
		t.Errorf("a did:web has no rotation key: %v", err)
	}
}

// TestRequestRotationWithoutKey: a new rotation key can only be signed in by the old one; it is requested where that is not, and waits.
func TestRequestRotationWithoutKey(t *testing.T) {
	cfg := identity.Config{Dir: t.TempDir(), PublicURL: "https://hold.example.com"}
	key, _, err := plclog.LoadOrCreateKey(filepath.Join(cfg.Dir, "keys", "signing.key"), "")
	if err != nil {
		t.Fatal(err)
	}
	id := &identity.Identity{DID: syntax.DID("did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"), Key: key}
	next := filepath.Join(cfg.Dir, "keys", "rotation.key.next")
	rotation := plc.RotateOptions{Key: plc.RotationKey}
	m := manage(t, id, cfg)
	if _, err := m.RequestRotation(t.Context(), rotation); !errors.Is(err, identity.ErrNoRotationKey) {
		t.Error(err)
	}
	if _, err := os.Stat(next); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a key was made for a refusal: %v", err)
	}
	if _, _, err := plclog.LoadOrCreateKey(next, ""); err != nil {
		t.Fatal(err)
	}
	if err := m.CompleteRotations(t.Context()); !errors.Is(err, identity.ErrNoRotationKey) || m.Identity() != id {
		t.Error(err)
	}
	cfg.RotationKey = key.Multibase()
	m = manage(t, &identity.Identity{DID: id.DID, Key: key, Rotation: key}, cfg)
	var field *identity.ConfigError
	if _, err := m.RequestRotation(t.Context(), rotation); !errors.As(err, &field) || field.Field != "RotationKey" {
		t.Error("a value of the configuration can't be replaced")
	}
}

// TestStartBesideUnreadableNextKey: a new key that can't be read keeps no did:web from its start, and is taken when it can be.
func TestStartBesideUnreadableNextKey(t *testing.T) {
	ctx, cfg := t.Context(), identity.Config{Dir: t.TempDir(), PublicURL: "https://hold.example.com"}
	before, err := identity.LoadOrCreateDID(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	asked, err := manage(t, before, cfg).RequestRotation(ctx, plc.RotateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	next := filepath.Join(cfg.Dir, "keys", "signing.key.next")
	for _, mode := range []os.FileMode{0o644, 0o600} {
		if err := os.Chmod(next, mode); err != nil {
			t.Fatal(err)
		}
		id, err := identity.LoadOrCreateDID(ctx, cfg)
		if err != nil {
			t.Fatalf("%#o: %v", mode, err)
		}
		pub, err := id.Key.PublicKey()
		if err != nil || id.Key.Equal(before.Key) != (mode == 0o644) || pub.Equal(asked) != (mode == 0o600) {
			t.Errorf("%#o: another key is in use: %v", mode, err)
		}
	}
}

// TestTakeFileOfWeb: a did:web's key that somebody else put in place is taken over.
func TestTakeFileOfWeb(t *testing.T) {
	ctx, cfg := t.Context(), identity.Config{Dir: t.TempDir(), PublicURL: "https://hold.example.com"}
	running, err := identity.LoadOrCreateDID(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	other, _ := rotate(t, running, cfg, plc.RotateOptions{})
	m := manage(t, running, cfg)
	if err := m.CompleteRotations(ctx); err != nil || !m.Identity().Key.Equal(other.Key) {
		t.Errorf("the old key stays: %v", err)
	}
}
