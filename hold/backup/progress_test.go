package backup_test

import (
	"testing"

	"filippo.io/age"

	"github.com/atcr-dev/atcr/hold/backup"
)

// watch checks that progress of layers goes up to its total and not beyond.
type watch struct {
	t           *testing.T
	done, total int64
}

func (w *watch) see(what string, done, total int64) {
	if what != "layers" {
		return
	}
	if done < w.done || done > total || w.total != 0 && total != w.total {
		w.t.Errorf("%d of %d after %d of %d", done, total, w.done, w.total)
	}
	w.done, w.total = done, total
}

func (w *watch) ended(want int64) {
	w.t.Helper()
	if w.done != want || w.total != want {
		w.t.Errorf("it ended at %d of %d, want %d", w.done, w.total, want)
	}
	w.done, w.total = 0, 0
}

// TestProgress: each byte of a layer counts once, whether it is copied, was there already, or is only read.
func TestProgress(t *testing.T) {
	h := makeHold(t, 5)
	key, o := keyPair(t)
	to := folder(t)
	w := &watch{t: t}
	o.Progress = w.see
	m := h.create(to, o)
	w.ended(m.Layers.Bytes)
	h.create(to, o) // nothing is copied
	w.ended(0)
	keys := []age.Identity{key}
	for _, quick := range []bool{false, true} {
		_, err := backup.Verify(t.Context(), to, "", backup.VerifyOptions{Trust: h.trust(), Keys: keys, Quick: quick, Progress: w.see})
		must(t, err)
		w.ended(m.Layers.Bytes)
	}
	again := dataDir(t, config(t.TempDir()))
	_, err := backup.Restore(t.Context(), to, "", again, backup.RestoreOptions{Trust: h.trust(), Keys: keys, DryRun: true, Progress: w.see})
	must(t, err)
	w.ended(0)
	_, err = backup.Restore(t.Context(), to, "", again, backup.RestoreOptions{Trust: h.trust(), Keys: keys, Progress: w.see})
	must(t, err)
	w.ended(m.Layers.Bytes)
}
