package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/atcr-dev/atcr/internal/sqlx"
	"github.com/atcr-dev/atcr/repo"
)

const (
	settleLimit = 15 * time.Second
	settleEvery = 100 * time.Millisecond
)

// settle finds out, after a connection was lost, whether what was asked to be committed was kept: nil when it was. Without made
// nothing was asked.
func (s *Store) settle(ctx context.Context, made *repo.Head, lost error) error {
	if made == nil {
		return fmt.Errorf("%w: the connection to the database was lost: %w", repo.ErrBusy, lost)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.settling)
	defer cancel()
	for {
		kept, err := s.kept(ctx, made)
		switch {
		case err == nil && kept:
			return nil
		case err == nil:
			return fmt.Errorf("%w: the connection to the database was lost: %w", repo.ErrBusy, lost)
		}
		select {
		case <-time.After(settleEvery):
		case <-ctx.Done():
			return fmt.Errorf("%w: the connection to the database was lost: %w; since then: %w", repo.ErrUnsettled, lost, err)
		}
	}
}

// kept looks for a commit under the lock, which waits for whoever made it to have ended.
func (s *Store) kept(ctx context.Context, made *repo.Head) (kept bool, err error) {
	err = sqlx.InTx(ctx, s.db.Write(), func(tx *sql.Tx) error {
		w := &writer{reader: &reader{ctx: ctx, run: tx}}
		if err := w.lock(); err != nil || w.head == nil {
			return err
		}
		if w.head.CID == made.CID && w.head.Seq >= made.Seq {
			kept = true
			return nil
		}
		var one int // others may have gone on from it
		err := w.row(qHasEvent, []any{made.Seq, made.Rev}, &one)
		kept = err == nil
		if errors.Is(err, repo.ErrNotFound) {
			err = nil
		}
		return err
	})
	return kept, err
}
