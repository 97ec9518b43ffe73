package pds

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/atcr-dev/atcr/internal/sqlx"
	"github.com/atcr-dev/atcr/registry/pds/internal/uploads"
)

const (
	settleEvery = time.Second
	upkeepEvery = 10 * time.Minute
	closeGrace  = 5 * time.Second
	maxNames    = 100_000 // that are remembered for times when they can't be resolved
)

// Run settles open intents at once and from then on when they are due, counts pulls, discards old uploads and trims
// the cache, until ctx ends. One Run at a time. It returns nil when ctx ended.
func (b *Backend) Run(ctx context.Context) error {
	settle, upkeep := time.NewTicker(settleEvery), time.NewTicker(upkeepEvery)
	defer settle.Stop()
	defer upkeep.Stop()
	b.keepHouse(ctx)
	for {
		if _, err := b.Settle(ctx); err != nil && ctx.Err() == nil {
			b.log.Error("open intents could not be read", "err", err)
		}
		b.pulls.Send(false)
		select {
		case <-ctx.Done():
			return nil
		case <-settle.C:
		case <-upkeep.C:
			b.keepHouse(ctx)
		}
	}
}

// Close gives what goes on in the background five seconds, then ends it; pulls that were counted are sent. Requests must have
// ended. The database stays open.
func (b *Backend) Close() error {
	b.pulls.Send(true)
	b.work.Close(closeGrace) // what does not end by itself is settled after the next start
	b.http.CloseIdleConnections()
	err := b.reads.close()
	if b.tempDir != "" {
		err = errors.Join(err, os.RemoveAll(b.tempDir))
	}
	return err
}

func (b *Backend) keepHouse(ctx context.Context) {
	for what, f := range map[string]func(context.Context) error{
		"uploads": b.uploads.Expire, "cache": b.bodies.trim, "names": b.forgetOld, "intents": b.settler.Forget,
		"copies": b.lister.room.count,
	} {
		if err := f(ctx); err != nil && ctx.Err() == nil {
			b.log.Warn("housekeeping failed", "of", what, "err", err)
		}
	}
}

// forgetOld drops what nobody can need any more.
func (b *Backend) forgetOld(ctx context.Context) error {
	now := b.clock()
	// Copies that nobody has asked for in a month are listed again when somebody does.
	month := now.Add(-max(b.serveStale, 30*24*time.Hour)).Unix()
	if err := b.lister.room.forgetUnused(ctx, month); err != nil {
		return err
	}
	for _, q := range []struct {
		sql   string
		until int64
	}{
		{`delete from pds_owner where refused <> '' and touched < $1`, month},
		{`delete from pds_name where seen < $1`, now.Add(-max(b.serveStale, 24*time.Hour) - time.Hour).Unix()},
		{`delete from pds_name where seen < (select seen from pds_name order by seen desc limit 1 offset $1)`, maxNames},
		// What no manifest names after a day is for the hold to tell.
		{`delete from pds_layer where manifest = '' and seen < $1`, now.Add(-uploads.Life).Unix()},
	} {
		if _, err := b.db.Write().ExecContext(ctx, q.sql, q.until); err != nil {
			return fmt.Errorf("forget what is old: %w", sqlx.Wrap(err))
		}
	}
	return nil
}
