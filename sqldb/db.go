package sqldb

import (
	"database/sql"
	"errors"
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
	hooks       Hooks
}

// New joins two pools into a DB, whose Close closes both. For SQLite they are two pools of one file with a write-ahead log,
// synchronous=FULL and foreign keys on: write is limited to one connection that takes the write lock at BEGIN, read may have many;
// package sqldb/sqlite opens them so. For PostgreSQL they should be two, since a transaction in one may need a connection of the
// other; package sqldb/postgres opens them, or joins those of the driver jackc/pgx, and sets [Hooks], which New leaves out.
func New(write, read *sql.DB, dialect Dialect) *DB {
	return NewWith(write, read, dialect, Hooks{})
}

// NewWith is [New] with what the driver does beyond database/sql.
func NewWith(write, read *sql.DB, dialect Dialect, hooks Hooks) *DB {
	return &DB{write: write, read: read, dialect: dialect, hooks: hooks}
}

// Write is the pool for transactions that write and for migrations: with SQLite, a single connection whose transactions
// take the write lock at BEGIN.
func (d *DB) Write() *sql.DB { return d.write }

// Read is the pool for reading; its connections refuse to write. A transaction in it sees one state from its
// first read on.
func (d *DB) Read() *sql.DB { return d.read }

// Dialect returns what kind of database it is.
func (d *DB) Dialect() Dialect { return d.dialect }

// Close closes both pools. Close what was given the database before, else SQLite leaves its log beside the file.
func (d *DB) Close() error {
	err := d.read.Close()
	if d.write != d.read {
		err = errors.Join(err, d.write.Close())
	}
	return err
}
