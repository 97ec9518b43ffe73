package oauth

import (
	"context"
	"fmt"
	"net/url"
	"time"
)

const revokeTime = 10 * time.Second

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
