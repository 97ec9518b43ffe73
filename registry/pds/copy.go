package pds

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/atcr-dev/atcr"
	"github.com/atcr-dev/atcr/internal/httpx"
	"github.com/atcr-dev/atcr/internal/sqlx"
	"github.com/atcr-dev/atcr/registry"
)

const (
	freshFor       = 60 * time.Second // how long the copy is believed unasked
	failureFor     = 5 * time.Second  // how long a silent server is not asked again
	listsPerClient = 16               // listings that one client has begun at once, each with a page of 16 MiB at most
	listWithin     = 5 * time.Minute  // how long one run of a listing may take
	waitForOwn     = 3 * time.Second  // how long a reader waits for a writer of the same owner
	patience       = 5 * time.Second  // how long a PDS may take to confirm a copy that there is
)

// view is what an answer from the copy rests on: the owner, and a warning when it may be old.
type view struct {
	owner
	Warning string
}

// read makes sure that the copy of an owner may be answered from: it is at most a minute old, or has just been confirmed or
// listed anew, or the PDS is silent and the copy not too old, which the view then says.
func (b *Backend) read(ctx context.Context, o owner) (view, error) {
	v := view{owner: o}
	row, err := readOwner(ctx, b.reads, o.DID)
	if err != nil {
		return v, err
	}
	now := b.clock()
	if !o.staleName.IsZero() {
		return b.stale(ctx, v, row, o.cause)
	}
	if row.Complete && now.Sub(time.Unix(row.Checked, 0)) < freshFor {
		return v, nil
	}
	if err := row.refusal(now); err != nil {
		return v, err
	}
	if err, ok := b.silent.Get(o.DID, now); ok {
		return b.stale(ctx, v, row, err)
	}
	if err := pay(ctx); err != nil {
		return v, err
	}
	// The work outlives a reader who goes away only for others who wait; the next goes on where it stopped.
	_, err = b.flight.Do(ctx, o.DID, listWithin, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, b.refreshForReaders(ctx, o)
	})
	if ctx.Err() != nil {
		return v, ctx.Err()
	}
	if err == nil {
		return v, nil
	}
	if row, rerr := readOwner(ctx, b.db.Read(), o.DID); rerr == nil {
		return b.stale(ctx, v, row, err)
	}
	return v, err
}

// stale returns from what is known when err says that the PDS does not answer.
func (b *Backend) stale(ctx context.Context, v view, row ownerRow, err error) (view, error) {
	if errors.Is(err, errRepoGone) {
		return v, registry.ErrNameUnknown.With("the PDS %s has no such account any more", v.PDS).Wrap(err)
	}
	if !errors.Is(err, registry.ErrUnavailable) && !errors.Is(err, registry.ErrTooManyRequests) &&
		!errors.Is(err, httpx.ErrForbiddenAddress) {
		return v, err
	}
	checked := time.Unix(row.Checked, 0)
	if !row.Complete || b.clock().Sub(checked) > b.serveStale {
		return v, err
	}
	b.lister.room.touch(ctx, row, b.clock())
	v.Warning = fmt.Sprintf("as of %s; the owner's PDS does not answer", checked.UTC().Format(time.RFC3339))
	return v, nil
}

// doubtful is the time of a check that has just stopped to count. While the PDS is silent it still tells how old the copy is.
func (b *Backend) doubtful() int64 { return b.clock().Add(-freshFor).Unix() }

// doubt has the copy confirmed before it is used again.
func (b *Backend) doubt(ctx context.Context, owner string) {
	_, err := b.db.Write().ExecContext(ctx, `update pds_owner set checked = $2 where did = $1 and checked > $2`, owner, b.doubtful())
	if err != nil {
		b.log.Warn("a copy could not be marked for checking", "did", owner, "err", err)
	}
}

// refreshForReaders confirms the copy or lists anew, unless a writer of the same owner takes long: it will leave the
// copy true.
func (b *Backend) refreshForReaders(ctx context.Context, o owner) error {
	wait, cancel := context.WithTimeout(ctx, waitForOwn)
	defer cancel()
	release, err := b.locks.Lock(wait, o.DID)
	if err != nil {
		return registry.ErrUnavailable.With("a write to this account is under way: try again").Wrap(err)
	}
	defer release()
	row, err := readOwner(ctx, b.db.Read(), o.DID)
	if err != nil {
		return err
	}
	if row.Complete && b.clock().Sub(time.Unix(row.Checked, 0)) < freshFor {
		return nil
	}
	if _, err := b.refresh(ctx, o, row); err != nil {
		b.noteSilence(ctx, o.DID, err)
		return err
	}
	return nil
}

// noteSilence remembers that an owner's PDS failed, so that the next who ask need not wait for it.
func (b *Backend) noteSilence(ctx context.Context, did string, err error) {
	if errors.Is(ctx.Err(), context.Canceled) || errors.Is(err, httpx.ErrNoPlace) {
		return // nobody waits any more, or there was no room here, which say nothing of the PDS
	}
	if errors.Is(err, registry.ErrUnavailable) || errors.Is(err, registry.ErrTooManyRequests) || errors.Is(err, errRepoGone) {
		b.silent.Put(did, err, b.clock().Add(failureFor))
	}
}

// refresh asks the PDS whether the copy still holds, and lists the records when it doesn't. The caller has the owner's lock.
// Errors are those of [lister.list], too.
func (b *Backend) refresh(ctx context.Context, o owner, row ownerRow) (ownerRow, error) {
	if err := row.refusal(b.clock()); err != nil {
		return row, err
	}
	p := b.servers.of(o)
	ask, cancel := ctx, context.CancelFunc(func() {})
	if row.Complete { // there is an answer to give in the place of a slow one
		ask, cancel = context.WithTimeout(ctx, patience)
	}
	head, err := p.latestCommit(ask, o.DID)
	cancel()
	if err != nil {
		return row, err
	}
	now := b.clock().Unix()
	if row.Complete && row.Rev == head.Rev && row.ListCollection == "" {
		row.Checked, row.Head, row.Touched = now, head.CID, now
		return row, saveOwner(ctx, b.db, row)
	}
	if row.ListCollection == "" {
		row.ListCollection, row.ListCursor, row.ListRev, row.ListHead = atcr.NSIDManifest, "", head.Rev, head.CID
		row.ListRecords, row.Refused, row.RefusedAt = 0, "", 0 // ListBytes stays: one that listLayers begins anew has written some
		if row.LayerBytes, err = b.lister.countLayers(ctx, o.DID); err != nil {
			return row, err
		}
	}
	return b.lister.list(ctx, o, row, now)
}

func saveOwner(ctx context.Context, db *sqlx.DB, row ownerRow) error {
	err := sqlx.InTx(ctx, db.Write(), func(tx *sql.Tx) error { return writeOwner(ctx, tx, row) })
	if err != nil {
		return fmt.Errorf("write the copy of %s: %w", row.DID, err)
	}
	return nil
}

// servers makes clients of owners' PDSes, which ask without signing in.
type servers struct {
	http  *http.Client // follows no redirects
	clock func() time.Time
}

func (s servers) of(o owner) pds { return pds{base: o.PDS, did: o.DID, http: s.http, clock: s.clock} }
