package upload

import (
	"context"
	"fmt"
	"time"

	"github.com/atcr-dev/atcr/internal/sqlx"
	"github.com/atcr-dev/atcr/storage"
)

// Expire discards uploads that rested for a day, with what storage and spool have of them.
func (s *Uploads) Expire(ctx context.Context) error {
	before := s.clock().Add(-life)
	rows, err := s.db.Read().QueryContext(ctx, `select id, storage_id, done from hold_upload where touched < $1 limit 10000`, before.Unix())
	if err != nil {
		return fmt.Errorf("old uploads: %w", sqlx.Wrap(err))
	}
	defer rows.Close()
	var old []*Upload
	for rows.Next() {
		u := &Upload{}
		if err := rows.Scan(&u.key, &u.storageID, &u.Done); err != nil {
			return fmt.Errorf("old uploads: %w", sqlx.Wrap(err))
		}
		old = append(old, u)
	}
	if err := rows.Close(); err != nil {
		return fmt.Errorf("old uploads: %w", sqlx.Wrap(err))
	}
	for _, u := range old {
		unlock, ok := s.locks.Try(u.key)
		if !ok {
			continue
		}
		err := s.drop(ctx, u)
		unlock()
		if err != nil {
			return err
		}
	}
	if err := s.dropOrphanedSpool(ctx); err != nil {
		return err
	}
	// What the storage has beyond our rows: a crash may come between the two.
	_, err = storage.RemoveStaleUploads(ctx, s.store, before.Add(-time.Hour))
	return err
}

// dropOrphanedSpool removes spooled parts of uploads that are gone.
func (s *Uploads) dropOrphanedSpool(ctx context.Context) error {
	keys, err := s.spool.folders()
	if err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	for _, key := range keys {
		var n int
		err := s.db.Read().QueryRowContext(ctx, `select count(*) from hold_upload where id = $1 and done = 0`, key).Scan(&n)
		if err != nil {
			return fmt.Errorf("spool: %w", sqlx.Wrap(err))
		}
		if n == 0 {
			s.spool.dropAll(key)
		}
	}
	return nil
}
