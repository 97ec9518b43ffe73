package auth

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"github.com/atcr-dev/atcr/identity"
	"github.com/atcr-dev/atcr/internal/httpx"
	"github.com/atcr-dev/atcr/internal/keylock"
	"github.com/atcr-dev/atcr/registry"
)

const (
	checkEvery   = 10 * time.Minute // a session in use is refreshed at the PDS at least so often
	keepUnused   = 30 * 24 * time.Hour
	touchEvery   = time.Hour
	expiryMargin = 30 * time.Second
	serviceTTL   = time.Minute
)

// Sessions acts for signed-in accounts at their PDSes, by sessions of app passwords and by grants of OAuth. A session is named by
// the id in the registry's token (registry.Actor.Session); it outlives a restart. Safe for concurrent use.
//
// Errors are of kind registry.ErrUnauthorized when the session is unknown, has ended or was refused by the PDS (signing in again
// is the remedy), registry.ErrTooManyRequests with RetryAfter when the PDS says so, registry.ErrUnavailable when it does
// not answer.
type Sessions struct {
	store     *store
	directory identity.Directory
	testMode  bool
	http      *http.Client
	clock     func() time.Time
	log       *slog.Logger
	locks     keylock.Locks // by DID: one refresh at a time; by "add " and DID: one new session; by "sign in " and MAC: one sign-in
	inUse     func(ctx context.Context, did string) ([]string, error)
	max       int          // of all accounts
	made      atomic.Int64 // new sessions
	limits    *pdsLimits
	grants    *grants
	unsaved   unsaved
}

// Do sends a request to the session's PDS with its credentials. req.URL has a path ("/xrpc/…") and query only; scheme, host and
// Authorization are filled in. It may be sent twice, when the access token turns out to have ended: a body needs GetBody (as
// http.NewRequest sets it for bytes and strings), else the first answer stands. Redirects are not followed. The caller
// closes the answer's body and judges its status.
func (s *Sessions) Do(ctx context.Context, id string, req *http.Request) (*http.Response, error) {
	if isGrant(id) {
		return s.grants.do(ctx, id, req)
	}
	e, err := s.live(ctx, id)
	if err != nil {
		return nil, err
	}
	resp, err := s.send(ctx, e, req)
	if err != nil {
		return nil, err
	}
	ended, err := tokenEnded(resp)
	if err != nil {
		return nil, down(e.pds, err)
	}
	if !ended || req.Body != nil && req.Body != http.NoBody && req.GetBody == nil {
		return resp, nil
	}
	httpx.Drain(resp)
	if e, err = s.refresh(ctx, e); err != nil {
		return nil, err
	}
	return s.send(ctx, e, req)
}

func (s *Sessions) send(ctx context.Context, e *session, req *http.Request) (*http.Response, error) {
	base, err := url.Parse(e.pds)
	if err != nil {
		return nil, fmt.Errorf("session of %s: %w", e.did, err)
	}
	r := req.Clone(ctx)
	r.URL.Scheme, r.URL.Host, r.Host = base.Scheme, base.Host, ""
	r.Header.Set("Authorization", "Bearer "+e.tokens.Access)
	if req.GetBody != nil {
		if r.Body, err = req.GetBody(); err != nil {
			return nil, fmt.Errorf("body of %s: %w", req.URL.Path, err)
		}
	}
	if err := s.limits.wait(ctx, base.Host, isRead(req)); err != nil {
		return nil, err
	}
	resp, err := s.http.Do(r)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, down(e.pds, err)
	}
	s.limits.saw(base.Host, resp.Header)
	return resp, nil
}

// isRead reports whether a call is for a pull.
func isRead(req *http.Request) bool { return req.URL.Query().Get("lxm") == "com.atproto.sync.getBlob" }

// tokenEnded reports whether an answer says that the access token is no longer good: the reference PDS answers 400 ExpiredToken,
// others 401. The answer's body can still be read.
func tokenEnded(resp *http.Response) (bool, error) {
	if resp.StatusCode != http.StatusBadRequest && resp.StatusCode != http.StatusUnauthorized {
		return false, nil
	}
	head, err := httpx.Peek(resp, maxAnswer)
	if err != nil {
		return false, err
	}
	if resp.StatusCode == http.StatusUnauthorized {
		return true, nil
	}
	switch readError(resp, head).name {
	case "ExpiredToken", "InvalidToken":
		return true, nil
	}
	return false, nil
}

// ServiceToken gets a token by com.atproto.server.getServiceAuth for one method of a service: aud is "did:…" or "did:…#atcr_hold".
// It is for one call within a minute: holds take none twice. An audience that the PDS refuses is registry.ErrDenied.
func (s *Sessions) ServiceToken(ctx context.Context, id, aud, lxm string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*callTimeout)
	defer cancel()
	q := url.Values{"aud": {aud}, "lxm": {lxm}, "exp": {strconv.FormatInt(s.clock().Add(serviceTTL).Unix(), 10)}}
	req, err := http.NewRequest(http.MethodGet, "/xrpc/com.atproto.server.getServiceAuth?"+q.Encode(), nil)
	if err != nil {
		return "", err
	}
	var out struct{ Token string }
	err = s.doJSON(ctx, id, req, &out)
	var x *xrpcError
	switch {
	case err == nil && out.Token == "":
		return "", registry.ErrUnavailable.With("the account's server gave no service token")
	case err == nil && len(out.Token) > maxPDSToken:
		return "", registry.ErrDenied.With("the account's server gave a service token of more than %d bytes", maxPDSToken)
	case errors.As(err, &x) && (x.status == http.StatusBadRequest || x.status == http.StatusForbidden):
		return "", registry.ErrDenied.With("the account's server gives no token for %.128s of %.128s: %s", lxm, aud, x.message).Wrap(err)
	}
	return out.Token, err
}

// doJSON is Do for short answers. Errors besides those of Do: *xrpcError within the chain for an answer that is not 200.
func (s *Sessions) doJSON(ctx context.Context, id string, req *http.Request, out any) error {
	resp, err := s.Do(ctx, id, req)
	if err != nil {
		return err
	}
	b, err := httpx.ReadLimited(resp, maxAnswer)
	if err != nil {
		return registry.ErrUnavailable.With("the account's server does not answer").Wrap(err)
	}
	if resp.StatusCode == http.StatusOK {
		return decode(b, out)
	}
	x := readError(resp, b)
	switch {
	case x.status == http.StatusTooManyRequests:
		return busy(hostOf(resp.Request.URL.String()), x)
	case x.status == http.StatusUnauthorized:
		return errNoSession.Wrap(x)
	case x.status >= 500:
		return down(resp.Request.URL.String(), x)
	}
	return x
}

// lives returns nil when a session is there. Errors: of kind ErrUnauthorized when it isn't.
func (s *Sessions) lives(ctx context.Context, id string) error {
	if isGrant(id) {
		return s.grants.lives(ctx, id)
	}
	ok, err := s.store.exists(ctx, id)
	if err == nil && !ok {
		return errNoSession
	}
	return err
}

// owned returns nil when a session or grant is there and an account's. Errors: of kind ErrUnauthorized when it has ended; else a mistake of
// the caller's.
func (s *Sessions) owned(ctx context.Context, did, id string) error {
	if isGrant(id) {
		return s.grants.owned(ctx, did, id)
	}
	e, err := s.read(ctx, id)
	switch {
	case err != nil:
		return err
	case e == nil:
		return errNoSession
	case e.did != did:
		return fmt.Errorf("auth: the session is not one of %s", did)
	}
	return nil
}

// End ends an account's session or grant at its server, as far as that answers, unless a device, a robot, a refresh token, an upload or a
// push acts by it, too. One that isn't there is no error.
func (s *Sessions) End(ctx context.Context, did, id string) error {
	if kept, err := s.store.kept(ctx, id, s.clock()); err != nil || kept {
		return err
	}
	if isGrant(id) {
		return s.grants.end(ctx, id)
	}
	e, err := s.read(ctx, id)
	if err != nil || e == nil || e.did != did {
		return err
	}
	if used, err := s.inUse(ctx, did); err != nil || slices.Contains(used, id) {
		return err
	}
	if err := s.store.drop(ctx, id); err != nil {
		return err
	}
	if err := call(ctx, s.http, http.MethodPost, e.pds, "com.atproto.server.deleteSession", e.tokens.Refresh, nil, nil); err != nil {
		s.log.Debug("ending a session at its server", "did", did, "err", err)
	}
	return nil
}

// live returns a session that may be used now: refreshed when its token is about to end or the PDS has not been asked for ten
// minutes. A PDS that is down does not end a session whose token still holds.
func (s *Sessions) live(ctx context.Context, id string) (*session, error) {
	if id == "" {
		return nil, errNoSession
	}
	e, err := s.read(ctx, id)
	if err != nil {
		return nil, err
	}
	if e == nil {
		return nil, errNoSession
	}
	if now := s.clock(); now.Sub(e.used) > keepUnused {
		if kept, err := s.store.kept(ctx, id, now); err != nil || !kept {
			return nil, errors.Join(errNoSession, err)
		}
	}
	return s.fresh(ctx, e)
}

// fresh is live for a session that was read already.
func (s *Sessions) fresh(ctx context.Context, e *session) (*session, error) {
	now := s.clock()
	_, expires := accessClaims(e.tokens.Access)
	ending := !expires.IsZero() && !now.Before(expires.Add(-expiryMargin))
	if !ending && now.Sub(e.checked) < checkEvery {
		if now.Sub(e.used) > touchEvery {
			if err := s.store.touch(ctx, e.id, now); err != nil { // a full disk, say: no reason to refuse anybody
				s.log.Warn("the use of a session could not be noted", "did", e.did, "err", err)
			}
		}
		return e, nil
	}
	return s.refresh(ctx, e)
}

// refresh gets new tokens for a session, or finds that somebody just did. A PDS that refuses ends it.
func (s *Sessions) refresh(ctx context.Context, old *session) (*session, error) {
	unlock, err := s.locks.Lock(ctx, old.did)
	if err != nil {
		return nil, err
	}
	defer unlock()
	e, err := s.read(ctx, old.id)
	if err != nil {
		return nil, err
	}
	if e == nil {
		return nil, errNoSession
	}
	if e.tokens != old.tokens {
		return e, nil
	}
	if err := s.sameServer(ctx, e); err != nil {
		return nil, err
	}
	// What the PDS answers is kept even when the caller has gone: the old refresh token may be spent.
	ctx = context.WithoutCancel(ctx)
	var out struct{ AccessJwt, RefreshJwt, Did string }
	err = call(ctx, s.http, http.MethodPost, e.pds, "com.atproto.server.refreshSession", e.tokens.Refresh, nil, &out)
	var x *xrpcError
	switch {
	case len(out.AccessJwt) > maxPDSToken || len(out.RefreshJwt) > maxPDSToken:
		return nil, tooLong(e.pds)
	case err == nil && out.Did == e.did && out.AccessJwt != "" && out.RefreshJwt != "":
		e.tokens, e.used, e.checked = tokens{out.AccessJwt, out.RefreshJwt}, s.clock(), s.clock()
		if err := s.store.refreshed(ctx, e, e.checked); err != nil {
			if !s.unsaved.put(e) {
				return nil, err
			}
			s.log.Warn("new tokens of a session can't be saved, and are used from memory until they can", "did", e.did, "err", err)
			return e, nil
		}
		s.unsaved.drop(e.id)
		return e, nil
	case err == nil:
		return nil, down(e.pds, errors.New("refreshSession answered for another account or without tokens"))
	case errors.As(err, &x) && x.status == http.StatusTooManyRequests:
		return nil, busy(e.pds, x)
	case errors.As(err, &x) && (x.status == http.StatusBadRequest || x.status == http.StatusUnauthorized):
		s.log.Info("session refused by its server", "did", e.did, "pds", hostOf(e.pds), "err", x)
		s.unsaved.drop(e.id)
		return nil, errors.Join(errNoSession.Wrap(x), s.store.drop(ctx, e.id))
	}
	return nil, down(e.pds, err)
}

// errMoved: the account is at another server than the one that gave the tokens, or at none.
var errMoved = errNoSession.Wrap(errors.New("the account's server is not the one that the session is from"))

// sameServer returns nil when a session's tokens are from the server that is the account's now: a refresh token goes nowhere else.
// The session of an account that has moved stays for its password, which will sign in there.
func (s *Sessions) sameServer(ctx context.Context, e *session) error {
	acc, err := s.directory.LookupDID(ctx, syntax.DID(e.did))
	switch {
	case err == nil && pdsOf(acc, s.testMode) == e.pds:
		return nil
	case err == nil:
		return errMoved
	case ctx.Err() != nil:
		return ctx.Err()
	case unresolved(err):
		u := registry.ErrUnavailable.With("%s can't be resolved now: try again", e.did).Wrap(err)
		u.RetryAfter = 30 * time.Second
		return u
	}
	return errNoSession.Wrap(err)
}

func (s *Sessions) prune(ctx context.Context) error {
	now := s.clock()
	n, err := s.store.dropUnused(ctx, now.Add(-keepUnused), now)
	if err != nil {
		return fmt.Errorf("dropping old sessions: %w", err)
	}
	if n > 0 {
		s.log.Info("old sessions dropped", "count", n)
	}
	return s.trim(ctx)
}
