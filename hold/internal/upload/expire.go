package upload

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/atcr-dev/atcr/internal/sqlx"
	"github.com/atcr-dev/atcr/storage"
)

const expireAtRun = 1000 // uploads that are looked up in one go

// Expire discards uploads that rested for a day, with what storage and spool have of them.
func (s *Uploads) Expire(ctx context.Context) error {
	before := s.clock().Add(-life)
	for again := true; again; {
		old, err := s.old(ctx, before)
		if err != nil {
			return fmt.Errorf("old uploads: %w", sqlx.Wrap(err))
		}
		again = false
		for _, u := range old {
			dropped, err := s.dropResting(ctx, u)
			if err != nil {
				return err
			}
			again = again || dropped && len(old) == expireAtRun
		}
	}
	if err := s.forgetDone(ctx, before); err != nil {
		return fmt.Errorf("completed uploads: %w", err)
	}
	if err := s.dropOrphanedSpool(ctx); err != nil {
		return err
	}
	// What the storage has beyond our rows: a crash may come between the two.
	_, err := storage.RemoveStaleUploads(ctx, s.store, before.Add(-time.Hour))
	return err
}

// old returns uploads that are not complete and rested since a time, some of them when there are many.
func (s *Uploads) old(ctx context.Context, before time.Time) (old []*Upload, err error) {
	rows, err := s.db.Read().QueryContext(ctx, `select id, commit_digest, parts, touched from hold_upload
		where touched < $1 and done = 0 order by touched limit $2`, before.Unix(), expireAtRun)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		u := &Upload{}
		if err := rows.Scan(&u.key, &u.commit, &u.taken, &u.touched); err != nil {
			return nil, err
		}
		old = append(old, u)
	}
	return old, rows.Err()
}

// forgetDone removes the rows of uploads that were completed before a time, and the oldest of those who complete very many, so that
// nobody fills the database by completing one small upload after another.
func (s *Uploads) forgetDone(ctx context.Context, before time.Time) error {
	if err := s.forget(ctx, `done = 1 and touched < $1`, before.Unix()); err != nil {
		return err
	}
	many, err := sqlx.Strings(ctx, s.db.Read(), `select did from hold_upload where done = 1 group by did having count(*) > $1`, maxDone)
	if err != nil {
		return err
	}
	for _, did := range many {
		err := s.forget(ctx, `done = 1 and did = $1 and touched <= (select touched from hold_upload
			where did = $1 and done = 1 order by touched desc limit 1 offset $2)`, did, maxDone)
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *Uploads) forget(ctx context.Context, which string, args ...any) error {
	return sqlx.InTx(ctx, s.db.Write(), func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `delete from hold_part where upload_id in (select id from hold_upload where `+which+`)`, args...)
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `delete from hold_upload where `+which, args...)
		return err
	})
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
