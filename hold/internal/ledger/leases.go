package ledger

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/atcr-dev/atcr/internal/sqlx"
)

// Limits of leases.
const (
	leaseLife   = 24 * time.Hour     // renewed by each touch
	leaseMax    = 7 * 24 * time.Hour // from the first touch, without a manifest
	leaseAgain  = time.Hour          // how long one is prolonged when the pusher's PDS can't be asked
	maxLeases   = 10_000             // of one DID, each digest counted once, however it was leased
	leasesAtRun = 1000               // settled in one go
)

// LeaseLimitError: somebody has more leases than one DID may have.
type LeaseLimitError struct {
	DID string
	Max int
}

func (e *LeaseLimitError) Error() string {
	return fmt.Sprintf("%s has more than %d blobs here that no manifest names, which are more than one manifest may name: "+
		"push the manifests of those that were uploaded before, or wait until they are a day old", e.DID, e.Max)
}

// Take leases blobs that are here for a manifest of the repository. Errors: [LeaseLimitError].
func (l *Ledger) Take(ctx context.Context, did, repository string, blobs []Blob) error {
	return sqlx.InTx(ctx, l.db.Write(), func(tx *sql.Tx) error { return l.Lease(ctx, tx, did, repository, blobs) })
}

// Lease takes or renews leases inside a transaction; the repository is empty when it isn't known yet. A lease that stood for its
// longest time is not renewed. Errors: [LeaseLimitError].
func (l *Ledger) Lease(ctx context.Context, tx *sql.Tx, did, repository string, blobs []Blob) error {
	now := l.clock()
	until, bound := now.Add(leaseLife).Unix(), int64(leaseMax/time.Second)
	for _, b := range blobs {
		_, err := tx.ExecContext(ctx, `insert into hold_lease (did, digest, repository, size, created, expires)
			values ($1, $2, $3, $4, $5, $6)
			on conflict (did, digest, repository) do update set size = $4, expires =
				case when $6 < hold_lease.created + $7 then $6 else hold_lease.created + $7 end`,
			did, b.Digest.String(), repository, b.Size, now.Unix(), until, bound)
		if err != nil {
			return fmt.Errorf("lease: %w", err)
		}
	}
	var n int
	err := tx.QueryRowContext(ctx, `select count(distinct digest) from hold_lease where did = $1`, did).Scan(&n)
	if err != nil {
		return fmt.Errorf("lease: %w", err)
	}
	if n > maxLeases {
		return &LeaseLimitError{did, maxLeases}
	}
	return nil
}

// Release ends all leases of a user on a blob, inside a transaction.
func (l *Ledger) Release(ctx context.Context, tx *sql.Tx, did string, d digest.Digest) error {
	_, err := tx.ExecContext(ctx, `delete from hold_lease where did = $1 and digest = $2`, did, d.String())
	return err
}

// dropLeases ends a user's leases on digests that layer records of the repository now name; those for a manifest of another
// repository stay.
func (l *Ledger) dropLeases(ctx context.Context, did, repository string, digests []string) error {
	err := sqlx.InTx(ctx, l.db.Write(), func(tx *sql.Tx) error {
		for _, d := range digests {
			_, err := tx.ExecContext(ctx, `delete from hold_lease where did = $1 and digest = $2 and repository in ('', $3)`,
				did, d, repository)
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("end leases: %w", err)
	}
	return nil
}

// Live reports whether a layer record or a lease names a blob, whoever's: if neither does, nothing here needs it.
func (l *Ledger) Live(ctx context.Context, d digest.Digest) (bool, error) {
	if err := l.Refresh(ctx); err != nil {
		return false, err
	}
	var n int
	err := l.db.Read().QueryRowContext(ctx, `select count(*) from (
		select 1 from hold_layer where digest = $1
		union all
		select 1 from hold_lease where digest = $1) as named`, d.String()).Scan(&n)
	if err != nil {
		return false, fmt.Errorf("who names %s: %w", d, sqlx.Wrap(err))
	}
	return n > 0, nil
}

// Usage returns what a user's layer records and leases add up to, each digest once.
func (l *Ledger) Usage(ctx context.Context, did string) (blobs, bytes int64, err error) {
	if err := l.Refresh(ctx); err != nil {
		return 0, 0, err
	}
	err = l.db.Read().QueryRowContext(ctx, `select count(*), coalesce(sum(size), 0) from (
		select digest, max(size) as size from (
			select digest, size from hold_layer where did = $1
			union all
			select digest, size from hold_lease where did = $1) as named
		group by digest) as once`, did).Scan(&blobs, &bytes)
	if err != nil {
		err = fmt.Errorf("usage of %s: %w", did, sqlx.Wrap(err))
	}
	return blobs, bytes, err
}

// Settle ends leases that ran out. First settle is called for each user who has such: it records the user's manifests at this hold
// that nobody told of (Record), so that nothing that a manifest names is left without an owner. When settle fails, as it does while
// a PDS can't be asked, the user's leases are prolonged by an hour.
func (l *Ledger) Settle(ctx context.Context, settle func(ctx context.Context, did string) error) error {
	now := l.clock()
	dids, err := l.expired(ctx, now)
	if err != nil {
		return fmt.Errorf("expired leases: %w", sqlx.Wrap(err))
	}
	for _, did := range dids {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		query, arg := `delete from hold_lease where did = $1 and expires < $2`, now.Unix()
		if err := settle(ctx, did); err != nil {
			l.log.Warn("leases are prolonged: the pusher's manifest records can't be read", "did", did, "error", err)
			query, arg = `update hold_lease set expires = $2 where did = $1 and expires < $2`, now.Add(leaseAgain).Unix()
		}
		if _, err := l.db.Write().ExecContext(ctx, query, did, arg); err != nil {
			return fmt.Errorf("end leases of %s: %w", did, sqlx.Wrap(err))
		}
	}
	return nil
}

func (l *Ledger) expired(ctx context.Context, now time.Time) (dids []string, err error) {
	rows, err := l.db.Read().QueryContext(ctx, `select distinct did from hold_lease where expires < $1 limit $2`, now.Unix(), leasesAtRun)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var did string
		if err := rows.Scan(&did); err != nil {
			return nil, err
		}
		dids = append(dids, did)
	}
	return dids, rows.Err()
}
