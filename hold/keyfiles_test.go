package hold_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/atcr-dev/atcr/hold"
	"github.com/atcr-dev/atcr/identity"
	"github.com/atcr-dev/atcr/internal/durable"
)

// Each key in the folder stops the start when others may read it: links, tokens and upload ids could be forged with them.
func TestKeysThatOthersMayRead(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	start := func() error {
		s, err := hold.New(t.Context(), hold.Config{
			Dir: dir, PublicURL: "http://127.0.0.1:8080", OwnerDID: "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa", TestMode: true,
			Directory: identity.NewMockDirectory(),
		})
		if err != nil {
			return err
		}
		return s.Close()
	}
	if err := start(); err != nil {
		t.Fatal(err)
	}
	var keys []string
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && filepath.Ext(path) == ".key" {
			keys = append(keys, path)
		}
		return err
	})
	if err != nil || len(keys) < 3 {
		t.Fatalf("%q %v: this test looks at the wrong files", keys, err)
	}
	for _, key := range keys {
		if err := os.Chmod(key, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := start(); !errors.Is(err, durable.ErrPermissions) {
			t.Errorf("%s: %v", key, err)
		}
		if err := os.Chmod(key, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := start(); err != nil {
		t.Error(err)
	}
}
