package sqlstore

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/atcr-dev/atcr/internal/sqlx"
	"github.com/atcr-dev/atcr/repo"
	"github.com/atcr-dev/atcr/sqldb"
	"github.com/atcr-dev/atcr/sqldb/sqlite"
)

//go:embed migrations
var migrations embed.FS

// Store is a [repo.Store] in a SQL database. Safe for concurrent use.
type Store struct {
	db   *sqldb.DB
	own  bool
	read *statements
	mut  *statements // on the writing connection; both are nil on PostgreSQL

	update, settling time.Duration // limits on PostgreSQL: of an Update, and of finding out what became of it
}

// updateLimit is longer than a wait for the lock. The one writer calls without a deadline: a server that stands still, or a
// network that drops everything, must not hold it, and those who close it, for ever.
const updateLimit = 2 * time.Minute

// New keeps the repository in the tables repo_… of a database that may hold other packages' tables too; it migrates
// them. Packages sqldb/sqlite and sqldb/postgres open one. On PostgreSQL several processes may have the repository open and
// write it. The database stays the caller's to close, after the Store.
func New(ctx context.Context, db *sqldb.DB) (*Store, error) {
	s := &Store{db: db, update: updateLimit, settling: settleLimit}
	folder, err := fs.Sub(migrations, "migrations")
	if err == nil {
		err = sqlx.Migrate(ctx, db, folder, "repo_version")
	}
	if err == nil && db.Dialect() == sqldb.SQLite {
		s.read, err = newStatements(ctx, db.Read(), readQueries)
	}
	if err == nil && db.Dialect() == sqldb.SQLite {
		s.mut, err = newStatements(ctx, db.Write(), writeQueries)
	}
	if err != nil {
		return nil, fmt.Errorf("open repository tables: %w", kind(errors.Join(err, s.Close())))
	}
	return s, nil
}

// Open opens or makes a SQLite database file of its own. Close it after the [repo.Repo].
func Open(ctx context.Context, path string) (*Store, error) {
	db, err := sqlite.Open(ctx, path)
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

// Shared implements [repo.Store]: on PostgreSQL other processes may write the same repository.
func (s *Store) Shared() bool { return s.db.Dialect() == sqldb.Postgres }

// Read implements [repo.Store].
func (s *Store) Read(ctx context.Context) repo.Reader {
	if s.read != nil {
		return &reader{ctx: ctx, run: prepared{s.read, nil}}
	}
	return &reader{ctx: ctx, run: s.db.Read()}
}

// View implements [repo.Store].
func (s *Store) View(ctx context.Context, f func(repo.Reader) error) error {
	o := &sql.TxOptions{}
	if s.read == nil {
		o.Isolation, o.ReadOnly = sql.LevelRepeatableRead, true
	}
	tx, err := s.db.Read().BeginTx(ctx, o)
	if err != nil {
		return kind(fmt.Errorf("begin reading: %w", err))
	}
	defer tx.Rollback() //nolint:errcheck // nothing was written
	if s.read == nil {
		return kind(f(&reader{ctx: ctx, run: tx, cursors: &cursors{}}))
	}
	return kind(f(&reader{ctx: ctx, run: prepared{s.read, tx}}))
}

// Update implements [repo.Store].
func (s *Store) Update(ctx context.Context, f func(repo.Reader) (*repo.Changes, error)) error {
	if s.Shared() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, s.update)
		defer cancel()
	}
	return kind(s.change(ctx, func(w *writer) error {
		c, err := f(w.reader)
		if err != nil || c == nil {
			return err
		}
		return w.apply(c)
	}))
}

// Bulk implements [repo.Store].
func (s *Store) Bulk(ctx context.Context, f func(repo.Reader, func(*repo.Changes) error) error) error {
	return kind(s.change(ctx, func(w *writer) error {
		return f(w.reader, func(c *repo.Changes) error { return kind(w.apply(c)) })
	}))
}

// change runs f in a transaction that has the write lock.
func (s *Store) change(ctx context.Context, f func(*writer) error) error {
	if s.mut != nil { // SQLite locks at BEGIN
		return sqlx.InTx(ctx, s.db.Write(), func(tx *sql.Tx) error {
			return f(&writer{reader: &reader{ctx: ctx, run: prepared{s.mut, tx}}})
		})
	}
	conn, err := s.db.Write().Conn(ctx)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer conn.Close()  //nolint:errcheck // it goes back to the pool
	var made *repo.Head // that a commit is asked for
	err = sqlx.InTx(ctx, conn, func(tx *sql.Tx) error {
		w := &writer{reader: &reader{ctx: ctx, run: tx, cursors: &cursors{}}, batch: s.db.Batch(conn)}
		if err := w.lock(); err != nil {
			return err
		}
		if err := f(w); err != nil {
			return err
		}
		made = w.made
		return nil
	})
	if err != nil && s.db.Lost(conn) {
		return s.settle(ctx, made, err)
	}
	return err
}

// lock takes the row of the head, and in a new repository, which has none, the table.
func (w *writer) lock() error {
	h, err := w.readHead(qLock)
	if errors.Is(err, repo.ErrNotFound) {
		if _, err = w.run.ExecContext(w.ctx, `lock table repo_head in share row exclusive mode`); err == nil {
			h, err = w.readHead(qLock)
		}
		if errors.Is(err, repo.ErrNotFound) {
			return nil
		}
	}
	if err != nil {
		return fmt.Errorf("lock the head: %w", err)
	}
	w.head = &h
	return nil
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
