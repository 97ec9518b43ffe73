package ledger

import (
	"context"
	"fmt"

	"github.com/atcr-dev/atcr/internal/sqlx"
	"github.com/atcr-dev/atcr/repo"
)

// Count reports whether this is the first time in this hour that the caller did op ("pull" or "push") with the manifest.
func (l *Ledger) Count(ctx context.Context, op, caller string, m Manifest) (first bool, err error) {
	res, err := l.db.Write().ExecContext(ctx, `insert into hold_counted (op, caller, did, manifest, hour) values ($1, $2, $3, $4, $5)
		on conflict do nothing`, op, caller, m.DID, m.Repository+"@"+m.Digest.String(), l.clock().Unix()/3600)
	if err != nil {
		return false, fmt.Errorf("count: %w", sqlx.Wrap(err))
	}
	rows, err := res.RowsAffected()
	return rows > 0, err
}

// ForgetCounts removes what Count needs no more.
func (l *Ledger) ForgetCounts(ctx context.Context) error {
	_, err := l.db.Write().ExecContext(ctx, `delete from hold_counted where hour < $1`, l.clock().Unix()/3600-1)
	if err != nil {
		return fmt.Errorf("forget counted: %w", sqlx.Wrap(err))
	}
	return nil
}

// LayersOfUser returns the record keys of a user's layer records, in order.
func (l *Ledger) LayersOfUser(ctx context.Context, did string) (rkeys []string, err error) {
	if err := l.Refresh(ctx); err != nil {
		return nil, err
	}
	rkeys, err = sqlx.Strings(ctx, l.db.Read(), `select rkey from hold_layer where did = $1 order by rkey`, did)
	if err != nil {
		return nil, fmt.Errorf("records of %s: %w", did, err)
	}
	return rkeys, nil
}

// RemoveUser deletes a user's layer records and returns how many there were.
func (l *Ledger) RemoveUser(ctx context.Context, did string) (removed int, err error) {
	err = l.onIndex(ctx, func(same repo.Guard) error {
		rkeys, err := l.LayersOfUser(ctx, did)
		if err != nil {
			return err
		}
		n, err := l.deleteLayers(ctx, rkeys, same)
		removed += n
		return err
	})
	return removed, err
}

// ForgetUser removes a user's leases, manifests and counts.
func (l *Ledger) ForgetUser(ctx context.Context, did string) error {
	for _, table := range []string{"hold_lease", "hold_manifest", "hold_counted"} {
		if _, err := l.db.Write().ExecContext(ctx, `delete from `+table+` where did = $1`, did); err != nil {
			return fmt.Errorf("forget %s: %w", did, sqlx.Wrap(err))
		}
	}
	return nil
}

// Users returns the DIDs that have layer records, leases or manifests here.
func (l *Ledger) Users(ctx context.Context) (dids []string, err error) {
	if err := l.Refresh(ctx); err != nil {
		return nil, err
	}
	dids, err = sqlx.Strings(ctx, l.db.Read(),
		`select did from hold_layer union select did from hold_lease union select did from hold_manifest`)
	if err != nil {
		return nil, fmt.Errorf("users: %w", err)
	}
	return dids, nil
}
