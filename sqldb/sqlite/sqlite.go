// Package sqlite opens a SQLite file as a [sqldb.DB], without cgo. It brings no other database driver.
package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"net/url"
	"path/filepath"
	"runtime"
	"time"

	"modernc.org/sqlite"

	"github.com/atcr-dev/atcr/internal/sqlx"
	"github.com/atcr-dev/atcr/sqldb"
)

// Options tune a database. The zero value is right for a server.
type Options struct {
	// Readers is the size of the reading pool; 0 is twice the processors, at least 8.
	Readers int
	// Cache is each connection's page cache in bytes; 0 is 2 MiB. Larger caches seldom pay (the system caches, too).
	Cache int64
	// Mmap is how much of the file each reader maps, in bytes; 0 is none. It makes reads of a large file a third faster, but
	// mapped pages count as resident memory, and an I/O error in one is a signal that ends the process.
	Mmap int64
	// BusyTimeout is how long a statement waits for another process's lock; 0 is 5 s.
	BusyTimeout time.Duration
}

// Open opens a database file, and makes it when it isn't there; its folder must be. It has a write-ahead log, so it must
// lie on a local disk, and a commit is on the disk when it returns (synchronous=FULL). A log left by a killed process is put into
// the database first. Other processes may read it meanwhile; who may write is the caller's to settle, by a lock on the folder.
func Open(ctx context.Context, path string) (*sqldb.DB, error) { return OpenWith(ctx, path, nil) }

// OpenWith is [Open] with options, which may be nil.
func OpenWith(ctx context.Context, path string, o *Options) (*sqldb.DB, error) {
	if o == nil {
		o = &Options{}
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("open database %s: %w", path, err)
	}
	write, err := pool(abs, writerPragmas(*o), "immediate", 1)
	if err != nil {
		return nil, fmt.Errorf("open database %s: %w", path, sqlx.Wrap(err))
	}
	if err := prepare(ctx, write); err != nil {
		write.Close()
		return nil, fmt.Errorf("open database %s: %w", path, sqlx.Wrap(err))
	}
	readers := o.Readers
	if readers <= 0 {
		readers = max(8, 2*runtime.GOMAXPROCS(0))
	}
	read, err := pool(abs, readerPragmas(*o), "deferred", readers)
	if err != nil {
		write.Close()
		return nil, fmt.Errorf("open database %s: %w", path, sqlx.Wrap(err))
	}
	return sqldb.New(write, read, sqldb.SQLite), nil
}

// prepare makes the log mode stick and empties what an earlier process left in the log.
func prepare(ctx context.Context, db *sql.DB) error {
	var mode string
	if err := db.QueryRowContext(ctx, "pragma journal_mode=wal").Scan(&mode); err != nil {
		return err
	}
	if mode != "wal" {
		return fmt.Errorf("the file system refuses a write-ahead log (mode %q): is it a network share?", mode)
	}
	_, err := db.ExecContext(ctx, "pragma wal_checkpoint(truncate)")
	return err
}

func common(o Options) []string {
	busy, cache := o.BusyTimeout, o.Cache
	if busy <= 0 {
		busy = 5 * time.Second
	}
	if cache <= 0 {
		cache = 2 << 20
	}
	return []string{
		fmt.Sprintf("busy_timeout(%d)", busy.Milliseconds()),
		"foreign_keys(1)",
		fmt.Sprintf("cache_size(-%d)", cache>>10),
	}
}

// The log is checkpointed by the writer each 1000 pages (measured best: a log that stays small is overwritten, not
// grown), and given back down to 16 MiB after a long reader or a bulk change made it large. What a statement of several rows
// needs to be undone stays in memory: otherwise it spills to a file once, and each page that such a statement changes is two
// writes more from then on. The setting is for temporary tables and sorts, too, of which the writer has none that grow: a migration
// that indexes a large table must put it back meanwhile.
func writerPragmas(o Options) []string {
	return append(common(o), "synchronous(FULL)", "temp_store(memory)", "wal_autocheckpoint(1000)",
		fmt.Sprintf("journal_size_limit(%d)", 16<<20))
}

func readerPragmas(o Options) []string {
	return append(common(o), "query_only(1)", fmt.Sprintf("mmap_size(%d)", max(0, o.Mmap)))
}

func pool(path string, pragmas []string, lock string, size int) (*sql.DB, error) {
	q := url.Values{"_pragma": pragmas, "_txlock": {lock}}
	conn, err := sqlite.NewConnector("file:" + (&url.URL{Path: path}).EscapedPath() + "?" + q.Encode())
	if err != nil {
		return nil, err
	}
	db := sql.OpenDB(conn)
	db.SetMaxOpenConns(size)
	db.SetMaxIdleConns(size)
	return db, nil
}
