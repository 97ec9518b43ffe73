// Package disk knows where a hold's data lie and opens them, for the server and for hold/datadir.
//
//	Dir/repo.db      the repository, and
//	Dir/hold.db      the tables of hold/internal/schema, unless both are in a database that is given
//	Dir/blobs/       the layers, unless StoragePath names another folder
//	Dir/restore.json while a restore is under way, and for an hour after it
//
// The identity's files are those of package identity.
package disk

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/atcr-dev/atcr/hold/internal/schema"
	"github.com/atcr-dev/atcr/internal/sqlx/move"
	"github.com/atcr-dev/atcr/repo/sqlstore"
	"github.com/atcr-dev/atcr/sqldb"
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
	StoragePath string    // empty: Dir/blobs
	DB          *sqldb.DB // of every table; nil: Dir/repo.db and Dir/hold.db
	Clock       func() time.Time
	Log         *slog.Logger
}

// HasRepo reports whether there may be a repository: a file that isn't there holds none.
func (p Places) HasRepo() (bool, error) {
	if p.DB != nil {
		return true, nil
	}
	_, err := os.Stat(filepath.Join(p.Dir, repoFile))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// Shared reports whether other processes may write the repository beside the server.
func (p Places) Shared() bool { return p.DB != nil && p.DB.Dialect() == sqldb.Postgres }

// open opens a file that DB stands for; DB itself is the caller's and not closed by done.
func (p Places) open(ctx context.Context, file string, o *sqlite.Options) (db *sqldb.DB, done func() error, err error) {
	if p.DB != nil {
		return p.DB, func() error { return nil }, nil
	}
	if db, err = sqlite.OpenWith(ctx, filepath.Join(p.Dir, file), o); err != nil {
		return nil, nil, err
	}
	return db, db.Close, nil
}

// files are what DB stands for.
func (p Places) files() []move.File {
	return []move.File{
		{Path: filepath.Join(p.Dir, tablesFile), Prefixes: []string{"hold_"}, Migrate: schema.Migrate},
		{Path: filepath.Join(p.Dir, repoFile), Prefixes: []string{"repo_"}, Migrate: func(ctx context.Context, db *sqldb.DB) error {
			store, err := sqlstore.New(ctx, db)
			if err != nil {
				return err
			}
			return store.Close()
		}},
	}
}

// Move brings the rows of the files into DB, if there is one; the repository's only when that lies there, too. The caller has the
// folder's lock.
func (p Places) Move(ctx context.Context, withRepo bool) error {
	if p.DB == nil {
		return nil
	}
	files := p.files()
	if !withRepo {
		files = files[:1]
	}
	return move.Files(ctx, p.DB, files, p.Log)
}

// Moved refuses to work on DB while rows of a file are not in it: only the server moves them.
func (p Places) Moved(ctx context.Context) error {
	if p.DB == nil {
		return nil
	}
	for _, f := range p.files() {
		waiting, err := f.Waiting(ctx, p.DB)
		if err != nil {
			return err
		}
		if waiting {
			return fmt.Errorf("the rows of %s are not in the database yet: start the hold once", f.Path)
		}
	}
	return nil
}

// OpenTables opens the database of the hold's tables, and migrates nothing.
func (p Places) OpenTables(ctx context.Context) (db *sqldb.DB, done func() error, err error) {
	return p.open(ctx, tablesFile, nil)
}

// ReadTables opens it for reading; a nil db when the tables were not made yet, as where a repository was imported and no server has run.
func (p Places) ReadTables(ctx context.Context) (db *sqldb.DB, done func() error, err error) {
	if p.DB == nil { // opening a file creates it
		if _, err := os.Stat(filepath.Join(p.Dir, tablesFile)); errors.Is(err, fs.ErrNotExist) {
			return nil, func() error { return nil }, nil
		} else if err != nil {
			return nil, nil, err
		}
	}
	db, done, err = p.OpenTables(ctx)
	if err != nil {
		return nil, nil, err
	}
	made, err := schema.Made(ctx, db)
	if err != nil {
		return nil, nil, errors.Join(err, done())
	}
	if !made {
		db = nil
	}
	return db, done, nil
}

// OpenStore opens where the repository lies: the database, or the file, of which mmap bytes are mapped.
func (p Places) OpenStore(ctx context.Context, mmap int64) (*sqlstore.Store, func() error, error) {
	db, done, err := p.open(ctx, repoFile, &sqlite.Options{Mmap: mmap})
	if err != nil {
		return nil, nil, err
	}
	store, err := sqlstore.New(ctx, db)
	if err != nil {
		return nil, nil, errors.Join(err, done())
	}
	return store, func() error { return errors.Join(store.Close(), done()) }, nil
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
