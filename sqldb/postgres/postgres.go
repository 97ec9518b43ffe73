// Package postgres opens a PostgreSQL database as a [sqldb.DB], by the driver jackc/pgx. It brings no other database driver.
package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/atcr-dev/atcr/internal/sqlx"
	"github.com/atcr-dev/atcr/sqldb"
)

// Options tune a database. The zero value is right for a server.
type Options struct {
	// Readers is the most connections for reading; 0 is twice the processors, at least 8.
	Readers int
	// Writers is the most connections for writing; 0 is 4.
	Writers int
	// LockTimeout is how long a statement waits for a lock, as for another process that writes; 0 is 30 s.
	LockTimeout time.Duration
}

const (
	connectTimeout = 10 * time.Second
	idleConnection = 5 * time.Minute
	oldConnection  = time.Hour // so that a moved server is found
	idleInWriting  = time.Minute
)

// ErrURL: the address of a database is none. The text never shows it, since it may hold a password.
var ErrURL = errors.New("this is no address of a PostgreSQL database: write postgres://user:password@host/database")

func parseURL(address string) (*pgx.ConnConfig, error) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql" {
		return nil, ErrURL
	}
	if u.User == nil && strings.Contains(address, "@") { // a part of the password is taken for host or database, which errors name
		return nil, fmt.Errorf("%w, with / ? # and @ of the password as %%2F %%3F %%23 %%40", ErrURL)
	}
	c, err := pgx.ParseConfig(address)
	if err != nil {
		return nil, ErrURL
	}
	if c.ConnectTimeout == 0 {
		c.ConnectTimeout = connectTimeout
	}
	return c, nil
}

// Open opens the database at an address, postgres://user:password@host:port/database?sslmode=…, with the parameters of
// libpq (and its environment variables and password file for what the address leaves out), and asks it once. Connections are
// made as they are needed, at most those of [Options]; each attempt ends after 10 s unless connect_timeout says otherwise.
// A commit is on the server's disk when it returns (synchronous_commit is on unless the address says otherwise). Transactions of
// Read see one state and refuse to write; those of Write are read committed. Packages make their tables in the schema that
// search_path names first. An error never shows the password: [ErrURL] when the address is none.
func Open(ctx context.Context, address string) (*sqldb.DB, error) { return OpenWith(ctx, address, nil) }

// OpenWith is [Open] with options, which may be nil.
func OpenWith(ctx context.Context, address string, o *Options) (*sqldb.DB, error) {
	if o == nil {
		o = &Options{}
	}
	c, err := parseURL(address)
	if err != nil {
		return nil, err
	}
	where := fmt.Sprintf("database %s at %s", c.Database, c.Host)
	lock := o.LockTimeout
	if lock <= 0 {
		lock = 30 * time.Second
	}
	writers := o.Writers
	if writers <= 0 {
		writers = 4
	}
	readers := o.Readers
	if readers <= 0 {
		readers = max(8, 2*runtime.GOMAXPROCS(0))
	}
	milliseconds := func(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }
	common := map[string]string{"application_name": "atcr", "timezone": "UTC", "lock_timeout": milliseconds(lock)}
	write := pool(c, writers, false, common, map[string]string{
		"synchronous_commit":                  "on",
		"idle_in_transaction_session_timeout": milliseconds(idleInWriting), // a client that vanished holds its locks no longer
	})
	read := pool(c, readers, true, common, map[string]string{
		"default_transaction_read_only": "on", "default_transaction_isolation": "repeatable read",
	})
	db := New(write, read)
	if err := write.PingContext(ctx); err != nil {
		return nil, fmt.Errorf("open %s: %w", where, errors.Join(sqlx.Wrap(err), db.Close()))
	}
	return db, nil
}

// pool makes a pool; what the address sets goes before our own parameters.
func pool(c *pgx.ConnConfig, size int, reads bool, params ...map[string]string) *sql.DB {
	c = c.Copy()
	for _, more := range params {
		for k, v := range more {
			if _, ok := c.RuntimeParams[k]; !ok {
				c.RuntimeParams[k] = v
			}
		}
	}
	db := sql.OpenDB(newConnector(c, reads))
	db.SetMaxOpenConns(size)
	db.SetMaxIdleConns(size)
	db.SetConnMaxIdleTime(idleConnection)
	db.SetConnMaxLifetime(oldConnection)
	return db
}

// New joins two pools of jackc/pgx's database/sql driver (package stdlib) into a DB, whose Close closes both. They should be two,
// since a transaction in one may need a connection of the other, and what [Open] says of transactions should hold for them.
func New(write, read *sql.DB) *sqldb.DB {
	return sqldb.NewWith(write, read, sqldb.Postgres, sqldb.Hooks{Batch: newBatch, Lost: lost})
}
