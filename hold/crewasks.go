package hold

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/atcr-dev/atcr"
	"github.com/atcr-dev/atcr/hold/internal/crew"
	"github.com/atcr-dev/atcr/repo"
)

const (
	crewLook  = 500 * time.Millisecond // between looks for changes that were asked for
	crewRetry = 5 * time.Second        // after one that failed for a reason that may pass
)

// keepCrew makes the changes of the crew that datadir.ChangeCrew asks for, until ctx ends.
func keepCrew(ctx context.Context, s *Server) {
	tick := time.NewTicker(crewLook)
	defer tick.Stop()
	var again time.Time
	if err := crew.Tidy(s.cfg.Dir, s.clock()); err != nil {
		s.log.Warn("old answers about the crew could not be removed", "error", err)
	}
	for {
		if time.Now().After(again) {
			if err := changeCrew(ctx, s); err != nil && ctx.Err() == nil {
				s.log.Warn("a change of the crew that was asked for could not be made; it is tried again", "error", err, "in", crewRetry.String())
				again = time.Now().Add(crewRetry)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// changeCrew makes those that wait. An error is one after which they go on waiting.
func changeCrew(ctx context.Context, s *Server) error {
	names, err := crew.Asked(s.cfg.Dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		c, err := crew.Read(s.cfg.Dir, name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		var out crew.Outcome
		if err == nil {
			out.Did, err = applyCrew(ctx, s, c)
			if err != nil && (ctx.Err() != nil || errors.Is(err, repo.ErrNoSpace) || errors.Is(err, repo.ErrBusy)) {
				return err
			}
		}
		if err != nil {
			out = crew.Outcome{Error: err.Error()}
			s.log.Warn("a change of the crew was asked for and can't be made", "member", c.Member, "error", err)
		} else {
			s.log.Info("a change of the crew was asked for", "member", c.Member, "outcome", out.Did)
		}
		if err := crew.Answer(s.cfg.Dir, name, out); err != nil {
			return err
		}
	}
	return nil
}

func applyCrew(ctx context.Context, s *Server, c crew.Change) (did string, err error) {
	for try := 0; ; try++ {
		var all []repo.Record
		for rec, err := range s.repo.List(ctx, atcr.NSIDCrew, "", false) {
			if err != nil {
				return "", err
			}
			all = append(all, rec)
		}
		if _, member := s.access.member(c.Member); !c.Remove && !member && s.access.members() >= s.cfg.MaxCrew {
			return "", fmt.Errorf("the hold has %d members, which is its limit", s.access.members())
		}
		ws, did, err := crew.Writes(all, c, s.clock())
		if err != nil || len(ws) == 0 {
			return did, err
		}
		_, err = s.apply(ctx, ws)
		raced := errors.Is(err, repo.ErrExists) || errors.Is(err, repo.ErrInvalidSwap) || errors.Is(err, repo.ErrNotFound)
		if !raced || try == 5 {
			return did, err
		}
	}
}
