package sqlstore

import (
	"context"
	"errors"

	"github.com/atcr-dev/atcr/internal/sqlx"
	"github.com/atcr-dev/atcr/repo"
)

// Store is a [repo.Store] in a SQL database. Safe for concurrent use.
type Store struct {
	db  *sqlx.DB
	own bool
}

var errTODO = errors.New("not built yet")

// New keeps the repository in the tables repo_… of a database that may hold other rooms' tables too; it migrates
// them. The database stays the caller's to close.
func New(ctx context.Context, db *sqlx.DB) (*Store, error) { return nil, errTODO }

// Open opens or makes a SQLite database file of its own. Close it after the [repo.Repo].
func Open(ctx context.Context, path string) (*Store, error) { return nil, errTODO }

// Close closes the statements, and the database if Open opened it.
func (s *Store) Close() error { return nil }

var _ = repo.ErrNotFound
