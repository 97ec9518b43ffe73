package hold

import (
	"context"
	"time"
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

// Maintain does once what [Server.Run] does every ten minutes: it discards uploads that rested for a day and settles leases
// that ran out.
func (s *Server) Maintain(ctx context.Context) error {
	if err := s.uploads.Expire(ctx); err != nil {
		return err
	}
	if err := s.ledger.ForgetCounts(ctx); err != nil {
		return err
	}
	return s.ledger.Settle(ctx, s.notices.settlePusher)
}
