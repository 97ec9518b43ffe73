package pds

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/atcr-dev/atcr/internal/keylock"
	"github.com/atcr-dev/atcr/internal/sqlx"
	"github.com/atcr-dev/atcr/registry"
)

// What rows take in the database with their indexes, about.
const (
	ownerBytes = 1 << 10
	rowBytes   = 400
	layerBytes = 400

	touchEvery = 10 * time.Minute
)

// bytes is what the row takes, about: its texts stand in indexes, too.
func (m manifestRow) bytes(owner string) int64 {
	return rowBytes + int64(5*len(owner)+2*len(m.RKey)+len(m.CID)+4*len(m.Repository)+2*len(m.Digest)+2*len(m.Hold)+
		len(m.MediaType)+len(m.Blob)+2*len(m.Subject))
}

func (t tagRow) bytes(owner string) int64 {
	return rowBytes + int64(4*len(owner)+2*len(t.RKey)+len(t.CID)+3*len(t.Repository)+2*len(t.Tag)+2*len(t.ManifestRKey)+
		2*len(t.Digest)+len(t.Stamp))
}

// taken is what an owner's copy takes.
func (o ownerRow) taken() int64 {
	if o.Touched == 0 && o.Gen == 0 { // there is none yet
		return 0
	}
	return ownerBytes + o.Bytes + o.ListBytes + o.LayerBytes
}

// refusal is the error for an owner of whom nothing is kept, since it is too much; nil when it is not so, or was long ago.
func (o ownerRow) refusal(now time.Time) error {
	if o.Refused == "" || now.Sub(time.Unix(o.RefusedAt, 0)) >= refusedFor {
		return nil
	}
	return registry.ErrDenied.With("the account %s has more records than this registry keeps of one (%s): who runs it can raise that, "+
		"and is asked again an hour later", o.DID, o.Refused)
}

// room bounds what the copies of all owners take; those that were not used for longest make room.
type room struct {
	db    *sqlx.DB
	locks *keylock.Locks // of owners
	limit int64
	total atomic.Int64
	log   *slog.Logger
}

// count adds up what there is.
func (r *room) count(ctx context.Context) error {
	var total int64
	err := r.db.Read().QueryRowContext(ctx,
		`select cast(coalesce(sum(bytes + list_bytes + layer_bytes), 0) + count(*) * $1 as bigint) from pds_owner`, ownerBytes).Scan(&total)
	if err != nil {
		return fmt.Errorf("size of the copies: %w", sqlx.Wrap(err))
	}
	r.total.Store(total)
	return nil
}

// took notes that an owner's copy has grown, and makes room for it. The caller has the owner's lock.
func (r *room) took(ctx context.Context, did string, bytes int64) error {
	if r.total.Add(bytes) <= r.limit || bytes <= 0 {
		return nil
	}
	err := r.forgetThose(ctx, func() bool { return r.total.Load() > r.limit },
		`select did from pds_owner where did <> $1 and refused = '' order by touched limit 100`, did)
	if err != nil {
		return err
	}
	if r.total.Load() > r.limit+r.limit/8 { // all others are in use
		e := registry.ErrUnavailable.With("this registry keeps no more records now (pds.copy_bytes): try again later")
		e.RetryAfter = 10 * time.Second
		return e
	}
	return nil
}

// forgetUnused drops copies that were last used before until (unix seconds).
func (r *room) forgetUnused(ctx context.Context, until int64) error {
	return r.forgetThose(ctx, func() bool { return true },
		`select did from pds_owner where checked < $1 and touched < $1 and refused = '' order by touched limit 1000`, until)
}

// forgetThose drops the copies that a query names, as long as on says so.
func (r *room) forgetThose(ctx context.Context, on func() bool, query string, args ...any) error {
	all, err := listRows(ctx, r.db.Read(), scanText, query, args...)
	if err != nil {
		return fmt.Errorf("find copies that can go: %w", err)
	}
	for _, did := range all {
		if !on() {
			break
		}
		if err := r.forget(ctx, did); err != nil {
			return err
		}
	}
	return nil
}

// touch notes that a copy was used that can't be confirmed now, which a use otherwise does.
func (r *room) touch(ctx context.Context, row ownerRow, now time.Time) {
	if now.Sub(time.Unix(row.Touched, 0)) < touchEvery {
		return
	}
	if _, err := r.db.Write().ExecContext(ctx, `update pds_owner set touched = $2 where did = $1`, row.DID, now.Unix()); err != nil {
		r.log.Warn("the use of a copy could not be noted", "did", row.DID, "err", err)
	}
}

// forget drops an owner's copy, unless somebody works on it.
func (r *room) forget(ctx context.Context, did string) error {
	release, ok := r.locks.Try(did)
	if !ok {
		return nil
	}
	defer release()
	row, err := readOwner(ctx, r.db.Read(), did)
	if err != nil {
		return err
	}
	if err := r.drop(ctx, ownerRow{DID: did, Gen: row.Gen + 1}); err != nil {
		return err
	}
	_, err = r.db.Write().ExecContext(ctx, `delete from pds_owner where did = $1`, did)
	r.total.Add(-ownerBytes)
	return sqlx.Wrap(err)
}

// drop takes an owner's records out of the copy, in short transactions; row stands in the place of the owner's, and is written first, so
// that half a copy is never believed. What uploads told stays. The caller has the owner's lock.
func (r *room) drop(ctx context.Context, row ownerRow) error {
	old, err := readOwner(ctx, r.db.Read(), row.DID)
	if err != nil {
		return err
	}
	err = sqlx.InTx(ctx, r.db.Write(), func(tx *sql.Tx) error { return writeOwner(ctx, tx, row) })
	for _, q := range []string{
		`delete from pds_layer where owner = $1 and manifest <> '' and (repository, digest, manifest) in
			(select repository, digest, manifest from pds_layer where owner = $1 and manifest <> '' limit $2)`,
		`delete from pds_tag where owner = $1 and rkey in (select rkey from pds_tag where owner = $1 limit $2)`,
		`delete from pds_manifest where owner = $1 and rkey in (select rkey from pds_manifest where owner = $1 limit $2)`,
	} {
		for n := int64(someRows); err == nil && n == someRows; {
			var res sql.Result
			if res, err = r.db.Write().ExecContext(ctx, q, row.DID, someRows); err == nil {
				n, err = res.RowsAffected()
			}
		}
	}
	if err != nil {
		return fmt.Errorf("forget the copy of %s: %w", row.DID, sqlx.Wrap(err))
	}
	r.total.Add(ownerBytes - old.taken())
	return nil
}

// sweep drops what a listing that came to its end did not see: rows of a generation before gen.
func sweep(ctx context.Context, db *sqlx.DB, owner string, gen int64) error {
	for _, of := range []struct {
		table string
		del   func(ctx context.Context, tx *sql.Tx, owner, rkey string) error
	}{{"pds_manifest", deleteManifest}, {"pds_tag", deleteTag}} {
		for last, more := "", true; more; {
			old, next, err := olderThan(ctx, db, of.table, owner, last, gen)
			if err != nil {
				return err
			}
			last, more = next, next != ""
			for some := range slices.Chunk(old, someRows) {
				err := sqlx.InTx(ctx, db.Write(), func(tx *sql.Tx) error {
					for _, rkey := range some {
						if err := of.del(ctx, tx, owner, rkey); err != nil {
							return err
						}
					}
					return nil
				})
				if err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// olderThan looks at some rows after a key, and returns the keys of those that are older, and the last of all; empty at the end.
func olderThan(ctx context.Context, db *sqlx.DB, table, owner, after string, gen int64) (old []string, last string, err error) {
	const look = 2000
	rows, err := db.Read().QueryContext(ctx, `select rkey, gen from `+table+` where owner = $1 and rkey > $2 order by rkey limit $3`,
		owner, after, look)
	if err != nil {
		return nil, "", sqlx.Wrap(err)
	}
	defer rows.Close()
	n := 0
	for ; rows.Next(); n++ {
		var g int64
		if err := rows.Scan(&last, &g); err != nil {
			return nil, "", sqlx.Wrap(err)
		}
		if g < gen {
			old = append(old, last)
		}
	}
	if n < look {
		last = ""
	}
	return old, last, sqlx.Wrap(rows.Err())
}
