package oauth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
)

// redeemTime is how long a code that was taken is worked on, whether or not the browser waits: it can be shown once.
const redeemTime = 30 * time.Second

// Finished is a sign-in that succeeded.
type Finished struct {
	Grant Grant
	Data  []byte // of Begin
}

// Finish takes the query that a browser came back with to CallbackPath, and the secret of [Started] that it has as a cookie, and keeps
// what was granted. Each sign-in is finished once, whatever comes of it.
//
// Errors: ErrState when the sign-in is unknown, over (ten minutes), finished already or another browser's, or when the query is no answer
// to it; ErrDenied when the person refused or too little was granted, naming what is missing; ErrUnsupported when the server's answer
// can't be used; ErrUnavailable, ErrTooManyRequests. After each of them the person begins anew; nothing stays granted.
func (c *Client) Finish(ctx context.Context, callback url.Values, browser string) (*Finished, error) {
	answer, err := parseCallback(callback)
	if err != nil {
		return nil, failed(ErrState, err, "this address is no answer to a sign-in (%v): begin again", err)
	}
	plain, err := c.store.takeRequest(ctx, answer.state, browser, c.config.Clock())
	switch {
	case err != nil:
		return nil, fmt.Errorf("oauth: %w", err)
	case plain == nil:
		return nil, failed(ErrState, nil, "this sign-in is not known here: it was finished already, took longer than ten minutes, or was "+
			"begun in another browser. Begin again")
	}
	r := &request{}
	if err := json.Unmarshal(plain, r); err != nil {
		return nil, fmt.Errorf("oauth: reading a sign-in: %w", err)
	}
	if answer.issuer != r.Server.Issuer {
		return nil, failed(ErrState, nil, "the answer to the sign-in is another server's (%s) than it was begun at: begin again",
			hostOf(answer.issuer))
	}
	if answer.problem != "" {
		return nil, deniedBy(r, answer)
	}
	// The code and the tokens are there once: who has gone away does not lose them half-way, to stay granted at the server.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), redeemTime)
	defer cancel()
	t, err := c.redeem(ctx, r, answer.code)
	if err != nil {
		return nil, err
	}
	g := r.grant(t, c.config.Clock())
	if err := c.store.insertGrant(ctx, g); err != nil {
		c.giveBack(ctx, r, t)
		return nil, fmt.Errorf("oauth: %w", err)
	}
	c.makeRoom(ctx, g)
	return &Finished{Grant: c.public(g), Data: r.Data}, nil
}

// grant is the row that a request becomes.
func (r *request) grant(t *tokens, now time.Time) *grant {
	return &grant{
		id: r.Grant, did: r.DID, server: r.Server.Issuer, pds: r.PDS, clientID: r.ClientID, keyID: r.KeyID,
		secrets: secrets{
			Access: t.Access, Refresh: t.Refresh, Key: r.DPoP, TokenEndpoint: r.Server.Token, RevokeAt: r.Server.Revoke,
		},
		scopes: t.Scopes, expires: now.Add(t.Life), keep: r.Keep, created: now, used: now, refreshed: now,
	}
}

// answer is a callback's query (RFC 6749 §4.1.2, RFC 9207).
type answer struct {
	state, issuer, code  string
	problem, description string
}

// parseCallback reads a callback's query, which anybody can make up.
func parseCallback(q url.Values) (a answer, err error) {
	for _, f := range []struct {
		name  string
		to    *string
		limit int
	}{
		{"state", &a.state, 128}, {"iss", &a.issuer, maxURL}, {"code", &a.code, maxToken},
		{"error", &a.problem, 128}, {"error_description", &a.description, maxToken},
	} {
		switch v := q[f.name]; {
		case len(v) > 1:
			return answer{}, fmt.Errorf("%s is there %d times", f.name, len(v))
		case len(v) == 1 && len(v[0]) > f.limit:
			return answer{}, fmt.Errorf("%s has more than %d bytes", f.name, f.limit)
		case len(v) == 1:
			*f.to = v[0]
		}
	}
	switch {
	case a.state == "":
		return answer{}, errors.New("state is missing")
	case a.issuer == "":
		return answer{}, errors.New("iss is missing")
	case (a.code == "") == (a.problem == ""):
		return answer{}, errors.New("there must be code or error")
	}
	return a, nil
}

// deniedBy is the error that a server sent a browser back with.
func deniedBy(r *request, a answer) *Error {
	host := hostOf(r.Server.Issuer)
	reason := &refused{status: 400, code: plain(a.problem, 64), description: plain(a.description, 256)}
	switch a.problem {
	case "access_denied":
		return failed(ErrDenied, reason, "access was denied at %s (%s): nothing was granted", host, orElse(reason.description, "by you"))
	case "temporarily_unavailable", "server_error":
		return failed(ErrUnavailable, reason, "the account's server %s could not sign you in now: try again later", host)
	}
	return failed(ErrDenied, reason, "the account's server %s ended the sign-in (%s): begin again", host,
		orElse(strings.TrimSuffix(reason.code+": "+reason.description, ": "), "without a reason"))
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

// redeem gets the tokens for a code, and refuses those that are not what was asked for.
func (c *Client) redeem(ctx context.Context, r *request, code string) (*tokens, error) {
	call, err := r.call(r.Server.Token, url.Values{
		"grant_type": {"authorization_code"}, "code": {code}, "code_verifier": {r.Verifier}, "redirect_uri": {r.Redirect},
	})
	if err != nil {
		return nil, err
	}
	host := hostOf(r.Server.Issuer)
	body, err := c.agent.post(ctx, call)
	switch {
	case isRefused(err, "invalid_grant"):
		return nil, failed(ErrState, err, "the account's server %s does not know its answer to the sign-in (%v): begin again", host, err)
	case errors.Is(err, errNoClientKey):
		return nil, failed(ErrState, err, "the key that the sign-in began with is gone: begin again")
	case err != nil:
		return nil, c.agent.serverError(r.Server.Issuer, err)
	}
	t, err := parseTokens(body, r.DID, tokens{})
	switch {
	case errors.Is(err, errOtherAccount):
		c.giveBack(ctx, r, &t)
		return nil, failed(ErrDenied, err, "another account was signed in at %s than %s: begin again with the one that you mean",
			host, r.DID)
	case err != nil:
		c.giveBack(ctx, r, &t)
		return nil, failed(ErrUnsupported, err, "the account's server %s granted nothing that could be used (%v): use an app password",
			host, err)
	}
	if missing := missingScopes(r.Scopes, t.Scopes); len(missing) > 0 {
		c.giveBack(ctx, r, &t)
		return nil, failed(ErrDenied, nil, "%s granted less than is needed: %s is missing. Begin again and allow all of it, or use an app "+
			"password", host, strings.Join(missing, ", "))
	}
	return &t, nil
}

// giveBack revokes tokens that are not kept, as far as the server lets it.
func (c *Client) giveBack(ctx context.Context, r *request, t *tokens) {
	if t.Refresh == "" || r.Server.Revoke == "" {
		return
	}
	call, err := r.call(r.Server.Revoke, url.Values{"token": {t.Refresh}, "token_type_hint": {"refresh_token"}})
	if err == nil {
		_, err = c.agent.post(ctx, call)
	}
	if err != nil {
		c.config.Log.Warn("tokens that are not kept could not be revoked", "did", r.DID, "server", r.Server.Issuer, "err", err)
	}
}

// call is a POST to the request's server.
func (r *request) call(endpoint string, form url.Values) (call, error) {
	dpop, err := atcrypto.ParsePrivateMultibase(r.DPoP)
	if err != nil {
		return call{}, fmt.Errorf("key of the request: %w", err)
	}
	key, ok := dpop.(*atcrypto.PrivateKeyP256)
	if !ok {
		return call{}, errors.New("key of the request is not of P-256")
	}
	return call{
		endpoint: endpoint, issuer: r.Server.Issuer, clientID: r.ClientID, keyID: r.KeyID, dpop: key, grant: r.Grant, form: form,
	}, nil
}
