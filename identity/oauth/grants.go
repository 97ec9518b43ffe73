package oauth

import (
	"crypto/rand"
	"encoding/hex"
	"time"
)

// Grant is one sign-in at one server.
type Grant struct {
	ID      string   // begins with "oauth-"
	DID     string   // the account
	Server  string   // URL of the server that gave the tokens
	Scopes  []string // what was granted
	Missing []string // what is asked for today or was when it began, and was not granted
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

	asked, scopes []string
	expires       time.Time // of the access token
	keep          bool

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
