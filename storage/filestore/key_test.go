package filestore

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/atcr-dev/atcr/internal/durable"
)

// The key that signs upload ids is refused when others may read it, as every key is.
func TestKeyThatOthersMayRead(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, err := Open(dir, nil)
	must(t, err)
	must(t, s.Close())
	keys, err := filepath.Glob(filepath.Join(dir, filepath.FromSlash(uploadPath), keyName))
	if err != nil || len(keys) != 1 {
		t.Fatal(keys, err)
	}
	for _, mode := range []os.FileMode{0o644, 0o640, 0o602} {
		must(t, os.Chmod(keys[0], mode))
		if s, err := Open(dir, nil); !errors.Is(err, durable.ErrPermissions) {
			t.Errorf("mode %#o: %v, %v", mode, s, err)
		}
	}
	must(t, os.Chmod(keys[0], 0o400))
	s, err = Open(dir, nil)
	must(t, err)
	must(t, s.Close())
}
