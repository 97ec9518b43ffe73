package serviceauth

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
)

// maxToken bounds a token's length in bytes.
const maxToken = 8 << 10

// seconds is a NumericDate (RFC 7519 §2): whole seconds; a fraction is cut off.
type seconds int64

// UnmarshalJSON takes numbers only, within the years 1970 to 9999.
func (s *seconds) UnmarshalJSON(b []byte) error {
	f, err := strconv.ParseFloat(string(b), 64)
	if err != nil || math.IsNaN(f) || f < 0 || f > 253402300799 {
		return fmt.Errorf("%.32q is no time", b)
	}
	*s = seconds(f)
	return nil
}

func (s seconds) time() time.Time { return time.Unix(int64(s), 0) }

// token is a parsed token of which nothing has been checked but its form.
type token struct {
	header  header
	payload payload
	issuer  syntax.DID
	signed  []byte
	sig     []byte
}

// parse reads a token's form: three parts, JSON objects, an issuer that is a DID, a known algorithm. What is no JWT, or
// has no DID for an issuer, is [ErrNotServiceToken].
func parse(s string) (*token, error) {
	if len(s) > maxToken {
		return nil, ErrNotServiceToken
	}
	parts := strings.Split(s, ".")
	if len(parts) != 3 {
		return nil, ErrNotServiceToken
	}
	var t token
	enc := base64.RawURLEncoding.Strict()
	for i, into := range []any{&t.header, &t.payload} {
		b, err := enc.DecodeString(parts[i])
		if err != nil || !isObject(b) {
			return nil, ErrNotServiceToken
		}
		if err := json.Unmarshal(b, into); err != nil {
			if i == 1 && issuerOf(b) != "" {
				return nil, &Error{Kind: BadToken, Message: "a claim of the token has the wrong type"}
			}
			return nil, ErrNotServiceToken
		}
	}
	did, err := syntax.ParseDID(t.payload.Iss)
	if err != nil {
		return nil, ErrNotServiceToken
	}
	t.issuer = did
	if t.sig, err = enc.DecodeString(parts[2]); err != nil || len(t.sig) != 64 {
		return nil, &Error{Kind: BadSignature, Message: "the signature is not 64 bytes of base64url"}
	}
	switch strings.ToLower(t.header.Typ) {
	case "", "jwt":
	default: // an access or refresh token of a PDS, or a DPoP proof
		return nil, &Error{Kind: BadToken, Message: fmt.Sprintf("typ %.32q is no service token: ask "+
			"com.atproto.server.getServiceAuth for one", t.header.Typ)}
	}
	if t.header.Alg != "ES256" && t.header.Alg != "ES256K" {
		return nil, &Error{Kind: BadToken, Message: fmt.Sprintf("alg %.32q: service tokens are signed by ES256 or ES256K", t.header.Alg)}
	}
	if len(t.header.Crit) > 0 {
		return nil, &Error{Kind: BadToken, Message: "critical header extensions are not understood"}
	}
	t.signed = []byte(s[:len(parts[0])+1+len(parts[1])])
	return &t, nil
}

func isObject(b []byte) bool {
	b = bytes.TrimLeft(b, " \t\r\n")
	return len(b) > 0 && b[0] == '{'
}

// issuerOf reads iss alone, to tell a service token with a broken claim from something else.
func issuerOf(b []byte) syntax.DID {
	var p struct {
		Iss string `json:"iss"`
	}
	if json.Unmarshal(b, &p) != nil {
		return ""
	}
	did, err := syntax.ParseDID(p.Iss)
	if err != nil {
		return ""
	}
	return did
}

// keyName returns the fragment of the DID document that signs: kid may be "#name", "name" or "did:…#name" of the issuer.
func (t *token) keyName() (string, error) {
	kid := strings.TrimPrefix(t.header.Kid, t.issuer.String())
	kid = strings.TrimPrefix(kid, "#")
	if kid == "" {
		return "atproto", nil
	}
	if len(kid) > 64 || strings.ContainsAny(kid, "#:/ ") {
		return "", &Error{Kind: BadToken, Message: "kid names no key of the issuer"}
	}
	return kid, nil
}
