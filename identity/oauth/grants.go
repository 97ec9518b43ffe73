package oauth

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
)

const renewBefore = 5 * time.Minute

// Grant is one sign-in at one server.
type Grant struct {
	ID      string   // begins with "oauth-"
	DID     string   // the account
	Server  string   // URL of the server that gave the tokens
	Scopes  []string // what was granted
	Missing []string // what is asked for today and was not granted then: signing in again adds it
	Keep    bool     // renewed at least weekly although nobody uses it
	Created time.Time
	Used    time.Time // to the hour
	// Lost: the answer to a refresh was lost, in a crash or on the way. The grant may end with its access token.
	Lost bool
	// Ended says why the grant has ended; empty while it lives. Ended grants stay for 30 days, so that the reason can be shown.
	Ended string
}

// grant is a row of oauth_grant, opened.
type grant struct {
	id, did     string
	server, pds string // URLs: of the issuer, and of the account's server
	clientID    string
	keyID       string // "" is a public client's
	secrets     secrets

	scopes  []string  // granted
	expires time.Time // of the access token
	keep    bool

	created, used, refreshed time.Time

	refreshing string
	generation int64
	lost       bool
	ended      string // one of the reasons
}

// secrets are what is sealed of a grant: tokens, the key that they are bound to, and where they are sent beside grant.pds.
type secrets struct {
	Access        string `json:"access"`
	Refresh       string `json:"refresh"`
	Key           string `json:"key"` // P-256, multibase
	TokenEndpoint string `json:"token_endpoint"`
	RevokeAt      string `json:"revocation_endpoint,omitempty"` // "": the server has none
}

// newGrantID returns an id for a new grant.
func newGrantID() string {
	var b [16]byte
	rand.Read(b[:]) //nolint:errcheck // it never fails
	return "oauth-" + hex.EncodeToString(b[:])
}

// bound is everything that says whose the secrets are and where they are sent.
func (g *grant) bound() []byte {
	return bind("grant", g.id, g.did, g.server, g.pds, g.clientID, g.keyID)
}

// key is the key that the tokens are bound to.
func (g *grant) key() (*atcrypto.PrivateKeyP256, error) {
	k, err := atcrypto.ParsePrivateMultibase(g.secrets.Key)
	if err != nil {
		return nil, fmt.Errorf("oauth: key of a grant of %s: %w", g.did, err)
	}
	key, ok := k.(*atcrypto.PrivateKeyP256)
	if !ok {
		return nil, fmt.Errorf("oauth: key of a grant of %s is not of P-256", g.did)
	}
	return key, nil
}

// call is a POST to the server that gave the tokens.
func (g *grant) call(endpoint string, form url.Values) (call, error) {
	key, err := g.key()
	if err != nil {
		return call{}, err
	}
	return call{endpoint: endpoint, issuer: g.server, clientID: g.clientID, keyID: g.keyID, dpop: key, grant: g.id, form: form}, nil
}

// alive reports whether the access token has not come to its end.
func (g *grant) alive(now time.Time) bool { return now.Before(g.expires) }

// due reports whether it is time for a new access token.
func (g *grant) due(now time.Time) bool {
	if g.lost { // the refresh token may be spent, and showing it ends the access token, too
		return !g.alive(now)
	}
	return g.expires.Sub(now) <= min(renewBefore, g.expires.Sub(g.refreshed)/3)
}

// ended is the error for a grant that is of no use any more.
func (c *Client) ended(reason string, cause error) *Error {
	return failed(ErrEnded, cause, "your sign-in has ended: %s. Sign in again at %s", reason, c.config.URL)
}

// Grant returns a grant, also one that has ended. Errors: ErrEnded when there is none of that id.
func (c *Client) Grant(ctx context.Context, id string) (*Grant, error) {
	g, err := c.store.grant(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("oauth: %w", err)
	}
	if g == nil {
		return nil, c.ended(reasonUnknown, nil)
	}
	out := c.public(g)
	return &out, nil
}

// Grants returns an account's grants, the newest first, of which there are 500 at most. Those that have ended stand there for 30 days.
func (c *Client) Grants(ctx context.Context, did string) ([]Grant, error) {
	all, err := c.store.grantsOf(ctx, did)
	if err != nil {
		return nil, fmt.Errorf("oauth: %w", err)
	}
	out := make([]Grant, 0, len(all))
	for _, g := range all {
		out = append(out, c.public(g))
	}
	return out, nil
}

// Keep says whether a grant is to be renewed at least weekly by [Client.Run], although nobody uses it: one of a device or robot, whose
// refresh token would run out otherwise. Errors: ErrEnded.
func (c *Client) Keep(ctx context.Context, id string, keep bool) error {
	switch ok, err := c.store.keepGrant(ctx, id, keep); {
	case err != nil:
		return fmt.Errorf("oauth: storing a grant: %w", err)
	case ok:
		return nil
	}
	_, err := c.get(ctx, id)
	if err == nil {
		err = errors.New("oauth: the grant changed meanwhile")
	}
	return err
}
