package oauth

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	indigo "github.com/bluesky-social/indigo/atproto/auth/oauth"
	"github.com/bluesky-social/indigo/atproto/syntax"

	"github.com/atcr-dev/atcr/identity"
)

const (
	requestLife = 10 * time.Minute // from Begin to Finish
	maxData     = 4 << 10
	maxRequests = 20_000 // that wait for an answer
)

// Begin says whom to sign in.
type Begin struct {
	// Account is a handle or DID, as somebody typed it. Required.
	Account string
	// Keep says that the grant is to be renewed at least weekly although nobody uses it: see [Client.Keep].
	Keep bool
	// Data comes back from [Client.Finish]: up to 4 KiB, such as where to go then. It is kept encrypted.
	Data []byte
	// Browser is what an earlier [Started] gave the same browser, if it still has it: then sign-ins in two tabs don't disturb each other.
	// Anything else is replaced by a new value.
	Browser string
}

// Started is a sign-in that waits for the person.
type Started struct {
	// URL is where to send the browser: the account's server, which asks the person.
	URL string
	// Browser is a secret that the browser is to bring back to Finish: set it as a cookie, HttpOnly and SameSite=Lax.
	Browser string
	// Expires is when Finish will be too late, in ten minutes.
	Expires time.Time
}

// request is what Finish needs to know of what Begin did.
type request struct {
	DID      string   `json:"did"`
	PDS      string   `json:"pds"`
	Server   server   `json:"server"`
	ClientID string   `json:"client_id"`
	KeyID    string   `json:"key_id,omitempty"`
	Redirect string   `json:"redirect"`
	Verifier string   `json:"verifier"` // RFC 7636
	DPoP     string   `json:"dpop"`     // private key, multibase
	Grant    string   `json:"grant"`    // id that the grant will have
	Scopes   []string `json:"scopes"`   // asked for
	Keep     bool     `json:"keep,omitempty"`
	Data     []byte   `json:"data,omitempty"`
}

// Begin asks the account's server to sign somebody in, and returns where to send the browser. Nothing is granted before the browser comes
// back to CallbackPath and [Client.Finish] is called.
//
// Errors: ErrAccount when there is no such account; ErrUnsupported when its server has no OAuth that could be used; ErrUnavailable and
// ErrTooManyRequests, also when too many sign-ins wait.
func (c *Client) Begin(ctx context.Context, o Begin) (*Started, error) {
	if len(o.Data) > maxData {
		return nil, fmt.Errorf("oauth: Data has %d bytes, and %d are kept: keep it elsewhere and give its id", len(o.Data), maxData)
	}
	acc, err := c.account(ctx, o.Account)
	if err != nil {
		return nil, err
	}
	pds, err := c.agent.origin(acc.PDSEndpoint())
	if err != nil {
		return nil, failed(ErrUnsupported, err, "the account's document names no server that could be used: %v", err)
	}
	waiting, err := c.store.countRequests(ctx, c.config.Clock())
	if err != nil {
		return nil, fmt.Errorf("oauth: %w", err)
	}
	if waiting >= maxRequests {
		e := failed(ErrTooManyRequests, nil, "too many sign-ins wait for an answer: try again in a minute")
		e.RetryAfter = time.Minute
		return nil, e
	}
	srv, err := c.agent.discover(ctx, pds)
	if err != nil {
		return nil, cmp.Or(ctx.Err(), err)
	}
	dpop, err := newDPoPKey()
	if err != nil {
		return nil, err
	}
	r := &request{
		DID: acc.DID.String(), PDS: pds, Server: *srv, ClientID: c.self.id, Redirect: c.self.redirect,
		Verifier: secret(), DPoP: dpop.Multibase(), Grant: newGrantID(), Keep: o.Keep, Data: o.Data,
	}
	hint := r.DID
	if acc.Handle != "" && acc.Handle != syntax.HandleInvalid {
		hint = acc.Handle.String()
	}
	state := secret()
	uri, err := c.push(ctx, r, hint, state)
	if err != nil {
		return nil, err
	}
	started := &Started{Browser: o.Browser, Expires: c.config.Clock().Add(requestLife)}
	if b, err := base64.RawURLEncoding.DecodeString(o.Browser); err != nil || len(b) != 32 {
		started.Browser = secret()
	}
	plain, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	if err := c.store.putRequest(ctx, state, started.Browser, plain, started.Expires); err != nil {
		return nil, fmt.Errorf("oauth: %w", err)
	}
	started.URL = srv.Authorize + "?" + url.Values{"client_id": {r.ClientID}, "request_uri": {uri}}.Encode()
	return started, nil
}

// secret returns 256 random bits.
func secret() string {
	var b [32]byte
	rand.Read(b[:]) //nolint:errcheck // it never fails
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// account looks up whom somebody typed.
func (c *Client) account(ctx context.Context, typed string) (*identity.Account, error) {
	name := strings.TrimPrefix(strings.TrimPrefix(strings.TrimSpace(typed), "at://"), "@")
	if name == "" {
		return nil, failed(ErrAccount, nil, "no account is named: give a handle, like alice.example.com")
	}
	id, err := syntax.ParseAtIdentifier(name)
	if err != nil {
		return nil, failed(ErrAccount, err, "%q is neither a handle, like alice.example.com, nor a DID", plain(name, 128))
	}
	acc, err := c.config.Directory.Lookup(ctx, id.Normalize())
	switch {
	case err == nil && acc.PDSEndpoint() == "":
		return nil, failed(ErrAccount, nil, "%s has no server: the account is not on the network", id)
	case err == nil:
		return acc, nil
	case errors.Is(err, identity.ErrHandleNotFound), errors.Is(err, identity.ErrDIDNotFound), errors.Is(err, identity.ErrInvalidHandle),
		errors.Is(err, identity.ErrHandleReservedTLD):
		return nil, failed(ErrAccount, err, "there is no account %s", id)
	case errors.Is(err, identity.ErrHandleMismatch), errors.Is(err, identity.ErrHandleNotDeclared):
		return nil, failed(ErrAccount, err, "the handle %s leads to an account that names another one: sign in by that, or by the DID", id)
	case ctx.Err() != nil:
		return nil, ctx.Err()
	}
	e := failed(ErrUnavailable, err, "%s can't be looked up now: try again later", id)
	e.RetryAfter = 30 * time.Second
	return nil, e
}

// push sends the authorization request ahead (RFC 9126) and returns the name that the server gives it. Where the server refuses scopes,
// others are asked; a key that it does not know, having an older copy of our metadata, is replaced by the one before.
func (c *Client) push(ctx context.Context, r *request, hint, state string) (uri string, err error) {
	keyIDs := []string{""}
	if !c.self.public {
		keyIDs = keyIDs[:0]
		for _, k := range c.agent.keys.all() {
			keyIDs = append(keyIDs, k.id)
		}
		keyIDs = keyIDs[:min(len(keyIDs), 2)]
	}
	wishes := wishes(c.self.asked)
	for {
		r.KeyID, r.Scopes = keyIDs[0], wishes[0]
		var body []byte
		if body, err = c.pushOnce(ctx, r, hint, state); err == nil {
			return parsePushed(body, &r.Server)
		}
		switch {
		case isRefused(err, "invalid_scope") && len(wishes) > 1:
			c.config.Log.Info("a server refuses scopes: asking others", "server", r.Server.Issuer, "err", err, "scopes", wishes[1])
			wishes = wishes[1:]
		case isRefused(err, "invalid_client") && len(keyIDs) > 1:
			c.config.Log.Info("a server refuses the newest client key: using the one before", "server", r.Server.Issuer, "err", err)
			keyIDs = keyIDs[1:]
		case ctx.Err() != nil:
			return "", ctx.Err()
		default:
			return "", c.agent.serverError(r.Server.Issuer, err)
		}
	}
}

// transition are the scopes for servers that know no finer ones.
var transition = []string{scopeBase, scopeTransition}

// wishes are the lists of scopes to be asked, one after another while a server refuses them: what is asked; that without permission sets,
// which the server must find in the network; and the general scope, if it has all of it.
func wishes(asked []string) [][]string {
	out := [][]string{asked}
	single := slices.DeleteFunc(slices.Clone(asked), func(s string) bool { return parseScope(s).resource == "include" })
	if len(single) < len(asked) && len(single) > 1 {
		out = append(out, single)
	}
	if len(asked) > 1 && !slices.Contains(asked, scopeTransition) && len(missingScopes(asked, transition)) == 0 {
		out = append(out, transition)
	}
	return out
}

func (c *Client) pushOnce(ctx context.Context, r *request, hint, state string) ([]byte, error) {
	call, err := r.call(r.Server.PAR, url.Values{
		"response_type": {"code"}, "redirect_uri": {r.Redirect}, "scope": {strings.Join(r.Scopes, " ")}, "state": {state},
		"code_challenge": {indigo.S256CodeChallenge(r.Verifier)}, "code_challenge_method": {"S256"}, "login_hint": {hint},
	})
	if err != nil {
		return nil, err
	}
	return c.agent.post(ctx, call)
}

func parsePushed(body []byte, srv *server) (uri string, err error) {
	var out indigo.PushedAuthResponse
	if err := json.Unmarshal(body, &out); err == nil && out.RequestURI != "" && len(out.RequestURI) <= maxURL && visible(out.RequestURI) {
		return out.RequestURI, nil
	}
	return "", failed(ErrUnsupported, err, "the account's server %s took the request and names it in no way that could be used: "+
		"use an app password", hostOf(srv.Issuer))
}
