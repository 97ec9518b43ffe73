package auth

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"time"

	"github.com/atcr-dev/atcr/internal/sqlx"
	"github.com/atcr-dev/atcr/registry"
)

const (
	maxLogins    = 50                  // an account's refresh tokens
	maxAllLogins = 200_000             // everybody's
	loginLife    = 90 * 24 * time.Hour // since the last use
	deviceLife   = 180 * 24 * time.Hour
	robotGrace   = 30 * 24 * time.Hour // an expired robot can be renewed with the grant that it has
	tokenTouch   = 10 * time.Minute    // how exactly the last use is known
	// keepEnded is how long a token that has ended is remembered, to say so to who still has it.
	keepEnded = 90 * 24 * time.Hour
)

// signInBySecret checks one of our secrets, whatever user name stands beside it. It asks no other server. Who has a secret that was
// good once is told why it no longer is; anything else is one refusal for a kind. Errors: ErrUnauthorized, ErrTooManyRequests.
func (a *Auth) signInBySecret(ctx context.Context, secret string, base *url.URL, addr netip.Addr) (account, error) {
	kind, id := parseSecret(secret)
	t, err := a.secrets.byID(ctx, id) // also for an empty id: a refusal takes the same time
	if err != nil {
		return account{}, err
	}
	now := a.opts.Clock()
	known, old := &Token{hash: make([]byte, 32)}, false
	if t != nil && t.kind == kind {
		known = t
	}
	good := matches(secret, known.hash)
	if old = matches(secret, known.oldHash); old && now.Before(known.OldUntil) {
		good = true
	}
	if !good && !old {
		if _, err := a.guesses.pay("secret "+id, addr, now); err != nil {
			return account{}, err
		}
		return account{}, errUnknownSecret(kind, base)
	}
	if err := t.refusal(now, base.String()); err != nil {
		return account{}, err
	}
	if !good {
		return account{}, registry.ErrUnauthorized.With("sign-in failed: %s was renewed, and its secret of before ended on %s: "+
			"use the new one", t.title(), day(t.OldUntil))
	}
	if err := a.sessionLives(ctx, t.Session); errors.Is(err, registry.ErrUnauthorized) {
		reason := endedReason("that server ended it, or was asked to")
		errors.As(err, &reason)
		return account{}, registry.ErrUnauthorized.With("sign-in failed: %s can no longer act at the account's server (%s): %s",
			t.title(), reason, t.remedy(base.String())).Wrap(err)
	} else if err != nil {
		return account{}, err
	}
	if now.Sub(t.Used) >= tokenTouch {
		t.Used, t.Address = now, addr.String()
		switch kind {
		case kindRefresh:
			t.Ends = now.Add(loginLife)
		case kindDevice:
			t.Ends = now.Add(deviceLife)
		}
		if err := a.secrets.touch(ctx, t); err != nil { // a full disk, say: no reason to refuse anybody
			a.opts.Log.Warn("the use of a token could not be noted", "did", t.DID, "id", t.ID, "err", err)
		}
	}
	return account{did: t.DID, session: t.Session, method: kind, token: t}, nil
}

// errUnknownSecret is one answer for all secrets that are none of ours; the kind is what the client itself sent.
func errUnknownSecret(kind string, base *url.URL) error {
	t := Token{kind: kind}
	what := map[string]string{kindDevice: "this device's secret", kindRobot: "this robot's secret"}[kind]
	if what == "" {
		what = "this refresh token"
	}
	return registry.ErrUnauthorized.With("sign-in failed: %s is not, or no longer, known here: %s", what, t.remedy(base.String()))
}

// refusal says why a token is no longer taken, since when and what to do; nil when it is.
func (t *Token) refusal(now time.Time, base string) error {
	switch {
	case !t.ended.IsZero():
		return registry.ErrUnauthorized.With("sign-in failed: %s was ended on %s: %s", t.title(), day(t.ended), t.remedy(base))
	case !now.Before(t.Ends) && t.kind == kindRobot:
		return registry.ErrUnauthorized.With("sign-in failed: %s ended on %s: renew it at %s/settings/access", t.title(), day(t.Ends), base)
	case !now.Before(t.Ends):
		return registry.ErrUnauthorized.With("sign-in failed: %s was not used for long and ended on %s: %s",
			t.title(), day(t.Ends), t.remedy(base))
	}
	return nil
}

// title names a token for people.
func (t *Token) title() string {
	who := t.Handle
	if who == "" {
		who = t.DID
	}
	switch t.kind {
	case kindDevice:
		return fmt.Sprintf("the device %q of %s", t.Name, who)
	case kindRobot:
		return fmt.Sprintf("the robot %q of %s", t.Name, who)
	}
	return "this sign-in of " + who
}

// remedy says how to get another one.
func (t *Token) remedy(base string) string {
	host := base
	if u, err := url.Parse(base); err == nil {
		host = u.Host
	}
	switch t.kind {
	case kindDevice:
		return "sign in again: docker-credential-atcr login " + host
	case kindRobot:
		if t.Session != "" && t.ended.IsZero() {
			return "renew it at " + base + "/settings/access"
		}
		return "make another one at " + base + "/settings/access"
	}
	who := t.Handle
	if who == "" {
		who = "HANDLE"
	}
	return "sign in again: docker login " + host + " -u " + who
}

func day(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }

// newLogin makes a refresh token for who signed in by a password. When an account has too many, one goes that was used within a day only,
// as by a job, else the least used one.
func (a *Auth) newLogin(ctx context.Context, who account, user string, addr netip.Addr) (secret string, err error) {
	unlock, err := a.sessions.locks.Lock(ctx, "add "+who.did)
	if err != nil {
		return "", err
	}
	defer unlock()
	now := a.opts.Clock()
	t := &Token{ID: newID(), kind: kindRefresh, DID: who.did, Session: who.session, Address: addr.String(),
		Created: now, Used: now, Ends: now.Add(loginLife)}
	if id, ok := parseUser(user); ok && id.IsHandle() {
		t.Handle = id.Normalize().String()
	}
	secret, t.hash = newSecret(kindRefresh, t.ID)
	var gone []string
	err = sqlx.InTx(ctx, a.secrets.db.Write(), func(tx *sql.Tx) error {
		if err := a.secrets.insert(ctx, tx, t); err != nil {
			return err
		}
		var err error
		gone, err = a.secrets.trimLogins(ctx, tx, t)
		return err
	})
	if err != nil {
		return "", fmt.Errorf("storing a refresh token: %w", err)
	}
	for _, id := range gone {
		a.lives.forget(id)
	}
	return secret, nil
}

// trimLogins drops the refresh tokens of an account beyond [maxLogins], but for the newest.
func (s *tokenStore) trimLogins(ctx context.Context, tx *sql.Tx, newest *Token) (gone []string, err error) {
	const day, hour = 24 * 60 * 60, 60 * 60
	rows, err := tx.QueryContext(ctx, `select id from auth_token where did = $1 and kind = $2 and id <> $3
		order by case when used_at - created_at < $4 and used_at < $5 then 1 else 0 end, used_at desc, created_at desc, id
		limit 1000 offset $6`,
		newest.DID, kindRefresh, newest.ID, day, newest.Created.Unix()-hour, maxLogins-1)
	if err != nil {
		return nil, err
	}
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			rows.Close()
			return nil, err
		}
		gone = append(gone, id)
	}
	rows.Close()
	if err := rows.Err(); err != nil {
		return nil, err
	}
	for _, id := range gone {
		if _, err := tx.ExecContext(ctx, "delete from auth_token where id = $1", id); err != nil {
			return nil, err
		}
	}
	return gone, nil
}

// Logins are the sign-ins of docker and other clients by app password, which then have a refresh token in place of it.
// Safe for concurrent use.
type Logins struct{ a *Auth }

// Logins returns what lists and ends refresh tokens.
func (a *Auth) Logins() *Logins { return &Logins{a} }

// List returns an account's refresh tokens, the newest first.
func (l *Logins) List(ctx context.Context, did string) ([]Token, error) {
	return l.a.list(ctx, did, kindRefresh)
}

// End ends one: within seconds it is refused, and so are the registry tokens that it gave. Errors: [ErrNoToken].
func (l *Logins) End(ctx context.Context, did, id string) error {
	return l.a.end(ctx, did, kindRefresh, id)
}

// ErrNoToken: the account has no such device, robot or sign-in, or it has ended already.
var ErrNoToken = &registry.Error{
	Code: "UNKNOWN", Status: http.StatusNotFound, Message: "there is no such device, robot or sign-in, or it has ended already",
}

// list returns an account's tokens: robots that have ended by themselves, too, which can be renewed.
func (a *Auth) list(ctx context.Context, did, kind string) ([]Token, error) {
	all, err := a.secrets.list(ctx, did, kind)
	if err != nil {
		return nil, err
	}
	now := a.opts.Clock()
	kept := all[:0]
	for _, t := range all {
		if kind == kindRobot || !t.Ended(now) {
			kept = append(kept, t)
		}
	}
	return kept, nil
}

// end ends an account's token, and the grant that it alone has.
func (a *Auth) end(ctx context.Context, did, kind, id string) error {
	t, err := a.secrets.end(ctx, did, kind, id, a.opts.Clock())
	if err != nil {
		return err
	}
	if t == nil {
		return ErrNoToken
	}
	a.lives.forget(id)
	a.opts.Log.Info("token ended", "kind", kind, "did", did, "id", id)
	if err := a.endGrant(ctx, t); err != nil { // the keeper tries again
		a.opts.Log.Warn("a grant of what was ended is still there", "did", did, "err", err)
	}
	return nil
}

// endGrant ends the grant of OAuth that a token acted by, unless another one does, too.
func (a *Auth) endGrant(ctx context.Context, t *Token) error {
	if !isGrant(t.Session) {
		return nil
	}
	if err := a.sessions.End(ctx, t.DID, t.Session); err != nil {
		return err
	}
	a.lives.forget(t.Session)
	_, err := a.secrets.db.Write().ExecContext(ctx, "update auth_token set session = '' where id = $1", t.ID)
	return sqlx.Wrap(err)
}
