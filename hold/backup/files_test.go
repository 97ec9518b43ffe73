package backup_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/atcr-dev/atcr/hold/backup"
)

// TestReadConfig: the configuration of a set is read, and not into memory without bound.
func TestReadConfig(t *testing.T) {
	t.Parallel()
	h, to := makeHold(t, 0), folder(t)
	for _, size := range []int{10, 1<<20 + 1} {
		_, o := keyPair(t)
		o.Config = bytes.Repeat([]byte("#"), size)
		m := h.create(to, o)
		text, set, err := backup.ReadConfig(t.Context(), to, m.Name, h.trust())
		if set != m.Name {
			t.Errorf("set %q, want %q", set, m.Name)
		}
		if size > 1<<20 {
			if !errors.Is(err, backup.ErrDamaged) || text != nil {
				t.Errorf("%d bytes: %d were read, %v", size, len(text), err)
			}
		} else if err != nil || !bytes.Equal(text, o.Config) {
			t.Errorf("%q, %v", text, err)
		}
	}
}
