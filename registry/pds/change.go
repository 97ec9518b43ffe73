package pds

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/atcr-dev/atcr"
	"github.com/atcr-dev/atcr/internal/crashpoint"
	"github.com/atcr-dev/atcr/internal/sqlx"
	"github.com/atcr-dev/atcr/registry"
	"github.com/atcr-dev/atcr/registry/pds/internal/background"
)

const (
	maxWrites   = 190 // of one applyWrites; PDSes take 200
	maxAttempts = 5
)

// planned is one write and what it does to the copy.
type planned struct {
	write
	manifest *manifestRow // of a manifest that is created or updated
	tag      *tagRow      // of a tag that is created or updated
}

// planFunc says what is to be written, from the copy as it is now; nothing when all is as it should be. After an
// attempt that failed retry is true: then it asks the PDS whether what it creates is there in a form that the copy leaves out.
type planFunc func(ctx context.Context, retry bool) ([]planned, error)

// change brings an owner's records to what plan wants, in one commit as long as maxWrites suffice. Each commit is
// guarded by the head that the copy was true at, so that a plan is made anew, from a copy made anew, when somebody else wrote
// or when nobody knows whether a commit took place: one that did leaves the next plan nothing to do.
//
// The caller has the owner's lock. With an error, unknown tells that something may have been or may still be committed.
func (b *Backend) change(ctx context.Context, o owner, session string, plan planFunc) (unknown bool, err error) {
	row, err := readOwner(ctx, b.db.Read(), o.DID)
	if err != nil {
		return false, err
	}
	if !row.Complete || row.ListCollection != "" || b.clock().Sub(time.Unix(row.Checked, 0)) >= freshFor {
		if row, err = b.refresh(ctx, o, row); err != nil {
			return false, goneOr(err)
		}
	}
	for attempt := 0; ; {
		writes, err := plan(ctx, attempt > 0)
		if err != nil || len(writes) == 0 {
			return unknown, err
		}
		err = b.commitBatch(ctx, o, session, &row, writes[:min(len(writes), maxWrites)])
		if err == nil {
			continue // what is left, if anything
		}
		swapped, lost := errors.Is(err, errInvalidSwap), errors.Is(err, errUnknownOutcome)
		unknown = unknown || lost
		refused := attempt == 0 && errors.Is(err, registry.ErrManifestInvalid)
		if !swapped && !lost && !refused {
			return unknown, goneOr(err)
		}
		if attempt++; attempt >= maxAttempts {
			if swapped {
				e := registry.ErrUnavailable.With("the repository of %s is being changed all the time: try again", o.DID).Wrap(err)
				e.RetryAfter = time.Second
				err = e
			}
			return unknown, err
		}
		if !refused {
			if err := background.Pause(ctx, time.Duration(attempt)*50*time.Millisecond); err != nil {
				return unknown, err
			}
		}
		var rerr error
		if row, rerr = b.refresh(ctx, o, row); rerr != nil {
			return unknown, goneOr(fmt.Errorf("%w, after: %w", rerr, err))
		}
	}
}

// goneOr gives an account that its PDS does not serve its place among the registry's errors.
func goneOr(err error) error {
	if errors.Is(err, errRepoGone) {
		return registry.ErrDenied.With("the PDS does not serve this account any more").Wrap(err)
	}
	return err
}

// commitBatch commits writes and brings the copy to the same state.
func (b *Backend) commitBatch(ctx context.Context, o owner, session string, row *ownerRow, batch []planned) error {
	writes := make([]write, len(batch))
	for i, p := range batch {
		writes[i] = p.write
	}
	head, err := b.acting.applyWrites(ctx, session, o.DID, row.Head, writes)
	if err != nil {
		return err
	}
	if err := b.crash.Reach(crashpoint.RecordCommitted); err != nil {
		return err
	}
	next := *row
	if next.Rev, next.Head, next.Checked = head.Rev, head.CID, b.clock().Unix(); head.CID == "" {
		next.Rev, next.Head, next.Checked = row.Rev, row.Head, b.doubtful() // the PDS names no commit: to be asked
	}
	for _, p := range batch {
		p.count(&next)
	}
	if b.lister.over(next) {
		next.Rev = "" // count what there is by listing it, and refuse what is too much
	}
	// The commit stands; what follows must not depend on whether the client still waits.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTimeout)
	defer cancel()
	err = sqlx.InTx(ctx, b.db.Write(), func(tx *sql.Tx) error {
		for _, p := range batch {
			if err := p.apply(ctx, tx, o.DID, row.Gen, b.clock().Unix()); err != nil {
				return err
			}
		}
		return writeOwner(ctx, tx, next)
	})
	if err != nil {
		return fmt.Errorf("write the copy of %s: %w", o.DID, err)
	}
	b.lister.room.total.Add(next.taken() - row.taken())
	*row = next
	if head.CID == "" {
		if fresh, err := b.refresh(ctx, o, next); err == nil {
			*row = fresh
		}
	}
	return b.crash.Reach(crashpoint.CopyUpdated)
}

// count adds what the write takes in the copy. What a delete gives back shows when all is listed anew.
func (p planned) count(row *ownerRow) {
	row.Touched = row.Checked
	switch {
	case p.manifest != nil:
		row.Bytes += p.manifest.bytes(row.DID)
		row.LayerBytes += int64(len(p.manifest.Layers)) * layerBytes
	case p.tag != nil:
		row.Bytes += p.tag.bytes(row.DID)
	}
	switch p.Type {
	case opCreate:
		row.Records++
	case opDelete:
		row.Records--
	}
}

// apply does to the copy what the write did to the repository.
func (p planned) apply(ctx context.Context, tx *sql.Tx, owner string, gen, now int64) error {
	switch {
	case p.manifest != nil:
		return writeManifest(ctx, tx, owner, gen, now, *p.manifest)
	case p.tag != nil:
		return writeTag(ctx, tx, owner, gen, *p.tag)
	case p.Type == opDelete && p.Collection == atcr.NSIDManifest:
		return deleteManifest(ctx, tx, owner, p.RKey)
	case p.Type == opDelete && p.Collection == atcr.NSIDTag:
		return deleteTag(ctx, tx, owner, p.RKey)
	}
	return nil
}
