// Package ledger knows which layers of a hold are whose, and what must be kept.
//
//	l, err := ledger.Open(ctx, ledger.Options{DB: db, Repo: repository, …})
//	err = l.Take(ctx, did, "app", blobs)                   // leases: nothing they name is collected before its manifest is known
//	n, err := l.Record(ctx, manifest, layers)              // layer records in the hold's repository; the leases end
//	blobs, bytes, err := l.Usage(ctx, did)
//	live, err := l.Live(ctx, d)                            // a record or a lease names it
//	n, err = l.Remove(ctx, manifest, uris)
//
// Layer records are records of the hold's repository, one for each (owner, manifest, layer). The table hold_layer is an index of
// them, rebuilt whenever it may be behind: after a crash, and after another process wrote to the repository. What decides about a
// write is checked under the repository's own lock, so that nobody comes between.
//
// The tables are hold_layer, hold_lease, hold_manifest, hold_counted and hold_meta (hold/internal/schema). Who may do what, and what
// stands at an owner's PDS, is the caller's to know.
package ledger

import (
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/atcr-dev/atcr/internal/crashpoint"
	"github.com/atcr-dev/atcr/internal/sqlx"
	"github.com/atcr-dev/atcr/repo"
)

// Options of [Open]. All but Crash are required.
type Options struct {
	DB    *sqlx.DB
	Repo  *repo.Repo
	Clock func() time.Time
	Log   *slog.Logger
	Crash crashpoint.Hook
}

// Ledger is a hold's. All methods are safe for concurrent use.
type Ledger struct {
	db    *sqlx.DB
	repo  *repo.Repo
	clock func() time.Time
	log   *slog.Logger
	crash crashpoint.Hook

	settleWait time.Duration // for one user

	mu     sync.Mutex // writes of layer records and their index
	behind bool       // the index lacks something and is to be rebuilt
	as     uint64     // Foreign of the repository as the index has it
}

// Manifest is a manifest of somebody's at this hold.
type Manifest struct {
	DID        string
	Repository string
	Digest     digest.Digest
	URI        string // at-uri of its record; only Record needs it
}

// Blob is a blob at this hold.
type Blob struct {
	Digest digest.Digest `json:"digest"`
	Size   int64         `json:"size"`
}

// Open compares the index with the repository. Each commit of layer records leaves its revision in the index, a clean end the
// head's; anything else costs one reading of the collection.
func Open(ctx context.Context, o Options) (*Ledger, error) {
	l := &Ledger{db: o.DB, repo: o.Repo, clock: o.Clock, log: o.Log, crash: o.Crash, settleWait: settleWait}
	return l, l.align(ctx)
}

func (l *Ledger) reach(point string) { _ = l.crash.Reach(point) }

// SetMeta keeps a value under a name.
func (l *Ledger) SetMeta(ctx context.Context, name, value string) error {
	return sqlx.InTx(ctx, l.db.Write(), func(tx *sql.Tx) error { return setMeta(ctx, tx, name, value) })
}

// Meta returns the value of a name, empty if there is none.
func (l *Ledger) Meta(ctx context.Context, name string) (value string, err error) {
	err = l.db.Read().QueryRowContext(ctx, `select value from hold_meta where name = $1`, name).Scan(&value)
	if errors.Is(err, sql.ErrNoRows) {
		return "", nil
	}
	return value, sqlx.Wrap(err)
}

func setMeta(ctx context.Context, tx *sql.Tx, name, value string) error {
	_, err := tx.ExecContext(ctx, `insert into hold_meta (name, value) values ($1, $2)
		on conflict (name) do update set value = $2`, name, value)
	return err
}
