package oauth

import (
	"context"
	"time"

	"github.com/atcr-dev/atcr/internal/sqlx"
)

// countRequests returns how many sign-ins wait for their answer.
func (s *store) countRequests(ctx context.Context, now time.Time) (n int, err error) {
	err = s.db.Read().QueryRowContext(ctx, `select count(*) from oauth_request where expires_at > $1`, now.Unix()).Scan(&n)
	return n, sqlx.Wrap(err)
}

// public is what callers see of a grant.
func (c *Client) public(g *grant) Grant {
	return Grant{
		ID: g.id, DID: g.did, Server: g.server, Scopes: g.scopes, Missing: missingScopes(c.self.asked, g.scopes), Keep: g.keep,
		Created: g.created, Used: g.used, Lost: g.lost, Ended: g.ended,
	}
}
