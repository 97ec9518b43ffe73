package oauth

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

const (
	maxToken    = 16 << 10
	defaultLife = 10 * time.Minute // of an access token whose life isn't told
	maxLife     = 24 * time.Hour   // what is believed: it is asked anew after that
)

// tokens are what a token endpoint gave, checked.
type tokens struct {
	Access  string
	Refresh string
	Scopes  []string
	Life    time.Duration // of the access token
}

// errOtherAccount: the tokens are for another DID than was asked for.
var errOtherAccount = errors.New("the tokens are another account's")

// parseTokens reads an answer of a token endpoint for the account did. At a refresh, a refresh token or scopes that it leaves out are
// those of before (RFC 6749 §5.1, §6). A wrong answer may still hold tokens, which are then returned to be revoked.
func parseTokens(body []byte, did string, before tokens) (tokens, error) {
	var wire struct {
		Access  string      `json:"access_token"`
		Refresh string      `json:"refresh_token"`
		Type    string      `json:"token_type"`
		Scope   string      `json:"scope"`
		Subject string      `json:"sub"`
		Expires json.Number `json:"expires_in"`
	}
	if err := json.Unmarshal(body, &wire); err != nil {
		return tokens{}, fmt.Errorf("the answer holds no tokens: %w", err)
	}
	t := tokens{Access: wire.Access, Refresh: orElse(wire.Refresh, before.Refresh), Scopes: before.Scopes, Life: defaultLife}
	if scopes := strings.Fields(wire.Scope); len(scopes) > 0 {
		t.Scopes = scopes
	}
	for name, token := range map[string]string{"access_token": t.Access, "refresh_token": t.Refresh} {
		if token == "" || len(token) > maxToken || !visible(token) {
			return tokens{}, fmt.Errorf("%s is missing, too long, or no token", name)
		}
	}
	if seconds, err := wire.Expires.Float64(); err == nil && seconds >= 0 {
		t.Life = time.Duration(min(seconds, maxLife.Seconds()) * float64(time.Second))
	}
	switch {
	case !strings.EqualFold(wire.Type, "DPoP"):
		return t, fmt.Errorf("token_type is %.20q, and DPoP was asked for", wire.Type)
	case wire.Subject != did:
		return t, fmt.Errorf("%w: sub is %.200q", errOtherAccount, wire.Subject)
	case len(missingScopes([]string{scopeBase}, t.Scopes)) > 0:
		return t, errors.New("scope lacks atproto")
	}
	return t, nil
}
