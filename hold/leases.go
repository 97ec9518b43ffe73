package hold

import (
	"context"
	"database/sql"
	"fmt"
	"net/http"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/atcr-dev/atcr/internal/sqlx"
)

// Limits of leases.
const (
	leaseLife   = 24 * time.Hour     // renewed by each touch
	leaseMax    = 7 * 24 * time.Hour // from the first touch, without a manifest
	leaseAgain  = time.Hour          // how long one is prolonged when the pusher's PDS can't be asked
	maxLeases   = 10_000             // one DID's
	leasesAtRun = 1000               // settled in one go
)

// blobSize is a blob at this hold.
type blobSize struct {
	Digest digest.Digest `json:"digest"`
	Size   int64         `json:"size"`
}

// lease takes or renews leases inside a transaction. A lease that stood for its longest time is not renewed.
// Errors: TooManyLeases.
func (s *Server) lease(ctx context.Context, tx *sql.Tx, did, repository string, blobs []blobSize, now time.Time) error {
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
	if err := tx.QueryRowContext(ctx, `select count(*) from hold_lease where did = $1`, did).Scan(&n); err != nil {
		return fmt.Errorf("lease: %w", err)
	}
	if n > maxLeases {
		return fail(http.StatusForbidden, "TooManyLeases", "%s has uploaded or asked for more than %d blobs that no manifest names; push their manifests, or wait a day", did, maxLeases)
	}
	return nil
}

// dropLeases ends a user's leases on digests that layer records of the repository now name; those for a manifest of another
// repository stay.
func (s *Server) dropLeases(ctx context.Context, did, repository string, digests []string) error {
	err := sqlx.InTx(ctx, s.db.Write(), func(tx *sql.Tx) error {
		for _, d := range digests {
			if _, err := tx.ExecContext(ctx, `delete from hold_lease where did = $1 and digest = $2 and repository in ('', $3)`, did, d, repository); err != nil {
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

// usage is what a user's layer records and leases add up to, each digest once.
func (s *Server) usage(ctx context.Context, did string) (blobs, bytes int64, err error) {
	err = s.db.Read().QueryRowContext(ctx, `select count(*), coalesce(sum(size), 0) from (
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

// settleLeases ends leases that ran out: first the pusher's manifest records are read and the layer records of those that
// name this hold are written, so that nothing that a manifest names is left unowned. A PDS that doesn't answer prolongs
// the lease.
func (s *Server) settleLeases(ctx context.Context) error {
	now := s.clock()
	rows, err := s.db.Read().QueryContext(ctx, `select distinct did from hold_lease where expires < $1 limit $2`, now.Unix(), leasesAtRun)
	if err != nil {
		return fmt.Errorf("expired leases: %w", sqlx.Wrap(err))
	}
	var dids []string
	for rows.Next() {
		var did string
		if err := rows.Scan(&did); err != nil {
			_ = rows.Close()
			return fmt.Errorf("expired leases: %w", sqlx.Wrap(err))
		}
		dids = append(dids, did)
	}
	if err := rows.Close(); err != nil {
		return fmt.Errorf("expired leases: %w", sqlx.Wrap(err))
	}
	for _, did := range dids {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		query, arg := `delete from hold_lease where did = $1 and expires < $2`, now.Unix()
		if err := s.settlePusher(ctx, did); err != nil {
			s.log.Warn("leases are prolonged: the pusher's manifest records can't be read", "did", did, "error", err)
			query, arg = `update hold_lease set expires = $2 where did = $1 and expires < $2`, now.Add(leaseAgain).Unix()
		}
		if _, err := s.db.Write().ExecContext(ctx, query, did, arg); err != nil {
			return fmt.Errorf("end leases of %s: %w", did, sqlx.Wrap(err))
		}
	}
	return nil
}
