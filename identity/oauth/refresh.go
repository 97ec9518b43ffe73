package oauth

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"github.com/atcr-dev/atcr/identity"
	"github.com/atcr-dev/atcr/internal/crashpoint"
	"github.com/atcr-dev/atcr/internal/httpx"
	"github.com/atcr-dev/atcr/internal/sqlx"
)

const (
	askTime   = 30 * time.Second // for a refresh, whoever waits for it
	saveTime  = 10 * time.Second // for what came of it to be stored
	patience  = 3 * time.Second  // for a refresh while the token lives
	lostAfter = 45 * time.Second // a mark that stands longer is one of a process that is gone: more than askTime and saveTime
	lookEvery = 50 * time.Millisecond
	maxTries  = 3 // in askTime, when there is no token that could be used meanwhile
	tryAgain  = 500 * time.Millisecond
)

// Why grants end: parts of sentences.
const (
	reasonUnknown = "it is not known here any more"
	reasonGone    = "your account can't be found any more"
	reasonMoved   = "your account is at another server (%s) than the one that you signed in at (%s)"
	reasonRefused = "your account's server %s says that it was revoked or has run out (%s)"
	reasonLost    = "the answer of your account's server %s to a renewal was lost, in a crash or on the way, and the server takes " +
		"nothing else any more (%s)"
	reasonOther  = "your account's server %s renewed it for another account"
	reasonScopes = "your account's server %s renewed it for less than was granted: %s is missing"
	reasonClient = "your account's server %s does not take this application for the one that you signed in to (%s): its key was lost, " +
		"or its address has changed"
	reasonKey = "the key is lost that this application proved itself with when you signed in"
)

// renew returns a grant with another access token than g has, or g itself when its token can be used for now. refused says that the
// server does not take it any more.
func (c *Client) renew(ctx context.Context, g *grant, refused bool) (*grant, error) {
	alive := !refused && g.alive(c.config.Clock())
	for range 3 {
		if waits := c.renewals.waits(g.id, c.config.Clock()); waits != nil {
			if alive {
				return g, nil
			}
			now, err := c.get(ctx, g.id) // another process may have had better luck
			if err != nil || now.generation != g.generation {
				return now, err
			}
			return nil, waits
		}
		f := c.renewals.join(g.id, func() (*grant, error) {
			// What the server answers is kept even when the caller has gone: the old refresh token is spent.
			return c.refresh(httpx.Shared(context.WithoutCancel(ctx)), g, refused)
		})
		var enough <-chan time.Time
		if alive {
			timer := time.NewTimer(patience - time.Since(f.began))
			defer timer.Stop()
			enough = timer.C
		}
		select {
		case <-f.done:
		case <-enough:
			return g, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		switch {
		case f.err != nil && f.g != nil && alive:
			return g, nil // later
		case f.err != nil:
			return nil, f.err
		case f.g.generation != g.generation || alive:
			return f.g, nil
		}
		// It was for somebody whose token had not been refused.
	}
	return nil, c.notSent(ctx, g, errors.New("it takes no token that it gave"))
}

// refresh gets new tokens, or finds that somebody else did. With an error it returns the grant all the same when that can be used while
// its access token lives.
func (c *Client) refresh(ctx context.Context, old *grant, refused bool) (*grant, error) {
	g, mark, err := c.claim(ctx, old, refused)
	if err != nil || mark == "" {
		return g, err
	}
	if err := c.crash.Reach(crashpoint.RefreshMarked); err != nil {
		return g, err
	}
	r := c.ask(ctx, g, !refused && g.alive(c.config.Clock()))
	if err := c.crash.Reach(crashpoint.RefreshAnswered); err != nil {
		return g, err
	}
	ctx, cancel := context.WithTimeout(ctx, saveTime)
	defer cancel()
	switch {
	case r.reason != "":
		c.renewals.done(g.id)
		return nil, c.end(ctx, g, r)
	case r.tokens != nil:
		c.renewals.done(g.id)
		return c.save(ctx, g.with(r.tokens, c.config.Clock()))
	}
	if _, err := c.store.unmark(ctx, g.id, mark, r.lost); err != nil {
		c.config.Log.Error("the end of a refresh can't be stored: the next one waits for it", "did", g.did, "err", err)
	}
	c.config.Log.Info("grant not refreshed", "did", g.did, "server", g.server, "lost", r.lost, "err", r.err)
	return g, c.renewals.wait(g.id, r.err, c.config.Clock())
}

var errNotStored = errors.New("the tokens of before are not stored yet")

// claim marks a grant's row, so that no other process refreshes it. It returns no mark when there is nothing to do.
func (c *Client) claim(ctx context.Context, old *grant, refused bool) (g *grant, mark string, err error) {
	ctx, cancel := context.WithTimeout(ctx, c.lostAfter+saveTime)
	defer cancel()
	var seen string
	var since time.Time
	for {
		if g, err = c.get(ctx, old.id); err != nil {
			return nil, "", err
		}
		if g.generation != old.generation || g.lost && !refused && g.alive(c.config.Clock()) {
			return g, "", nil
		}
		if g.refreshing == "" {
			if err := c.sameServer(ctx, g); err != nil {
				return g, "", err
			}
			mark = secret()
			ok, err := c.store.mark(ctx, g, mark)
			kept := c.unsaved.get(g.id) != nil // then the row is not of this generation
			switch {
			case ok:
				return g, mark, nil
			case err == nil && !kept:
				continue // somebody else was faster
			case c.store.db.Dialect() == sqlx.SQLite && (kept || errors.Is(err, sqlx.ErrNoSpace)):
				return g, mark, nil // nobody else works on the file, so it goes on in memory
			}
			return g, "", fmt.Errorf("oauth: a refresh can't be stored: %w", cmp.Or(err, errNotStored))
		}
		if g.refreshing != seen {
			seen, since = g.refreshing, time.Now()
		}
		if time.Since(since) >= c.lostAfter {
			lost, err := c.store.unmark(ctx, g.id, seen, true)
			if err != nil {
				return g, "", fmt.Errorf("oauth: a lost refresh can't be stored: %w", err)
			}
			if lost {
				c.config.Log.Warn("the answer to a refresh was lost", "did", g.did, "server", g.server)
			}
			continue
		}
		select {
		case <-time.After(lookEvery):
		case <-ctx.Done():
			e := failed(ErrUnavailable, ctx.Err(), "your sign-in is being renewed elsewhere, which takes long: try again later")
			e.RetryAfter = tooSoon
			return g, "", e
		}
	}
}

// sameServer returns nil when the account is at the server that the grant is for: tokens go nowhere else. Errors: ErrEnded, also when
// the account is gone; ErrUnavailable when that can't be found out.
func (c *Client) sameServer(ctx context.Context, g *grant) error {
	acc, err := c.config.Directory.LookupDID(ctx, syntax.DID(g.did))
	switch {
	case err == nil:
		if pds, err := c.agent.origin(acc.PDSEndpoint()); err != nil || pds != g.pds {
			return c.ended(fmt.Sprintf(reasonMoved, orElse(hostOf(acc.PDSEndpoint()), "none"), hostOf(g.pds)), err)
		}
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, identity.ErrDIDNotFound):
		return c.ended(reasonGone, err)
	}
	e := failed(ErrUnavailable, err, "%s can't be looked up now: try again later", g.did)
	e.RetryAfter = tooSoon
	return e
}

// result is what came of asking for new tokens: tokens, a reason for which the grant has ended (and tokens that are not to be used), or
// an error that says to try again.
type result struct {
	tokens *tokens
	reason string
	cause  error // of the reason
	err    *Error
	lost   bool // the server may have spent the refresh token
	again  bool // at once, if there is nothing left to lose
}

// ask asks the server, more than once when it gave no clear answer and there is no living token that would be risked by that.
func (c *Client) ask(ctx context.Context, g *grant, alive bool) result {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	lost, unclear := g.lost, g.lost
	for try := 1; ; try++ {
		r := c.askOnce(ctx, g, unclear)
		r.lost = r.lost || lost
		if !r.again || alive || try == maxTries {
			return r
		}
		lost, unclear = r.lost, true
		select {
		case <-time.After(tryAgain << try):
		case <-ctx.Done():
			return r
		}
	}
}

// askOnce asks once. unclear says that the server may have given its answer before.
func (c *Client) askOnce(ctx context.Context, g *grant, unclear bool) result {
	call, err := g.call(g.secrets.TokenEndpoint, url.Values{"grant_type": {"refresh_token"}, "refresh_token": {g.secrets.Refresh}})
	if err != nil {
		return result{err: c.ended(reasonKey, err)}
	}
	var sent atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{WroteHeaders: func() { sent.Store(true) }})
	body, err := c.agent.post(ctx, call)
	host := hostOf(g.server)
	var no *refused
	switch refused := errors.As(err, &no); {
	case err == nil:
		return c.judge(g, body)
	case isRefused(err, "invalid_grant") && unclear:
		return result{reason: fmt.Sprintf(reasonLost, host, no), cause: err}
	case isRefused(err, "invalid_grant"):
		return result{reason: fmt.Sprintf(reasonRefused, host, no), cause: err}
	case isRefused(err, "invalid_client", "unauthorized_client", "invalid_client_metadata"):
		// Servers say so, too, while they can't read our metadata.
		return result{err: c.ended(fmt.Sprintf(reasonClient, host, no), err)}
	case errors.Is(err, errNoClientKey):
		return result{err: c.ended(reasonKey, err)}
	case refused && no.status < http.StatusInternalServerError && no.status != http.StatusTooManyRequests:
		return result{
			err: failed(ErrUnavailable, err, "the account's server %s did not renew your sign-in (%s): try again later", host, no),
		}
	case refused:
		return result{err: c.agent.serverError(g.server, err), again: no.status >= http.StatusInternalServerError}
	}
	return result{err: c.agent.serverError(g.server, err), lost: sent.Load(), again: true}
}

// judge looks at an answer that should hold tokens.
func (c *Client) judge(g *grant, body []byte) result {
	host := hostOf(g.server)
	t, err := parseTokens(body, g.did, tokens{Refresh: g.secrets.Refresh, Scopes: g.scopes})
	if errors.Is(err, errOtherAccount) {
		return result{tokens: &t, reason: fmt.Sprintf(reasonOther, host), cause: err}
	}
	if missing := missingScopes(g.scopes, t.Scopes); t.Access != "" && len(missing) > 0 {
		return result{tokens: &t, reason: fmt.Sprintf(reasonScopes, host, strings.Join(missing, ", ")), cause: err}
	}
	if err != nil {
		return result{
			lost: true,
			err:  failed(ErrUnavailable, err, "the account's server %s gave an answer that can't be used: try again later", host),
		}
	}
	return result{tokens: &t}
}

// with returns the grant of the next generation.
func (g *grant) with(t *tokens, now time.Time) *grant {
	next := *g
	next.secrets.Access, next.secrets.Refresh, next.scopes = t.Access, t.Refresh, t.Scopes
	next.refreshed, next.expires = now, now.Add(t.Life)
	next.refreshing, next.lost = "", false
	next.generation++
	return &next
}

// save stores new tokens, or keeps them in memory until that works, and returns the grant to be used.
func (c *Client) save(ctx context.Context, g *grant) (*grant, error) {
	ok, err := c.store.refreshed(ctx, g)
	if err != nil {
		c.unsaved.put(g)
		c.config.Log.Error("new tokens can't be stored: they are kept in memory, and lost if the process ends", "did", g.did, "err", err)
		return g, nil
	}
	if err := c.crash.Reach(crashpoint.RefreshSaved); err != nil {
		return g, err
	}
	if ok {
		c.unsaved.drop(g)
		c.config.Log.Debug("grant refreshed", "did", g.did, "server", g.server)
		return g, nil
	}
	return c.superseded(ctx, g)
}

// superseded is for new tokens whose grant was ended meanwhile, or renewed by another process that did not wait for ours.
func (c *Client) superseded(ctx context.Context, g *grant) (*grant, error) {
	c.unsaved.drop(g)
	now, err := c.get(ctx, g.id)
	if errors.Is(err, ErrEnded) {
		c.revoke(ctx, g)
	}
	return now, err
}

// saveAgain tries to store what is kept in memory, at most once a second, and reports whether it need not be kept any more.
func (c *Client) saveAgain(ctx context.Context, g *grant) bool {
	if !c.unsaved.turn(g.id) {
		return false
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), saveTime)
	defer cancel()
	ok, err := c.store.refreshed(ctx, g)
	if err != nil {
		return false
	}
	c.unsaved.drop(g)
	if ok {
		c.config.Log.Info("new tokens that were kept in memory are stored", "did", g.did)
	} else if now, err := c.store.grant(ctx, g.id); err == nil && (now == nil || now.ended != "") {
		c.revoke(ctx, g)
	}
	return true
}

// end keeps why a grant has ended, gives tokens back that are not to be used, and returns the reason as an error.
func (c *Client) end(ctx context.Context, g *grant, r result) error {
	c.unsaved.drop(g)
	if _, err := c.store.endGrant(ctx, g, r.reason, c.config.Clock()); err != nil {
		c.config.Log.Error("the end of a grant can't be stored", "did", g.did, "err", err)
	}
	c.config.Log.Info("grant ended", "did", g.did, "server", g.server, "reason", r.reason, "err", r.cause)
	if r.tokens != nil {
		c.revoke(ctx, g.with(r.tokens, c.config.Clock()))
	}
	return c.ended(r.reason, r.cause)
}
