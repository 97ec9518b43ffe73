package oauth

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/atcr-dev/atcr/internal/sqlx"
)

// insertGrant keeps a new grant: everything but refreshing, generation, lost and ended is set by the caller. It is durable when it returns.
func (s *store) insertGrant(ctx context.Context, g *grant) error {
	sealed, err := s.sealGrant(g)
	if err != nil {
		return err
	}
	_, err = s.db.Write().ExecContext(ctx, `insert into oauth_grant (id, did, server, pds, client_id, key_id, asked, scopes, sealed,
		expires_at, keep, created_at, used_at, refreshed_at, refreshing, generation, lost, ended, ended_at)
		values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, '', 0, 0, '', 0)`,
		g.id, g.did, g.server, g.pds, g.clientID, g.keyID, strings.Join(g.asked, " "), strings.Join(g.scopes, " "), sealed,
		g.expires.Unix(), number(g.keep), g.created.Unix(), g.used.Unix(), g.refreshed.Unix())
	if err != nil {
		return fmt.Errorf("storing the grant of %s: %w", g.did, sqlx.Wrap(err))
	}
	return nil
}

func (s *store) sealGrant(g *grant) ([]byte, error) {
	b, err := json.Marshal(g.secrets)
	if err != nil {
		return nil, err
	}
	return s.seal.Seal(g.bound(), b), nil
}

func number(b bool) int64 {
	if b {
		return 1
	}
	return 0
}
