// Package postgres opens a PostgreSQL database as a [sqldb.DB].
package postgres

import (
	"context"
	"time"

	"github.com/atcr-dev/atcr/internal/sqlx/open"
	"github.com/atcr-dev/atcr/sqldb"
)

// Open opens the database at an address, postgres://user:password@host:port/database?sslmode=…, with the parameters of
// libpq (and its environment variables and password file for what the address leaves out), and asks it once. Connections are
// made as they are needed, at most those of [Options]; each attempt ends after 10 s unless connect_timeout says otherwise.
// A commit is on the server's disk when it returns. Rooms make their tables in the schema that search_path names first.
// An error never shows the password.
func Open(ctx context.Context, address string) (*sqldb.DB, error) {
	return open.Postgres(ctx, address, nil)
}

// Options tune a database. The zero value is right for a server.
type Options struct {
	// Readers is the most connections for reading; 0 is twice the processors, at least 4.
	Readers int
	// Writers is the most connections for writing; 0 is 4.
	Writers int
	// LockTimeout is how long a statement waits for a lock, as for another process that writes; 0 is 30 s.
	LockTimeout time.Duration
}

// OpenWith is [Open] with options, which may be nil.
func OpenWith(ctx context.Context, address string, o *Options) (*sqldb.DB, error) {
	return open.Postgres(ctx, address, (*open.PostgresOptions)(o))
}
