package sqlstore

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"

	"github.com/atcr-dev/atcr/internal/sqlx"
	"github.com/atcr-dev/atcr/internal/sqlx/open"
	"github.com/atcr-dev/atcr/repo"
	"github.com/atcr-dev/atcr/sqldb"
)

//go:embed migrations
var migrations embed.FS

// Store is a [repo.Store] in a SQL database. Safe for concurrent use.
type Store struct {
	db   *sqldb.DB
	own  bool
	read *statements
	mut  *statements // on the writing connection
}

// New keeps the repository in the tables repo_… of a database that may hold other rooms' tables too; it migrates
// them. Package sqldb/sqlite opens one. The database stays the caller's to close, after the Store.
func New(ctx context.Context, db *sqldb.DB) (*Store, error) {
	s := &Store{db: db}
	folder, err := fs.Sub(migrations, "migrations")
	if err == nil {
		err = sqlx.Migrate(ctx, db, folder, "repo_version")
	}
	if err == nil {
		s.read, err = newStatements(ctx, db.Read(), readQueries)
	}
	if err == nil {
		s.mut, err = newStatements(ctx, db.Write(), writeQueries)
	}
	if err != nil {
		return nil, fmt.Errorf("open repository tables: %w", kind(errors.Join(err, s.Close())))
	}
	return s, nil
}

// Open opens or makes a SQLite database file of its own. Close it after the [repo.Repo].
func Open(ctx context.Context, path string) (*Store, error) {
	db, err := open.SQLite(ctx, path, nil)
	if err != nil {
		return nil, kind(err)
	}
	s, err := New(ctx, db)
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	s.own = true
	return s, nil
}

// Close closes the statements, and the database if Open opened it.
func (s *Store) Close() error {
	var err error
	for _, st := range []*statements{s.read, s.mut} {
		if st != nil {
			err = errors.Join(err, st.close())
		}
	}
	if s.own {
		err = errors.Join(err, s.db.Close())
	}
	return err
}

// Read implements [repo.Store].
func (s *Store) Read(ctx context.Context) repo.Reader { return &reader{ctx: ctx, st: s.read} }

// View implements [repo.Store].
func (s *Store) View(ctx context.Context, f func(repo.Reader) error) error {
	tx, err := s.db.Read().BeginTx(ctx, nil)
	if err != nil {
		return kind(fmt.Errorf("begin reading: %w", err))
	}
	defer tx.Rollback() //nolint:errcheck // nothing was written
	return kind(f(&reader{ctx: ctx, st: s.read, tx: tx}))
}

// Update implements [repo.Store].
func (s *Store) Update(ctx context.Context, f func(repo.Reader) (*repo.Changes, error)) error {
	return kind(sqlx.InTx(ctx, s.db.Write(), func(tx *sql.Tx) error {
		c, err := f(&reader{ctx: ctx, st: s.mut, tx: tx})
		if err != nil || c == nil {
			return err
		}
		w := writer{ctx: ctx, st: s.mut, tx: tx}
		return w.apply(c)
	}))
}

// Bulk implements [repo.Store].
func (s *Store) Bulk(ctx context.Context, f func(repo.Reader, func(*repo.Changes) error) error) error {
	return kind(sqlx.InTx(ctx, s.db.Write(), func(tx *sql.Tx) error {
		return f(&reader{ctx: ctx, st: s.mut, tx: tx}, func(c *repo.Changes) error {
			w := writer{ctx: ctx, st: s.mut, tx: tx}
			return kind(w.apply(c))
		})
	}))
}

// kind turns kinds of database errors into the repository's.
func kind(err error) error {
	switch err = sqlx.Wrap(err); {
	case err == nil:
		return nil
	case errors.Is(err, sqlx.ErrNoSpace) && !errors.Is(err, repo.ErrNoSpace):
		return fmt.Errorf("%w: %w", repo.ErrNoSpace, err)
	case errors.Is(err, sqlx.ErrBusy) && !errors.Is(err, repo.ErrBusy):
		return fmt.Errorf("%w: %w", repo.ErrBusy, err)
	case errors.Is(err, sqlx.ErrCorrupt) && !errors.Is(err, repo.ErrCorrupt):
		return fmt.Errorf("%w: %w", repo.ErrCorrupt, err)
	}
	return err
}
