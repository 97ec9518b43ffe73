package oauth

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"
)

const (
	revokeTime   = 10 * time.Second
	maxGrants    = 500     // of an account
	maxAllGrants = 200_000 // of all accounts
)

// End ends a grant: it is deleted, and then revoked at the account's server as far as that answers within 10 seconds. One that is not
// there is no error.
func (c *Client) End(ctx context.Context, id string) error {
	ctx = context.WithoutCancel(ctx) // half of it helps nobody
	g, err := c.store.takeGrant(ctx, id)
	if err != nil {
		return fmt.Errorf("oauth: deleting a grant: %w", err)
	}
	if newer := c.unsaved.take(id); newer != nil {
		g = newer
	}
	if g == nil || g.ended != "" {
		return nil
	}
	c.renewals.done(id)
	c.revoke(ctx, g)
	return nil
}

// revoke ends a sign-in at its server, best effort.
func (c *Client) revoke(ctx context.Context, g *grant) {
	if g.secrets.RevokeAt == "" {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), revokeTime)
	defer cancel()
	call, err := g.call(g.secrets.RevokeAt, url.Values{"token": {g.secrets.Refresh}, "token_type_hint": {"refresh_token"}})
	if err == nil {
		_, err = c.agent.post(ctx, call)
	}
	if err != nil {
		c.config.Log.Info("a grant that has ended here could not be revoked at its server", "did", g.did, "server", g.server, "err", err)
	}
}

// makeRoom ends what an account has too many of beside g: those that have ended, then those that are not kept, the least used first.
func (c *Client) makeRoom(ctx context.Context, g *grant) {
	if err := c.trim(ctx, g.did, g.id, maxGrants); err != nil {
		c.config.Log.Error("ending the least used grants of an account", "did", g.did, "err", err)
	}
}

// trim ends what is too many, of one account or, with an empty DID, of all.
func (c *Client) trim(ctx context.Context, did, but string, most int) error {
	n, err := c.store.countGrants(ctx, did)
	if err != nil || n <= most {
		return err
	}
	ids, err := c.store.leastUsed(ctx, did, but, min(n-most, keepPage))
	for _, id := range ids {
		err = errors.Join(err, c.End(ctx, id))
	}
	c.config.Log.Info("the least used grants were ended, there are too many", "did", did, "limit", most, "ended", len(ids))
	return err
}

// Close waits for refreshes that are under way, seconds as a rule and two minutes at most: an answer that the process does not stay for
// is lost. Call it when nobody uses the client any more, before the database is closed.
func (c *Client) Close() error {
	c.renewals.idle()
	ctx, cancel := context.WithTimeout(context.Background(), saveTime)
	defer cancel()
	for _, g := range c.unsaved.all() {
		if _, err := c.store.refreshed(ctx, g); err != nil {
			return fmt.Errorf("oauth: new tokens of %s can't be stored: the sign-in may be lost: %w", g.did, err)
		}
		c.unsaved.drop(g)
	}
	return nil
}
