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

// keep makes the changes of the crew that datadir.ChangeCrew asks for, until ctx ends.
func (p *people) keep(ctx context.Context) {
	tick := time.NewTicker(crewLook)
	defer tick.Stop()
	var again time.Time
	if err := crew.Tidy(p.cfg.Dir, p.clock()); err != nil {
		p.log.Warn("old answers about the crew could not be removed", "error", err)
	}
	for {
		if time.Now().After(again) {
			if err := p.change(ctx); err != nil && ctx.Err() == nil {
				p.log.Warn("a change of the crew that was asked for could not be made; it is tried again", "error", err, "in",
					crewRetry.String())
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

// change makes those that wait. An error is one after which they go on waiting.
func (p *people) change(ctx context.Context) error {
	names, err := crew.Asked(p.cfg.Dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		c, err := crew.Read(p.cfg.Dir, name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		var out crew.Outcome
		if err == nil {
			out.Did, err = p.apply(ctx, c)
			if err != nil && (ctx.Err() != nil || errors.Is(err, repo.ErrNoSpace) || errors.Is(err, repo.ErrBusy)) {
				return err
			}
		}
		if err != nil {
			out = crew.Outcome{Error: err.Error()}
			p.log.Warn("a change of the crew was asked for and can't be made", "member", c.Member, "error", err)
		} else {
			p.log.Info("a change of the crew was asked for", "member", c.Member, "outcome", out.Did)
		}
		if err := crew.Answer(p.cfg.Dir, name, out); err != nil {
			return err
		}
	}
	return nil
}

func (p *people) apply(ctx context.Context, c crew.Change) (did string, err error) {
	for try := 0; ; try++ {
		var all []repo.Record
		for rec, err := range p.records.repo.List(ctx, atcr.NSIDCrew, "", false) {
			if err != nil {
				return "", err
			}
			all = append(all, rec)
		}
		if _, member := p.member(c.Member); !c.Remove && !member && p.members() >= p.cfg.MaxCrew {
			return "", fmt.Errorf("the hold has %d members, which is its limit", p.members())
		}
		ws, did, err := crew.Writes(all, c, p.clock())
		if err != nil || len(ws) == 0 {
			return did, err
		}
		_, err = p.records.apply(ctx, ws)
		raced := errors.Is(err, repo.ErrExists) || errors.Is(err, repo.ErrInvalidSwap) || errors.Is(err, repo.ErrNotFound)
		if !raced || try == 5 {
			return did, err
		}
	}
}
