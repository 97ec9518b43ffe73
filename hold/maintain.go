package hold

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/atcr-dev/atcr/hold/internal/ledger"
	"github.com/atcr-dev/atcr/hold/internal/upload"
)

const maintainEvery = 10 * time.Minute

// upkeep is what a hold does now and then by itself.
type upkeep struct {
	uploads *upload.Uploads
	ledger  *ledger.Ledger
	notices *notices
	log     *slog.Logger
}

func (s *Server) upkeep() upkeep {
	return upkeep{uploads: s.uploads, ledger: s.ledger, notices: s.notices, log: s.log}
}

// Maintain does once what [Server.Run] does every ten minutes: it discards uploads that rested for a day and settles leases
// that ran out.
func (s *Server) Maintain(ctx context.Context) error {
	u := s.upkeep()
	if err := u.tidy(ctx); err != nil {
		return err
	}
	return u.settle(ctx)
}

// keep goes on until ctx ends. Leases are settled beside the rest, since that waits for other people's servers.
func (u upkeep) keep(ctx context.Context) {
	var both sync.WaitGroup
	both.Go(func() { u.often(ctx, "maintenance", u.tidy) })
	both.Go(func() { u.often(ctx, "settling leases", u.settle) })
	both.Wait()
}

func (u upkeep) often(ctx context.Context, what string, do func(context.Context) error) {
	tick := time.NewTicker(maintainEvery)
	defer tick.Stop()
	for {
		if err := do(ctx); err != nil && ctx.Err() == nil {
			u.log.Error(what, "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (u upkeep) tidy(ctx context.Context) error {
	if err := u.uploads.Expire(ctx); err != nil {
		return err
	}
	return u.ledger.ForgetCounts(ctx)
}

func (u upkeep) settle(ctx context.Context) error {
	return u.ledger.Settle(ctx, u.notices.settlePusher)
}
