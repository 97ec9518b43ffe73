package auth

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/atcr-dev/atcr/internal/sqlx"
)

const (
	renewIdle  = 7 * 24 * time.Hour // a session that a token may need is refreshed at least so often
	renewAtOne = 200                // such sessions in one round
)

// keep does what is to be done once an hour: it drops what is old and refreshes the sessions of tokens that nobody uses now, since a
// PDS ends those by itself.
func (a *Auth) keep(ctx context.Context) error {
	return errors.Join(a.sessions.prune(ctx), a.endGrants(ctx), a.pruneTokens(ctx), a.renewIdle(ctx))
}

// endGrants ends the grants of tokens that have ended, where that failed or nobody was there to do it, and of devices that were approved
// and never came for their secret.
func (a *Auth) endGrants(ctx context.Context) error {
	now := a.opts.Clock()
	over, err := a.secrets.query(ctx, `where session like 'oauth-%' and (ended_at > 0 or kind = $1 and ends_at < $2 or kind = $3 and ends_at < $4)
		order by id limit 1000`, kindDevice, now.Unix(), kindRobot, now.Add(-robotGrace).Unix())
	if err != nil {
		return err
	}
	for _, t := range over {
		if err := a.endGrant(ctx, &t); err != nil {
			a.opts.Log.Warn("a grant of what was ended is still there", "did", t.DID, "err", err)
		}
	}
	for {
		c, err := scanCode(a.secrets.db.Read().QueryRowContext(ctx, "select "+codeColumns+
			" from auth_device_code where ends_at < $1 order by ends_at, id limit 1", now.Add(-codeLife).Unix()))
		if err != nil || c == nil {
			return err
		}
		if isGrant(c.session) {
			if err := a.sessions.End(ctx, c.did, c.session); err != nil {
				return err
			}
		}
		if _, err := a.secrets.db.Write().ExecContext(ctx, "delete from auth_device_code where id = $1", c.id); err != nil {
			return fmt.Errorf("dropping a device code: %w", sqlx.Wrap(err))
		}
	}
}

// pruneTokens drops tokens that ended long ago, and the least used refresh tokens when there are too many in all.
func (a *Auth) pruneTokens(ctx context.Context) error {
	now := a.opts.Clock()
	db := a.secrets.db.Write()
	_, err := db.ExecContext(ctx, `delete from auth_token where ended_at > 0 and ended_at < $1
		or kind <> $2 and ends_at < $1 or kind = $3 and ends_at < $4`,
		now.Add(-keepEnded).Unix(), kindRobot, kindRefresh, now.Unix())
	if err != nil {
		return fmt.Errorf("dropping old tokens: %w", sqlx.Wrap(err))
	}
	_, err = db.ExecContext(ctx, `delete from auth_token where id in (select id from auth_token where kind = $1
		order by used_at desc, id limit 1000000 offset $2)`, kindRefresh, maxAllLogins)
	if err != nil {
		return fmt.Errorf("dropping the least used tokens: %w", sqlx.Wrap(err))
	}
	return nil
}

// renewIdle refreshes sessions that tokens act by and that were not refreshed for a week: some of them, at random, so that those whose
// servers are gone don't stand before the others.
func (a *Auth) renewIdle(ctx context.Context) error {
	now := a.opts.Clock()
	ids, err := a.sessions.store.idle(ctx, now.Add(-renewIdle), now, renewAtOne)
	if err != nil {
		return err
	}
	for _, id := range ids {
		e, err := a.sessions.read(ctx, id)
		if err != nil {
			return err
		}
		if e == nil {
			continue
		}
		if _, err := a.sessions.refresh(ctx, e); ctx.Err() != nil {
			return ctx.Err()
		} else if err != nil {
			a.lives.forget(id)
			a.opts.Log.Debug("keeping a session alive", "did", e.did, "err", err)
		}
	}
	return nil
}

// idle returns the ids of sessions that live tokens act by and that were not refreshed since a time.
func (s *store) idle(ctx context.Context, since, now time.Time, limit int) (ids []string, err error) {
	rows, err := s.db.Read().QueryContext(ctx, `select id from auth_session where checked_at < $1 and exists (select 1 from auth_token t
		where t.session = auth_session.id and t.ended_at = 0 and t.ends_at > $2) order by random() limit $3`, since.Unix(), now.Unix(), limit)
	if err != nil {
		return nil, fmt.Errorf("sessions that are idle: %w", sqlx.Wrap(err))
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
