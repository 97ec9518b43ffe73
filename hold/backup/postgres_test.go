package backup_test

import (
	"errors"
	"path/filepath"
	"testing"

	"filippo.io/age"

	"github.com/atcr-dev/atcr/hold"
	"github.com/atcr-dev/atcr/hold/backup"
	"github.com/atcr-dev/atcr/hold/datadir"
	"github.com/atcr-dev/atcr/internal/realtest"
	"github.com/atcr-dev/atcr/sqldb"
)

// A hold whose tables are in PostgreSQL is backed up like any other, and comes back in another database, or in a folder.
func TestPostgres(t *testing.T) {
	server := realtest.Postgres(t)
	to := folder(t)
	key, o := keyPair(t)
	h := &made{t: t, cfg: config(filepath.Join(t.TempDir(), "hold"))}
	h.cfg.DB = server.Open(t)
	s, err := hold.New(t.Context(), h.cfg)
	must(t, err)
	must(t, s.Close())
	h.push(3)
	h.create(to, o)
	did, records, seq := state(t, h.cfg)
	ro := backup.RestoreOptions{Trust: h.trust(), Keys: []age.Identity{key}}
	for name, db := range map[string]*sqldb.DB{"another database": server.Open(t), "a folder": nil} {
		t.Run(name, func(t *testing.T) {
			cfg := config(filepath.Join(t.TempDir(), "new"))
			cfg.DB = db
			_, err := backup.Restore(t.Context(), to, "", dataDir(t, cfg), ro)
			must(t, err)
			same(t, cfg, did, records, seq, h.layers)
		})
	}
	t.Run("never served", func(t *testing.T) {
		h := &made{t: t, cfg: config(filepath.Join(t.TempDir(), "hold"))}
		h.cfg.DB = server.Open(t)
		h.push(1)
		if m := h.create(folder(t), o); m.Layers.Count != 1 {
			t.Errorf("layers %+v", m.Layers)
		}
	})
	t.Run("a database with another state", func(t *testing.T) {
		h.push(1)
		cfg := config(filepath.Join(t.TempDir(), "new"))
		cfg.DB = h.cfg.DB
		if _, err := backup.Restore(t.Context(), to, "", dataDir(t, cfg), ro); !errors.Is(err, datadir.ErrNotEmpty) {
			t.Errorf("%v", err)
		}
		if got, _, _ := state(t, h.cfg); got != did {
			t.Errorf("the database is that of %s", got)
		}
	})
}
