package hold

import (
	"context"
	"fmt"
	"time"

	"github.com/atcr-dev/atcr/internal/sqlx"
	"github.com/atcr-dev/atcr/storage"
)

const maintainEvery = 10 * time.Minute

// maintain does now and then what a hold does by itself, until ctx ends.
func (s *Server) maintain(ctx context.Context) {
	tick := time.NewTicker(maintainEvery)
	defer tick.Stop()
	for {
		if err := s.Maintain(ctx); err != nil && ctx.Err() == nil {
			s.log.Error("maintenance", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// Maintain does once what [Server.Run] does every ten minutes: it throws away uploads that rested for a day and settles leases
// that ran out.
func (s *Server) Maintain(ctx context.Context) error {
	if err := s.dropOldUploads(ctx); err != nil {
		return err
	}
	now := s.clock()
	if _, err := s.db.Write().ExecContext(ctx, `delete from hold_counted where hour < $1`, now.Unix()/3600-1); err != nil {
		return fmt.Errorf("forget counted: %w", sqlx.Wrap(err))
	}
	return s.settleLeases(ctx)
}

func (s *Server) dropOldUploads(ctx context.Context) error {
	before := s.clock().Add(-uploadLife)
	rows, err := s.db.Read().QueryContext(ctx, `select id, storage_id, done from hold_upload where touched < $1 limit 10000`, before.Unix())
	if err != nil {
		return fmt.Errorf("old uploads: %w", sqlx.Wrap(err))
	}
	defer rows.Close()
	var old []*upload
	for rows.Next() {
		u := &upload{}
		if err := rows.Scan(&u.key, &u.storageID, &u.done); err != nil {
			return fmt.Errorf("old uploads: %w", sqlx.Wrap(err))
		}
		old = append(old, u)
	}
	if err := rows.Close(); err != nil {
		return fmt.Errorf("old uploads: %w", sqlx.Wrap(err))
	}
	for _, u := range old {
		unlock, ok := s.uploads.try(u.key)
		if !ok {
			continue
		}
		err := s.dropUpload(ctx, u)
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

// dropOrphanedSpool throws away spooled parts of uploads that are gone.
func (s *Server) dropOrphanedSpool(ctx context.Context) error {
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
