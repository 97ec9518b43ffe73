package serviceauth

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"
)

// Lifetimes of tokens.
const (
	DefaultTTL = time.Minute
	MaxTTL     = time.Hour
)

// MintOptions says what a token says. Issuer, Audience and Method are required.
type MintOptions struct {
	Issuer   syntax.DID       // whose key signs
	Audience string           // a DID or DID#service
	Method   string           // lxm: the NSID of the one method it is for
	TTL      time.Duration    // 0 is [DefaultTTL]; more than [MaxTTL] is an error
	Subject  syntax.DID       // in whose name a trusted service asks; empty for its own
	KeyID    string           // kid, for example "#atproto"; empty sends none
	Clock    func() time.Time // nil: time.Now
}

type header struct {
	Alg  string   `json:"alg"`
	Typ  string   `json:"typ,omitempty"`
	Kid  string   `json:"kid,omitempty"`
	Crit []string `json:"crit,omitempty"`
}

type payload struct {
	Iss string   `json:"iss"`
	Sub string   `json:"sub,omitempty"`
	Aud string   `json:"aud"`
	Lxm string   `json:"lxm,omitempty"`
	Iat *seconds `json:"iat,omitempty"`
	Exp *seconds `json:"exp,omitempty"`
	Nbf *seconds `json:"nbf,omitempty"`
	Jti string   `json:"jti,omitempty"`
}

// Mint returns a signed service token with a jti of its own.
func Mint(key atcrypto.PrivateKey, opts MintOptions) (string, error) {
	if opts.Clock == nil {
		opts.Clock = time.Now
	}
	if opts.TTL == 0 {
		opts.TTL = DefaultTTL
	}
	if opts.TTL < 0 || opts.TTL > MaxTTL {
		return "", fmt.Errorf("minting a service token: TTL %s is not within 0 and %s", opts.TTL, MaxTTL)
	}
	if opts.Issuer == "" || opts.Audience == "" || opts.Method == "" {
		return "", errors.New("minting a service token: Issuer, Audience and Method are required")
	}
	alg, err := algOf(key)
	if err != nil {
		return "", fmt.Errorf("minting a service token: %w", err)
	}
	var id [16]byte
	if _, err := rand.Read(id[:]); err != nil {
		return "", fmt.Errorf("minting a service token: %w", err)
	}
	now := opts.Clock()
	iat, exp := seconds(now.Unix()), seconds(now.Add(opts.TTL).Unix())
	signed, err := encode(header{Alg: alg, Typ: "JWT", Kid: opts.KeyID}, payload{
		Iss: opts.Issuer.String(), Sub: opts.Subject.String(), Aud: opts.Audience, Lxm: opts.Method,
		Iat: &iat, Exp: &exp, Jti: hex.EncodeToString(id[:]),
	})
	if err != nil {
		return "", fmt.Errorf("minting a service token: %w", err)
	}
	sig, err := key.HashAndSign([]byte(signed))
	if err != nil {
		return "", fmt.Errorf("signing a service token: %w", err)
	}
	return signed + "." + base64.RawURLEncoding.EncodeToString(sig), nil
}

func encode(h, p any) (string, error) {
	hb, err := json.Marshal(h)
	if err != nil {
		return "", err
	}
	pb, err := json.Marshal(p)
	if err != nil {
		return "", err
	}
	return base64.RawURLEncoding.EncodeToString(hb) + "." + base64.RawURLEncoding.EncodeToString(pb), nil
}

func algOf(key any) (string, error) {
	switch key.(type) {
	case *atcrypto.PrivateKeyK256, *atcrypto.PublicKeyK256:
		return "ES256K", nil
	case *atcrypto.PrivateKeyP256, *atcrypto.PublicKeyP256:
		return "ES256", nil
	}
	return "", fmt.Errorf("keys of type %T sign no service tokens", key)
}
