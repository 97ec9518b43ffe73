package ledger

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/atcr-dev/atcr/internal/sqlx"
)

// Limits of leases.
const (
	leaseLife  = 24 * time.Hour     // renewed by each touch
	leaseMax   = 7 * 24 * time.Hour // from the first touch, without a manifest
	leaseAgain = time.Hour          // how long one is prolonged when the pusher's PDS can't be asked
	maxLeases  = 10_000             // digests of one DID
)

// Limits of settling.
const (
	settleAtOnce = 4 // users
	settleWait   = 30 * time.Second
	settleAtRun  = 100 // users that are looked up in one go
)

// LeaseLimitError: somebody has leases on more blobs than one DID may have.
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
	if err := tx.QueryRowContext(ctx, `select count(distinct digest) from hold_lease where did = $1`, did).Scan(&n); err != nil {
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

// Leased returns what each user's leases add up to, in bytes, each digest once.
func (l *Ledger) Leased(ctx context.Context) (map[string]int64, error) {
	rows, err := l.db.Read().QueryContext(ctx, `select did, sum(size) from (
		select did, digest, max(size) as size from hold_lease group by did, digest) as once group by did`)
	if err != nil {
		return nil, fmt.Errorf("leased bytes: %w", sqlx.Wrap(err))
	}
	defer rows.Close()
	leased := map[string]int64{}
	for rows.Next() {
		var did string
		var bytes int64
		if err := rows.Scan(&did, &bytes); err != nil {
			return nil, fmt.Errorf("leased bytes: %w", sqlx.Wrap(err))
		}
		leased[did] = bytes
	}
	return leased, sqlx.Wrap(rows.Err())
}

// Settle ends leases that ran out, until none is left. First settle is called for each user who has such: it records the user's
// manifests at this hold that nobody told of (Record), so that nothing that a manifest names is left without an owner, and returns
// the time of which that is true. When it fails, as it does while a PDS can't be asked, the user's leases are prolonged by an hour;
// but one that stood for its longest time ends all the same.
//
// It is called for a few users at once, who waited longest first, and may take 30 s for each.
func (l *Ledger) Settle(ctx context.Context, settle func(ctx context.Context, did string) (asOf time.Time, err error)) error {
	for {
		dids, err := l.expired(ctx, l.clock())
		if err != nil {
			return fmt.Errorf("expired leases: %w", err)
		}
		if len(dids) == 0 {
			return nil
		}
		var users errgroup.Group
		users.SetLimit(settleAtOnce)
		for _, did := range dids {
			users.Go(func() error { return l.settleOne(ctx, did, settle) })
		}
		if err := users.Wait(); err != nil {
			return err
		}
	}
}

func (l *Ledger) settleOne(ctx context.Context, did string, settle func(context.Context, string) (time.Time, error)) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	within, cancel := context.WithTimeout(ctx, l.settleWait)
	asOf, err := settle(within, did)
	cancel()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		l.log.Info("leases are prolonged: the pusher's manifest records can't be read", "did", did, "error", err)
		asOf = time.Time{}
	}
	if err := l.endLeases(ctx, did, asOf); err != nil {
		return fmt.Errorf("end leases of %s: %w", did, err)
	}
	return nil
}

// endLeases ends a user's leases that had run out at a time, none at the zero time, and prolongs the others that have, but for those
// that stood for their longest time.
func (l *Ledger) endLeases(ctx context.Context, did string, at time.Time) error {
	now, bound := l.clock(), int64(leaseMax/time.Second)
	return sqlx.InTx(ctx, l.db.Write(), func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `delete from hold_lease where did = $1 and (expires < $2 or expires < $3 and created + $4 <= $3)`,
			did, at.Unix(), now.Unix(), bound)
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `update hold_lease set expires =
			case when $3 < created + $4 then $3 else created + $4 end
			where did = $1 and expires < $2`, did, now.Unix(), now.Add(leaseAgain).Unix(), bound)
		return err
	})
}

// expired returns who has leases that ran out, the one who waits longest first.
func (l *Ledger) expired(ctx context.Context, now time.Time) (dids []string, err error) {
	return sqlx.Strings(ctx, l.db.Read(), `select did from hold_lease where expires < $1
		group by did order by min(expires), did limit $2`, now.Unix(), settleAtRun)
}
