package oauth

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/atcr-dev/atcr/internal/seal"
	"github.com/atcr-dev/atcr/internal/sqlx"
)

// insertGrant keeps a new grant: everything but refreshing, generation, lost and ended is set by the caller. It is durable when it returns.
func (s *store) insertGrant(ctx context.Context, g *grant) error {
	sealed, err := s.sealGrant(g)
	if err != nil {
		return err
	}
	_, err = s.db.Write().ExecContext(ctx, `insert into oauth_grant (`+grantColumns+`)
		values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, '', 0, 0, '', 0)`,
		g.id, g.did, g.server, g.pds, g.clientID, g.keyID, strings.Join(g.scopes, " "), sealed, g.expires.Unix(), number(g.keep),
		g.created.Unix(), g.used.Unix(), g.refreshed.Unix())
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

const grantColumns = `id, did, server, pds, client_id, key_id, scopes, sealed, expires_at, keep, created_at, used_at, refreshed_at,
	refreshing, generation, lost, ended, ended_at`

// grant returns a grant, or nil.
func (s *store) grant(ctx context.Context, id string) (*grant, error) {
	return s.scanGrant(s.db.Read().QueryRowContext(ctx, `select `+grantColumns+` from oauth_grant where id = $1`, id))
}

// endedUnreadable is why a grant has ended that can't be decrypted. It is not written: the key may come back.
const endedUnreadable = "what was kept of it can't be decrypted, because the key file it was sealed with was replaced"

// scanGrant returns nil for no row.
func (s *store) scanGrant(row interface{ Scan(...any) error }) (*grant, error) {
	var g grant
	var scopes string
	var sealed []byte
	var expires, keep, created, used, refreshed, lost, endedAt int64
	err := row.Scan(&g.id, &g.did, &g.server, &g.pds, &g.clientID, &g.keyID, &scopes, &sealed, &expires, &keep, &created, &used,
		&refreshed, &g.refreshing, &g.generation, &lost, &g.ended, &endedAt)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading a grant: %w", sqlx.Wrap(err))
	}
	g.scopes, g.keep, g.lost = strings.Fields(scopes), keep != 0, lost != 0
	g.expires, g.created, g.used, g.refreshed = time.Unix(expires, 0), time.Unix(created, 0), time.Unix(used, 0), time.Unix(refreshed, 0)
	if g.ended != "" {
		return &g, nil
	}
	plain, _, err := s.seal.Open(g.bound(), sealed)
	if errors.Is(err, seal.ErrSealed) {
		g.ended = endedUnreadable
		return &g, nil
	}
	if err == nil {
		err = json.Unmarshal(plain, &g.secrets)
	}
	if err != nil {
		return nil, fmt.Errorf("opening a grant of %s: %w", g.did, err)
	}
	return &g, nil
}

// grantsOf returns an account's, the newest first.
func (s *store) grantsOf(ctx context.Context, did string) (all []*grant, err error) {
	rows, err := s.db.Read().QueryContext(ctx, `select `+grantColumns+` from oauth_grant where did = $1
		order by created_at desc, id limit $2`, did, maxGrants)
	if err != nil {
		return nil, fmt.Errorf("reading the grants of %s: %w", did, sqlx.Wrap(err))
	}
	defer rows.Close()
	for rows.Next() {
		g, err := s.scanGrant(rows)
		if err != nil {
			return nil, err
		}
		all = append(all, g)
	}
	return all, sqlx.Wrap(rows.Err())
}

// mark says in the row of a grant that it is being refreshed. It reports false when that is no longer the row that g was read from.
func (s *store) mark(ctx context.Context, g *grant, mark string) (bool, error) {
	return s.one(ctx, `update oauth_grant set refreshing = $1 where id = $2 and refreshing = '' and generation = $3 and ended = ''`,
		mark, g.id, g.generation)
}

// unmark takes a mark away. lost says that the answer to what it stood for is not known.
func (s *store) unmark(ctx context.Context, id, mark string, lost bool) (bool, error) {
	return s.one(ctx, `update oauth_grant set refreshing = '', lost = case when $3 = 1 then 1 else lost end
		where id = $1 and refreshing = $2`, id, mark, number(lost))
}

// refreshed writes new tokens over those of generations before. It reports false when the row has ended, is gone, or is as new.
func (s *store) refreshed(ctx context.Context, g *grant) (bool, error) {
	sealed, err := s.sealGrant(g)
	if err != nil {
		return false, err
	}
	return s.one(ctx, `update oauth_grant set sealed = $1, scopes = $2, expires_at = $3, refreshed_at = $4, refreshing = '', lost = 0,
		generation = $5 where id = $6 and generation < $5 and ended = ''`,
		sealed, strings.Join(g.scopes, " "), g.expires.Unix(), g.refreshed.Unix(), g.generation, g.id)
}

// endGrant wipes a grant's secrets and keeps why it ended. It reports false when it was refreshed meanwhile, or is gone.
func (s *store) endGrant(ctx context.Context, g *grant, reason string, now time.Time) (bool, error) {
	return s.one(ctx, `update oauth_grant set sealed = $1, refreshing = '', ended = $2, ended_at = $3
		where id = $4 and generation <= $5 and ended = ''`, []byte{}, reason, now.Unix(), g.id, g.generation)
}

// takeGrant deletes a grant and returns it, or nil.
func (s *store) takeGrant(ctx context.Context, id string) (*grant, error) {
	return s.scanGrant(s.db.Write().QueryRowContext(ctx, `delete from oauth_grant where id = $1 returning `+grantColumns, id))
}

func (s *store) touchGrant(ctx context.Context, id string, now time.Time) error {
	_, err := s.one(ctx, `update oauth_grant set used_at = $1 where id = $2`, now.Unix(), id)
	return err
}

func (s *store) keepGrant(ctx context.Context, id string, keep bool) (bool, error) {
	return s.one(ctx, `update oauth_grant set keep = $1 where id = $2 and ended = ''`, number(keep), id)
}

// one runs an update and reports whether there was a row for it.
func (s *store) one(ctx context.Context, query string, args ...any) (bool, error) {
	res, err := s.db.Write().ExecContext(ctx, query, args...)
	if err != nil {
		return false, sqlx.Wrap(err)
	}
	n, err := res.RowsAffected()
	return n > 0, err
}

// dropEnded deletes grants that ended before a time.
func (s *store) dropEnded(ctx context.Context, before time.Time) error {
	_, err := s.one(ctx, `delete from oauth_grant where ended <> '' and ended_at < $1`, before.Unix())
	return err
}

// toRenew returns a page of grants to be kept that were not refreshed since, in the order of ids.
func (s *store) toRenew(ctx context.Context, since time.Time, after string, limit int) ([]string, error) {
	return s.ids(ctx, `select id from oauth_grant where keep = 1 and ended = '' and refreshed_at < $1 and id > $2 order by id limit $3`,
		since.Unix(), after, limit)
}

// outlived returns ids of grants that were not refreshed since.
func (s *store) outlived(ctx context.Context, since time.Time, limit int) ([]string, error) {
	return s.ids(ctx, `select id from oauth_grant where ended = '' and refreshed_at < $1 order by refreshed_at, id limit $2`,
		since.Unix(), limit)
}

// countGrants counts an account's, or with an empty DID everybody's.
func (s *store) countGrants(ctx context.Context, did string) (n int, err error) {
	query, args := `select count(*) from oauth_grant`, []any{}
	if did != "" {
		query, args = query+` where did = $1`, []any{did}
	}
	err = s.db.Read().QueryRowContext(ctx, query, args...).Scan(&n)
	return n, sqlx.Wrap(err)
}

// leastUsed returns ids of those beside one: first those that ended, then those that need not be kept.
func (s *store) leastUsed(ctx context.Context, did, but string, limit int) ([]string, error) {
	const query, order = `select id from oauth_grant where id <> $1`,
		` order by case when ended = '' then 1 else 0 end, keep, used_at, id limit $2`
	if did == "" {
		return s.ids(ctx, query+order, but, limit)
	}
	return s.ids(ctx, query+` and did = $3`+order, but, limit, did)
}

func (s *store) ids(ctx context.Context, query string, args ...any) (ids []string, err error) {
	rows, err := s.db.Read().QueryContext(ctx, query, args...)
	if err != nil {
		return nil, sqlx.Wrap(err)
	}
	defer rows.Close()
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return nil, sqlx.Wrap(err)
		}
		ids = append(ids, id)
	}
	return ids, sqlx.Wrap(rows.Err())
}

const resealPage = 200

// reseal seals anew what another key than the first sealed, so that the others are needed no more. What doesn't open stays.
func (s *store) reseal(ctx context.Context) (count int, err error) {
	if s.seal.Len() == 1 {
		return 0, nil
	}
	for after := ""; ; {
		ids, err := s.ids(ctx, `select id from oauth_grant where id > $1 and ended = '' order by id limit $2`, after, resealPage)
		if err != nil {
			return count, fmt.Errorf("sealing grants anew: %w", err)
		}
		for _, id := range ids {
			after = id
			again, err := s.resealGrant(ctx, id)
			if err != nil {
				return count, fmt.Errorf("sealing grants anew: %w", err)
			}
			count += int(number(again))
		}
		if len(ids) < resealPage {
			return count, nil
		}
	}
}

func (s *store) resealGrant(ctx context.Context, id string) (again bool, err error) {
	var g grant
	var sealed []byte
	err = s.db.Read().QueryRowContext(ctx, `select id, did, server, pds, client_id, key_id, sealed from oauth_grant where id = $1`, id).
		Scan(&g.id, &g.did, &g.server, &g.pds, &g.clientID, &g.keyID, &sealed)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, sqlx.Wrap(err)
	}
	plain, key, err := s.seal.Open(g.bound(), sealed)
	if err != nil || key == 0 {
		return false, nil //nolint:nilerr // it is another key's, or empty
	}
	return s.one(ctx, `update oauth_grant set sealed = $1 where id = $2 and sealed = $3`, s.seal.Seal(g.bound(), plain), id, sealed)
}
