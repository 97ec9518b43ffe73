package sqlx

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// Dialect is the kind of database.
type Dialect string

// The dialects.
const (
	SQLite   Dialect = "sqlite"
	Postgres Dialect = "postgres"
)

// DB is a database: a pool for writing and one for reading. Safe for concurrent use.
type DB struct {
	write, read *sql.DB
	dialect     Dialect
}

// New joins two pools into a DB. For SQLite write must be limited to one connection; for PostgreSQL both may be the
// same pool. Close closes both.
func New(write, read *sql.DB, dialect Dialect) *DB {
	return &DB{write: write, read: read, dialect: dialect}
}

// Write is the pool for transactions that write and for migrations: with SQLite, a single connection whose transactions
// take the write lock at BEGIN.
func (d *DB) Write() *sql.DB { return d.write }

// Read is the pool for reading; with SQLite its connections refuse to write. A transaction in it sees one state from its
// first read on.
func (d *DB) Read() *sql.DB { return d.read }

// Dialect tells what kind of database it is.
func (d *DB) Dialect() Dialect { return d.dialect }

// Close closes both pools. Prepared statements must be closed before, else SQLite leaves its log beside the database.
func (d *DB) Close() error {
	err := d.read.Close()
	if d.write != d.read {
		err = errors.Join(err, d.write.Close())
	}
	return err
}

// Beginner starts transactions: a *sql.DB or a *sql.Conn.
type Beginner interface {
	BeginTx(context.Context, *sql.TxOptions) (*sql.Tx, error)
}

// InTx runs f in a transaction: committed when f answers nil, else rolled back and f's error returned. Errors are
// given their kind by [Wrap].
func InTx(ctx context.Context, db Beginner, f func(*sql.Tx) error) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("begin: %w", Wrap(err))
	}
	defer tx.Rollback() //nolint:errcheck // after a commit it does nothing
	if err := f(tx); err != nil {
		return Wrap(err)
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("commit: %w", Wrap(err))
	}
	return nil
}
