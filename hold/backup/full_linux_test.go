package backup_test

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"filippo.io/age"

	"github.com/atcr-dev/atcr/hold"
	"github.com/atcr-dev/atcr/hold/backup"
	"github.com/atcr-dev/atcr/hold/datadir"
	"github.com/atcr-dev/atcr/internal/realtest"
	"github.com/atcr-dev/atcr/repo"
	"github.com/atcr-dev/atcr/storage"
)

// A target that is full gets no new set, keeps the old ones, and takes the next when there is room again.
func TestTargetFull(t *testing.T) {
	h := makeHold(t, 2)
	key, o := keyPair(t)
	disk := realtest.NewSmallDisk(t, 1<<20).Dir
	to, err := backup.OpenFolder(filepath.Join(disk, "target"))
	must(t, err)
	first := h.create(to, o)
	ballast := filepath.Join(disk, "ballast")
	f, err := os.Create(ballast)
	must(t, err)
	for err = nil; err == nil; {
		_, err = f.Write(make([]byte, 4096))
	}
	must(t, f.Close())
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("filling the disk: %v", err)
	}
	h.push(1)
	p := h.parts()
	if _, err := backup.Create(t.Context(), to, p, o); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("on a full disk: %v", err)
	}
	sets, err := backup.List(t.Context(), to)
	must(t, err)
	if len(sets) == 0 || sets[len(sets)-1].Name != first.Name {
		t.Errorf("sets %+v", sets)
	}
	for _, s := range sets {
		if s.Whole() != (s.Name == first.Name) {
			t.Errorf("set %s is whole: %v", s.Name, s.Whole())
		}
	}
	if _, err := backup.Verify(t.Context(), to, "", backup.VerifyOptions{Trust: h.trust(), Keys: []age.Identity{key}}); err != nil {
		t.Error(err)
	}
	must(t, os.Remove(ballast))
	if _, err := backup.Create(t.Context(), to, p, o); err != nil {
		t.Errorf("with room again: %v", err)
	}
	if _, err := backup.Verify(t.Context(), to, "", backup.VerifyOptions{Trust: h.trust(), Keys: []age.Identity{key}}); err != nil {
		t.Error(err)
	}
}

// A restore that runs out of room is called again when there is some.
func TestRestoreFull(t *testing.T) {
	h, to := makeHold(t, 40), folder(t)
	key, o := keyPair(t)
	h.create(to, o)
	did, records, seq := state(t, h.cfg)
	ro := backup.RestoreOptions{Trust: h.trust(), Keys: []age.Identity{key}}
	for what, c := range map[string]struct {
		size int64
		want error
	}{"layers": {300 << 10, storage.ErrNoSpace}, "database": {600 << 10, repo.ErrNoSpace}} {
		t.Run(what, func(t *testing.T) {
			cfg := config(filepath.Join(realtest.NewSmallDisk(t, c.size).Dir, "hold"))
			if _, err := backup.Restore(t.Context(), to, "", dataDir(t, cfg), ro); !errors.Is(err, c.want) {
				t.Fatalf("on a small disk: %v", err)
			}
			if s, err := hold.New(t.Context(), cfg); !errors.Is(err, datadir.ErrRestoreInProgress) {
				t.Errorf("a hold restored in part starts: %v, %v", s, err)
			}
			must(t, syscall.Mount("tmpfs", filepath.Dir(cfg.Dir), "tmpfs", syscall.MS_REMOUNT, "size=64m"))
			_, err := backup.Restore(t.Context(), to, "", dataDir(t, cfg), ro)
			must(t, err)
			same(t, cfg, did, records, seq, h.layers)
		})
	}
}
