package upload

import (
	"context"
	"fmt"
	"io"

	"github.com/atcr-dev/atcr/internal/room"
	"github.com/atcr-dev/atcr/internal/sqlx"
)

// watch has the bytes of a part stop before the disk that they go to is full. A nil disk is not looked at.
func watch(ctx context.Context, disk *room.Disk, did string, body io.Reader) io.Reader {
	if disk == nil {
		return body
	}
	return disk.Reader(ctx, did, body)
}

// makeRoom is called when the disk is nearly full: an upload that nobody works on goes, of the account whose uploads take the most the
// oldest and largest. Its pusher begins anew.
func (s *Uploads) makeRoom(ctx context.Context, did string) (freed int64, err error) {
	open, list, err := s.taking(ctx)
	if err != nil {
		return 0, err
	}
	for _, r := range room.Order(list, did, s.clock()) {
		u := open[r.ID]
		unlock, ok := s.locks.Try(u.key)
		if !ok {
			continue
		}
		err := s.drop(ctx, u)
		unlock()
		if err != nil {
			return 0, err
		}
		s.o.Log.Warn("the disk is nearly full: an upload at rest was dropped", "did", u.DID, "bytes", r.Size)
		return r.Size, nil
	}
	return 0, nil
}

// taking lists the uploads that are open and not being completed, with what they take: in the storage, where there may be more than
// was acknowledged, and in the spool.
func (s *Uploads) taking(ctx context.Context) (open map[string]*Upload, list []room.Thing, err error) {
	sizes := map[string]room.Thing{}
	for info, err := range s.store.Uploads(ctx, "") {
		if err != nil {
			return nil, nil, fmt.Errorf("list uploads: %w", err)
		}
		sizes[info.ID] = room.Thing{Size: info.Size, Since: info.ModTime}
	}
	rows, err := s.db.Read().QueryContext(ctx, `select id, did, storage_id, (select coalesce(sum(size), 0) from hold_part
		where upload_id = hold_upload.id and spooled = 1) from hold_upload where done = 0 and commit_digest = ''`)
	if err != nil {
		return nil, nil, fmt.Errorf("list uploads: %w", sqlx.Wrap(err))
	}
	defer rows.Close()
	open = map[string]*Upload{}
	for rows.Next() {
		u := &Upload{}
		var spooled int64
		if err := rows.Scan(&u.key, &u.DID, &u.storageID, &spooled); err != nil {
			return nil, nil, fmt.Errorf("list uploads: %w", sqlx.Wrap(err))
		}
		r := sizes[u.storageID]
		r.ID, r.Owner = u.key, u.DID
		r.Size += spooled
		open[u.key], list = u, append(list, r)
	}
	return open, list, sqlx.Wrap(rows.Err())
}
