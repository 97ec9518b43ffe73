// Package sqlite opens a SQLite file as a [sqldb.DB], without cgo.
package sqlite

import (
	"context"
	"time"

	"github.com/atcr-dev/atcr/internal/sqlx/open"
	"github.com/atcr-dev/atcr/sqldb"
)

// Open opens a database file, and makes it when it isn't there; its folder must be. It has a write-ahead log, so it must
// lie on a local disk, and a commit is on the disk when it returns. A log left by a killed process is put into the
// database first. Other processes may read it meanwhile; who may write is the caller's to settle, by a lock on the folder.
func Open(ctx context.Context, path string) (*sqldb.DB, error) {
	return open.SQLite(ctx, path, nil)
}

// Options tune a database. The zero value is right for a server.
type Options struct {
	// Readers is the size of the reading pool; 0 is twice the processors, at least 4.
	Readers int
	// Cache is each connection's page cache in bytes; 0 is 2 MiB. Larger caches seldom pay (the system caches, too).
	Cache int64
	// Mmap is how much of the file each reader maps, in bytes; 0 is none. It makes reads of a large file a third faster, but
	// mapped pages count as resident memory, and an I/O error in one is a signal that ends the process.
	Mmap int64
	// BusyTimeout is how long a statement waits for another process's lock; 0 is 5 s.
	BusyTimeout time.Duration
}

// OpenWith is [Open] with options, which may be nil.
func OpenWith(ctx context.Context, path string, o *Options) (*sqldb.DB, error) {
	return open.SQLite(ctx, path, (*open.Options)(o))
}
