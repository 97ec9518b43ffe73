package oauth

import (
	"context"
	"errors"
	"sync"
	"time"
)

const (
	renewKept  = 6 * 24 * time.Hour // a day before the week is over, in which it is tried again
	showEnded  = 30 * 24 * time.Hour
	outlived   = 180 * 24 * time.Hour // no server takes a refresh token after that
	keepEvery  = time.Minute
	keepPage   = 100
	keepAtOnce = 4
)

// Run renews grants that are to be kept, stores tokens again that could not be stored, and deletes sign-ins that were not finished and
// grants that ended, until ctx ends. Each process that uses a database may run it. It returns nil.
func (c *Client) Run(ctx context.Context) error {
	save, keep := time.NewTicker(saveAnyway), time.NewTicker(keepEvery)
	defer save.Stop()
	defer keep.Stop()
	c.upkeep(ctx)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-save.C:
			for _, g := range c.unsaved.all() {
				c.saveAgain(ctx, g)
			}
		case <-keep.C:
			c.upkeep(ctx)
		}
	}
}

// upkeep does once what Run does.
func (c *Client) upkeep(ctx context.Context) {
	now := c.config.Clock()
	err := errors.Join(
		c.store.dropRequests(ctx, now), c.store.dropEnded(ctx, now.Add(-showEnded)), c.dropOutlived(ctx, now),
		c.trim(ctx, "", "", maxAllGrants), c.renewKept(ctx, now))
	if err != nil && ctx.Err() == nil {
		c.config.Log.Error("upkeep of OAuth grants", "err", err)
	}
}

// dropOutlived ends grants whose refresh token must have run out.
func (c *Client) dropOutlived(ctx context.Context, now time.Time) error {
	ids, err := c.store.outlived(ctx, now.Add(-outlived), keepPage)
	for _, id := range ids {
		err = errors.Join(err, c.End(ctx, id))
	}
	return err
}

// renewKept renews what is to be kept.
func (c *Client) renewKept(ctx context.Context, now time.Time) error {
	for after := ""; ; {
		ids, err := c.store.toRenew(ctx, now.Add(-renewKept), after, keepPage)
		if err != nil {
			return err
		}
		var wg sync.WaitGroup
		places := make(chan struct{}, keepAtOnce)
		for _, id := range ids {
			after = id
			if c.renewals.gaveUp(id, now) {
				continue
			}
			places <- struct{}{}
			wg.Go(func() {
				defer func() { <-places }()
				c.renewOne(ctx, id, now)
			})
		}
		wg.Wait()
		if len(ids) < keepPage || ctx.Err() != nil {
			return nil
		}
	}
}

func (c *Client) renewOne(ctx context.Context, id string, now time.Time) {
	g, err := c.get(ctx, id)
	if err == nil && !g.refreshed.Before(now.Add(-renewKept)) {
		return // by another process
	}
	if err == nil && !(g.lost && g.alive(now)) {
		_, err = c.renew(ctx, g, false)
	}
	if err != nil {
		c.config.Log.Debug("a grant that is to be kept was not renewed", "id", id, "err", err)
	}
}
