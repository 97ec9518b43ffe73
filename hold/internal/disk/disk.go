// Package disk knows where a hold's data lie and opens them, for the server and for hold/datadir.
//
//	Dir/repo.db      the repository, unless it is in a database of PostgreSQL
//	Dir/hold.db      the tables of hold/internal/schema
//	Dir/blobs/       the layers, unless StoragePath names another folder
//	Dir/restore.json while a restore is under way, and for an hour after it
//
// The identity's files are those of package identity.
package disk

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/atcr-dev/atcr/internal/sqlx"
	"github.com/atcr-dev/atcr/repo/sqlstore"
	"github.com/atcr-dev/atcr/sqldb"
	"github.com/atcr-dev/atcr/sqldb/postgres"
	"github.com/atcr-dev/atcr/sqldb/sqlite"
	"github.com/atcr-dev/atcr/storage/filestore"
)

const (
	repoFile   = "repo.db"
	tablesFile = "hold.db"

	// Mapped is how much of the repository's file the server's readers map: at a million records a read is a third faster, and
	// stays within twice what it takes at a thousand (docs/performance.md). Programs that run once map nothing: mapped pages count
	// as resident.
	Mapped = 1 << 30
)

// Places are where the data of one hold lie.
type Places struct {
	Dir         string
	StoragePath string // empty: Dir/blobs
	DatabaseURL string // of the repository; empty: Dir/repo.db
	Clock       func() time.Time
	Log         *slog.Logger
}

// HasRepo reports whether there may be a repository: a file that isn't there holds none.
func (p Places) HasRepo() (bool, error) {
	if p.DatabaseURL != "" {
		return true, nil
	}
	_, err := os.Stat(filepath.Join(p.Dir, repoFile))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// OpenTables opens the database of the hold's tables, and migrates nothing.
func (p Places) OpenTables(ctx context.Context) (*sqlx.DB, error) {
	return sqlite.Open(ctx, filepath.Join(p.Dir, tablesFile))
}

// OpenStore opens where the repository lies: the database, or the file, of which mmap bytes are mapped.
func (p Places) OpenStore(ctx context.Context, mmap int64) (_ *sqlstore.Store, done func() error, err error) {
	var db *sqldb.DB
	if p.DatabaseURL == "" {
		db, err = sqlite.OpenWith(ctx, filepath.Join(p.Dir, repoFile), &sqlite.Options{Mmap: mmap})
	} else {
		db, err = postgres.Open(ctx, p.DatabaseURL)
	}
	if err != nil {
		return nil, nil, err
	}
	store, err := sqlstore.New(ctx, db)
	if err != nil {
		return nil, nil, errors.Join(err, db.Close())
	}
	return store, func() error { return errors.Join(store.Close(), db.Close()) }, nil
}

// OpenLayers opens the folder of the layers for reading and writing.
func (p Places) OpenLayers() (*filestore.Store, error) {
	return filestore.Open(p.LayersPath(), &filestore.Options{Log: p.Log, Clock: p.Clock})
}

// ReadLayers opens it for reading, also while another process writes to it.
func (p Places) ReadLayers() (*filestore.Reader, error) {
	return filestore.NewReader(p.LayersPath(), nil)
}

// LayersPath is the folder of the layers.
func (p Places) LayersPath() string {
	if p.StoragePath != "" {
		return p.StoragePath
	}
	return filepath.Join(p.Dir, "blobs")
}
