// Package sqlite opens a SQLite file as a [sqldb.DB], without cgo.
package sqlite

import (
	"context"

	"github.com/atcr-dev/atcr/internal/sqlx/open"
	"github.com/atcr-dev/atcr/sqldb"
)

// Open opens a database file, and makes it when it isn't there; its folder must be. It has a write-ahead log, so it must
// lie on a local disk, and a commit is on the disk when it returns. A log left by a killed process is put into the
// database first. Other processes may read it meanwhile; who may write is the caller's to settle, by a lock on the folder.
func Open(ctx context.Context, path string) (*sqldb.DB, error) {
	return open.SQLite(ctx, path, nil)
}

// Options tune a database: readers, page cache, memory map. The zero value is right for a server.
type Options = open.Options

// OpenWith is [Open] with options, which may be nil.
func OpenWith(ctx context.Context, path string, o *Options) (*sqldb.DB, error) {
	return open.SQLite(ctx, path, o)
}
