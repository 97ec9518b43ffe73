package open

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"runtime"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/atcr-dev/atcr/internal/sqlx"
	"github.com/atcr-dev/atcr/sqldb"
)

// PostgresOptions tune the pools of a PostgreSQL database. The zero value, and nil, are right for a server.
type PostgresOptions struct {
	// Readers is the most connections for reading; 0 is twice the processors, at least 4.
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

// ErrPostgresURL: the address of a database is none. The text never shows it, since it may hold a password.
var ErrPostgresURL = errors.New("this is no address of a PostgreSQL database: write postgres://user:password@host/database")

// CheckPostgresURL tells whether an address can be one, without asking anybody.
func CheckPostgresURL(address string) error {
	_, err := postgresConfig(address)
	return err
}

func postgresConfig(address string) (*pgx.ConnConfig, error) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql" {
		return nil, ErrPostgresURL
	}
	c, err := pgx.ParseConfig(address)
	if err != nil {
		return nil, ErrPostgresURL
	}
	if c.ConnectTimeout == 0 {
		c.ConnectTimeout = connectTimeout
	}
	return c, nil
}

// Postgres opens a database at an address (postgres://user:password@host:port/database?…, with the parameters of libpq) and asks it
// once. Commits are on the disk when they return (synchronous_commit is on unless the address says otherwise). Transactions of Read
// see one state and refuse to write; those of Write are read committed. Errors never show the password.
func Postgres(ctx context.Context, address string, o *PostgresOptions) (*sqldb.DB, error) {
	if o == nil {
		o = &PostgresOptions{}
	}
	c, err := postgresConfig(address)
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
		readers = max(4, 2*runtime.GOMAXPROCS(0))
	}
	milliseconds := func(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }
	common := map[string]string{"application_name": "atcr", "timezone": "UTC", "lock_timeout": milliseconds(lock)}
	write := postgresPool(c, writers, common, map[string]string{
		"synchronous_commit":                  "on",
		"idle_in_transaction_session_timeout": milliseconds(idleInWriting), // a client that vanished holds its locks no longer
	})
	read := postgresPool(c, readers, common, map[string]string{
		"default_transaction_read_only": "on", "default_transaction_isolation": "repeatable read",
	})
	db := sqldb.New(write, read, sqldb.Postgres)
	if err := write.PingContext(ctx); err != nil {
		return nil, fmt.Errorf("open %s: %w", where, errors.Join(sqlx.Wrap(err), db.Close()))
	}
	return db, nil
}

// postgresPool makes a pool; what the address sets goes before our own parameters.
func postgresPool(c *pgx.ConnConfig, size int, params ...map[string]string) *sql.DB {
	c = c.Copy()
	for _, more := range params {
		for k, v := range more {
			if _, ok := c.RuntimeParams[k]; !ok {
				c.RuntimeParams[k] = v
			}
		}
	}
	db := stdlib.OpenDB(*c)
	db.SetMaxOpenConns(size)
	db.SetMaxIdleConns(size)
	db.SetConnMaxIdleTime(idleConnection)
	db.SetConnMaxLifetime(oldConnection)
	return db
}
