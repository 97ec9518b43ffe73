package oauth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	indigo "github.com/bluesky-social/indigo/atproto/auth/oauth"

	"github.com/atcr-dev/atcr/internal/httpx"
)

const (
	touchEvery    = time.Hour
	maxErrorBody  = 16 << 10
	directoryTime = 2 * time.Second // for the account's document, while the token lives
	// justRefreshed is how young a token is when a 401 that doesn't name it is no reason to renew it.
	justRefreshed = 30 * time.Second
)

// Do sends a request to the account's server with a grant's token. req.URL has a path ("/xrpc/…") and query only; scheme, host,
// Authorization and DPoP are filled in. It may be sent up to four times, when the server wants another nonce and when the token has
// ended: so a body needs GetBody (as http.NewRequest sets it for bytes and strings), and without it nothing is sent. Redirects are not
// followed. The caller closes the answer's body and judges its status; 401 is returned only when a new token did not help.
//
// Errors: ErrEnded, saying why; ErrUnavailable and ErrTooManyRequests; ErrDenied when the grant's scopes don't allow what was asked.
func (c *Client) Do(ctx context.Context, grant string, req *http.Request) (*http.Response, error) {
	if req.Body != nil && req.Body != http.NoBody {
		defer req.Body.Close()
		if req.GetBody == nil {
			return nil, fmt.Errorf("oauth: the body of %s can't be sent twice: set GetBody of the request", req.URL.Path)
		}
	}
	g, err := c.live(ctx, grant)
	if err != nil {
		return nil, err
	}
	resp, err := c.send(ctx, g, req)
	if err != nil {
		return nil, err
	}
	ended, err := c.tokenEnded(g, resp)
	if err != nil {
		return nil, c.notSent(ctx, g, err)
	}
	if !ended {
		return c.allowed(ctx, g, resp)
	}
	httpx.Drain(resp)
	if g, err = c.renew(ctx, g, true); err != nil {
		return nil, err
	}
	if resp, err = c.send(ctx, g, req); err != nil {
		return nil, err
	}
	return c.allowed(ctx, g, resp)
}

// live returns a grant whose token can be used now.
func (c *Client) live(ctx context.Context, id string) (*grant, error) {
	g, err := c.get(ctx, id)
	if err != nil {
		return nil, err
	}
	// A directory that is away or slow stops nobody whose token is good.
	soon, cancel := context.WithTimeout(ctx, directoryTime)
	err = c.sameServer(soon, g)
	cancel()
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case errors.Is(err, ErrEnded):
		return nil, err
	}
	now := c.config.Clock()
	if now.Sub(g.used) > touchEvery {
		if err := c.store.touchGrant(ctx, id, now); err != nil {
			c.config.Log.Warn("the time at which a grant was used last can't be stored", "did", g.did, "err", err)
		}
	}
	if !g.due(now) {
		return g, nil
	}
	return c.renew(ctx, g, false)
}

// get returns a grant that has not ended.
func (c *Client) get(ctx context.Context, id string) (*grant, error) {
	if g := c.unsaved.get(id); g != nil && !c.saveAgain(ctx, g) {
		return g, nil
	}
	g, err := c.store.grant(ctx, id)
	switch {
	case err != nil:
		return nil, fmt.Errorf("oauth: %w", err)
	case g == nil:
		return nil, c.ended(reasonUnknown, nil)
	case g.ended != "":
		return nil, c.ended(g.ended, nil)
	}
	return g, nil
}

// send sends a request, once more when the server wants another nonce.
func (c *Client) send(ctx context.Context, g *grant, req *http.Request) (*http.Response, error) {
	base, err := url.Parse(g.pds)
	if err != nil {
		return nil, fmt.Errorf("oauth: grant of %s: %w", g.did, err)
	}
	key, err := g.key()
	if err != nil {
		return nil, err
	}
	nonce := c.agent.nonces.get(g.id, base)
	for try := 1; ; try++ {
		r := req.Clone(ctx)
		r.URL.Scheme, r.URL.Host, r.Host = base.Scheme, base.Host, ""
		if req.GetBody != nil {
			if r.Body, err = req.GetBody(); err != nil {
				return nil, fmt.Errorf("oauth: body of %s: %w", req.URL.Path, err)
			}
		}
		proof, err := proofFor(key, g, r, nonce)
		if err != nil {
			return nil, fmt.Errorf("oauth: proving possession of the key: %w", err)
		}
		r.Header.Set("Authorization", "DPoP "+g.secrets.Access)
		r.Header.Set("DPoP", proof)
		resp, err := c.agent.http.Do(r)
		if err != nil {
			return nil, c.notSent(ctx, g, err)
		}
		next := c.agent.nonces.saw(g.id, base, resp.Header)
		wants, err := wantsNonce(resp)
		if err != nil {
			return nil, c.notSent(ctx, g, err)
		}
		if !wants {
			return resp, nil
		}
		httpx.Drain(resp)
		if try > 1 || next == "" || next == nonce {
			return nil, c.notSent(ctx, g, errors.New("it wants another nonce each time, or names none"))
		}
		nonce = next
	}
}

// proofFor proves to the account's server that we have the key which the token is bound to (RFC 9449 §7).
func proofFor(key *atcrypto.PrivateKeyP256, g *grant, r *http.Request, nonce string) (string, error) {
	s := indigo.ClientSession{
		Data:           &indigo.ClientSessionData{AuthServerURL: g.server, AccessToken: g.secrets.Access, DPoPHostNonce: nonce},
		DPoPPrivateKey: key,
	}
	return s.NewHostDPoP(r.Method, r.URL.Scheme+"://"+r.URL.Host+r.URL.EscapedPath())
}

// notSent is the error for a server that gave no answer that could be used.
func (c *Client) notSent(ctx context.Context, g *grant, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if errors.Is(err, httpx.ErrForbiddenAddress) { // trying again does not help
		return failed(ErrUnsupported, err, "the account's server %s can't be used: its address is not public, or not one that may be "+
			"asked from here", hostOf(g.pds))
	}
	e := failed(ErrUnavailable, err, "the account's server %s does not answer as it should: try again later", hostOf(g.pds))
	e.RetryAfter = 30 * time.Second
	return e
}

// wantsNonce reports whether an answer says that the proof needs another nonce. Its body can still be read.
func wantsNonce(resp *http.Response) (bool, error) {
	switch resp.StatusCode {
	case http.StatusUnauthorized:
		return challengeError(resp.Header) == "use_dpop_nonce", nil
	case http.StatusBadRequest:
		if resp.Header.Get("DPoP-Nonce") == "" {
			return false, nil
		}
		name, _, err := bodyError(resp)
		return name == "use_dpop_nonce", err
	}
	return false, nil
}

// tokenEnded reports whether an answer says that the access token is no longer good. Its body can still be read.
func (c *Client) tokenEnded(g *grant, resp *http.Response) (bool, error) {
	if resp.StatusCode != http.StatusUnauthorized && resp.StatusCode != http.StatusBadRequest {
		return false, nil
	}
	name, _, err := bodyError(resp)
	if err != nil || accountOff(name) {
		return false, err
	}
	if resp.StatusCode == http.StatusBadRequest {
		return name == "ExpiredToken" || name == "InvalidToken" || name == "invalid_token", nil
	}
	switch challengeError(resp.Header) {
	case "invalid_token":
		return true, nil
	case "invalid_dpop_proof", "insufficient_scope":
		return false, nil
	}
	return c.config.Clock().Sub(g.refreshed) > justRefreshed, nil
}

// accountOff reports whether an error's name says that the account is not in use.
func accountOff(name string) bool {
	return name == "AccountDeactivated" || name == "AccountTakedown" || name == "AccountSuspended"
}

// allowed returns an answer, or the error for one that says that the account is not in use or the grant does not allow what was asked.
func (c *Client) allowed(ctx context.Context, g *grant, resp *http.Response) (*http.Response, error) {
	switch resp.StatusCode {
	case http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden:
	default:
		return resp, nil
	}
	name, message, err := bodyError(resp)
	switch {
	case err != nil:
		return nil, c.notSent(ctx, g, err)
	case accountOff(name):
		httpx.Drain(resp)
		return nil, failed(ErrDenied, nil, "the account's server %s says that the account is not in use (%s): activate it there, or ask "+
			"whoever runs that server", hostOf(g.pds), orElse(message, name))
	case resp.StatusCode != http.StatusForbidden:
	case name == "ScopeMissingError" || challengeError(resp.Header) == "insufficient_scope":
		httpx.Drain(resp)
		return nil, failed(ErrDenied, nil, "your sign-in does not allow this (%s): sign in again at %s",
			orElse(message, "the scope is missing"), c.config.URL)
	}
	return resp, nil
}

// bodyError reads the name and message of an XRPC or OAuth error; the body can still be read.
func bodyError(resp *http.Response) (name, message string, err error) {
	head, err := httpx.Peek(resp, maxErrorBody)
	if err != nil {
		return "", "", err
	}
	var wire struct {
		Error       string `json:"error"`
		Message     string `json:"message"`
		Description string `json:"error_description"`
	}
	if json.Unmarshal(head, &wire) != nil {
		return "", "", nil
	}
	return wire.Error, plain(orElse(wire.Message, wire.Description), 256), nil
}

// challengeError returns the error code of WWW-Authenticate (RFC 6750 §3, RFC 9449 §7.1), or "".
func challengeError(h http.Header) string {
	for _, v := range h.Values("WWW-Authenticate") {
		if len(v) > 4096 {
			continue
		}
		for v != "" {
			var name, value string
			name, value, v = nextParam(v)
			if strings.EqualFold(name, "error") && value != "" {
				return value
			}
		}
	}
	return ""
}

// nextParam reads one auth-param, name=token or name="quoted", of a list with commas; a scheme before it is left out.
func nextParam(s string) (name, value, rest string) {
	s = strings.TrimLeft(s, " \t,")
	i := strings.IndexAny(s, "=,")
	if i < 0 || s[i] == ',' {
		if i < 0 {
			return "", "", ""
		}
		return "", "", s[i+1:]
	}
	name, s = strings.TrimRight(s[:i], " \t"), strings.TrimLeft(s[i+1:], " \t")
	name = name[strings.LastIndexAny(name, " \t")+1:]
	if !strings.HasPrefix(s, `"`) {
		value, rest, _ = strings.Cut(s, ",")
		return name, strings.TrimSpace(value), rest
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '"':
			return name, b.String(), s[i+1:]
		case '\\':
			if i++; i < len(s) {
				b.WriteByte(s[i])
			}
		default:
			b.WriteByte(s[i])
		}
	}
	return name, "", "" // not closed
}
