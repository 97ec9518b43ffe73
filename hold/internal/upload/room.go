package upload

import (
	"context"
	"fmt"
	"time"

	"github.com/atcr-dev/atcr/internal/room"
	"github.com/atcr-dev/atcr/internal/sqlx"
)

// place is what uploads have on one disk.
type place struct{ stored, spooled bool }

// makeRoom is called when a disk is nearly full: of the uploads that have bytes there, one goes that nobody works on, of the account
// that takes the most the oldest and largest. Its pusher begins anew.
func (s *Uploads) makeRoom(ctx context.Context, did string, on place) (freed int64, err error) {
	open, list, err := s.taking(ctx, on)
	if err != nil {
		return 0, err
	}
	var leased map[string]int64
	if on.stored {
		if leased, err = s.o.Leased(ctx); err != nil {
			return 0, err
		}
	}
	now := s.clock()
	for _, r := range room.Order(list, leased, did, now) {
		if now.Sub(r.Since) < room.Rest {
			continue
		}
		dropped, err := s.dropResting(ctx, open[r.ID])
		if err != nil {
			return 0, err
		}
		if dropped {
			s.o.Log.Warn("the disk is nearly full: an upload at rest was dropped", "did", r.Owner, "bytes", r.Size)
			return r.Size, nil
		}
	}
	return 0, nil
}

// taking lists the uploads that are open and not being completed, with what they take on a disk: in the storage, where there may be
// more than was acknowledged, and in the spool.
func (s *Uploads) taking(ctx context.Context, on place) (open map[string]*Upload, list []room.Thing, err error) {
	stored := map[string]int64{}
	if on.stored {
		for info, err := range s.store.Uploads(ctx, "") {
			if err != nil {
				return nil, nil, fmt.Errorf("list uploads: %w", err)
			}
			stored[info.ID] = info.Size
		}
	}
	rows, err := s.db.Read().QueryContext(ctx, `select id, did, storage_id, parts, touched, (select coalesce(sum(size), 0) from hold_part
		where upload_id = hold_upload.id and spooled = 1) from hold_upload where done = 0 and commit_digest = ''`)
	if err != nil {
		return nil, nil, fmt.Errorf("list uploads: %w", sqlx.Wrap(err))
	}
	defer rows.Close()
	open = map[string]*Upload{}
	for rows.Next() {
		u := &Upload{}
		var spooled int64
		if err := rows.Scan(&u.key, &u.DID, &u.storageID, &u.taken, &u.touched, &spooled); err != nil {
			return nil, nil, fmt.Errorf("list uploads: %w", sqlx.Wrap(err))
		}
		r := room.Thing{ID: u.key, Owner: u.DID, Size: stored[u.storageID], Since: time.Unix(u.touched, 0)}
		if on.spooled {
			r.Size += spooled
		}
		open[u.key], list = u, append(list, r)
	}
	return open, list, sqlx.Wrap(rows.Err())
}
