package identity

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/bluesky-social/indigo/atproto/syntax"
)

// TestAskSigningKey: one key is made however often it is asked for, each time is seen, and it is taken into use by whoever runs as the
// identity, or by the next start.
func TestAskSigningKey(t *testing.T) {
	ctx, cfg := t.Context(), Config{Dir: t.TempDir(), PublicURL: "https://hold.example.com"}
	before, err := LoadOrCreateDID(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	next := filepath.Join(cfg.Dir, "keys", "signing.key.next")
	same := func(id *Identity, err error) {
		t.Helper()
		if err != nil || id != before || !RotationAsked(before, cfg).IsZero() {
			t.Fatalf("nothing is asked for: %v", err)
		}
	}
	same(FinishRotations(ctx, before, cfg))
	for name, finish := range map[string]func() (*Identity, error){
		"running":    func() (*Identity, error) { return FinishRotations(ctx, before, cfg) },
		"next start": func() (*Identity, error) { return LoadOrCreateDID(ctx, cfg) },
	} {
		if before, err = Load(cfg); err != nil {
			t.Fatal(err)
		}
		pub, err := AskSigningKey(cfg, "p256")
		if err != nil {
			t.Fatal(err)
		}
		asked := RotationAsked(before, cfg)
		again, err := AskSigningKey(cfg, "k256")
		if err != nil || !again.Equal(pub) {
			t.Fatalf("%s: another key was made: %v", name, err)
		}
		if at := RotationAsked(before, cfg); asked.IsZero() || !at.After(asked) {
			t.Errorf("%s: asked at %s, again at %s", name, asked, at)
		}
		if id, err := Load(cfg); err != nil || !id.Key.Equal(before.Key) {
			t.Errorf("%s: asking alone changed the key: %v", name, err)
		}
		if err := os.Chmod(next, 0o644); err != nil {
			t.Fatal(err)
		}
		if id, err := FinishRotations(ctx, before, cfg); !errors.Is(err, ErrKeyPermissions) || id != before {
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
		if old, err := LoadKey(filepath.Join(cfg.Dir, "keys", "signing.key.old")); err != nil || !old.Equal(before.Key) {
			t.Errorf("%s: the old key: %v", name, err)
		}
		before = after
		same(FinishRotations(ctx, before, cfg))
	}
	if _, err := AskRotationKey(before, cfg, ""); err == nil {
		t.Error("a did:web has no rotation key")
	}
}

// TestAskRotationKeyWithoutOne: a new rotation key can only be signed in by the old one; it is asked for where that is not, and waits.
func TestAskRotationKeyWithoutOne(t *testing.T) {
	cfg := Config{Dir: t.TempDir(), PublicURL: "https://hold.example.com"}
	key, _, err := LoadOrCreateKey(filepath.Join(cfg.Dir, "keys", "signing.key"))
	if err != nil {
		t.Fatal(err)
	}
	id := &Identity{DID: syntax.DID("did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"), Key: key}
	next := filepath.Join(cfg.Dir, "keys", "rotation.key.next")
	if _, err := AskRotationKey(id, cfg, ""); !errors.Is(err, ErrNoRotationKey) {
		t.Error(err)
	}
	if _, err := os.Stat(next); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a key was made for a refusal: %v", err)
	}
	if _, _, err := LoadOrCreateKey(next); err != nil {
		t.Fatal(err)
	}
	if got, err := FinishRotations(context.Background(), id, cfg); !errors.Is(err, ErrNoRotationKey) || got != id {
		t.Error(err)
	}
	cfg.RotationKey = key.Multibase()
	if _, err := AskRotationKey(&Identity{DID: id.DID, Key: key, Rotation: key}, cfg, ""); err == nil {
		t.Error("a value of the configuration can't be replaced")
	}
}

// TestStartBesideUnreadableNextKey: a new key that can't be read keeps no did:web from its start, and is taken when it can be.
func TestStartBesideUnreadableNextKey(t *testing.T) {
	ctx, cfg := t.Context(), Config{Dir: t.TempDir(), PublicURL: "https://hold.example.com"}
	before, err := LoadOrCreateDID(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	asked, err := AskSigningKey(cfg, "")
	if err != nil {
		t.Fatal(err)
	}
	next := filepath.Join(cfg.Dir, "keys", "signing.key.next")
	for _, mode := range []os.FileMode{0o644, 0o600} {
		if err := os.Chmod(next, mode); err != nil {
			t.Fatal(err)
		}
		id, err := LoadOrCreateDID(ctx, cfg)
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
	ctx, cfg := t.Context(), Config{Dir: t.TempDir(), PublicURL: "https://hold.example.com"}
	running, err := LoadOrCreateDID(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	other, _, err := RotateSigningKey(ctx, running, cfg, "", false)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := FinishRotations(ctx, running, cfg); err != nil || !got.Key.Equal(other.Key) {
		t.Errorf("the old key stays: %v", err)
	}
}
