package auth

import (
	"container/list"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

const (
	tokenLife = 5 * time.Minute
	// audience is the same for every host name that this server is reached by.
	audience = "io.atcr.registry"
	maxToken = 16 << 10
)

// errToken: a token that is none of ours, or has ended. All are answered alike.
var errToken = errors.New("token not valid")

// claims are what a registry token says.
type claims struct {
	jwt.RegisteredClaims
	DID     string   `json:"did,omitempty"`
	Session string   `json:"sid,omitempty"`
	Token   string   `json:"tid,omitempty"` // the id of the refresh token, device or robot that signed in, if one did
	Method  string   `json:"auth_method,omitempty"`
	Access  []access `json:"access"`
}

// mint returns a token for who (zero for anonymous) and what.
func (a *Auth) mint(who account, granted []access) (token string, issued time.Time, err error) {
	now := a.opts.Clock().Truncate(time.Second)
	var id [16]byte
	if _, err := rand.Read(id[:]); err != nil {
		return "", now, err
	}
	if granted == nil {
		granted = []access{}
	}
	c := claims{
		RegisteredClaims: jwt.RegisteredClaims{
			Issuer: a.base.issuer(), Subject: who.did, Audience: jwt.ClaimStrings{audience}, ID: hex.EncodeToString(id[:]),
			IssuedAt: jwt.NewNumericDate(now), NotBefore: jwt.NewNumericDate(now), ExpiresAt: jwt.NewNumericDate(now.Add(tokenLife)),
		},
		DID: who.did, Session: who.session, Method: who.method, Access: granted,
	}
	if who.token != nil {
		c.Token = who.token.ID
	}
	t := jwt.NewWithClaims(jwt.SigningMethodRS256, c)
	key := a.ring.Load().signer(now)
	t.Header["kid"] = key.kid
	token, err = t.SignedString(key.key)
	if err != nil {
		return "", now, fmt.Errorf("signing a token: %w", err)
	}
	return token, now, nil
}

// verify checks a token of ours. late is how long after its end it is still taken. Every refusal is errToken.
func (a *Auth) verify(token string, late time.Duration) (*claims, error) {
	if token == "" || len(token) > maxToken {
		return nil, errToken
	}
	now := a.opts.Clock()
	sum := sha256.Sum256([]byte(token))
	c := a.tokens.get(sum)
	if c == nil {
		c = new(claims)
		// Times are checked below, on remembered tokens as well. The header's jwk, jku and x5c are never looked at.
		_, err := jwt.NewParser(
			jwt.WithValidMethods([]string{jwt.SigningMethodRS256.Alg()}), jwt.WithStrictDecoding(), jwt.WithoutClaimsValidation(),
		).ParseWithClaims(token, c, func(t *jwt.Token) (any, error) {
			kid, _ := t.Header["kid"].(string)
			if key := a.ring.Load().byID(kid, now); key != nil {
				return key, nil
			}
			return nil, errToken
		})
		if err != nil {
			return nil, errToken
		}
		if c.Issuer != a.base.issuer() || len(c.Audience) != 1 || c.Audience[0] != audience ||
			c.ExpiresAt == nil || c.NotBefore == nil || c.DID != c.Subject {
			return nil, errToken
		}
		a.tokens.put(sum, c)
	}
	if c.NotBefore.After(now.Add(Leeway)) || !now.Before(c.ExpiresAt.Add(Leeway+late)) {
		return nil, errToken
	}
	return c, nil
}

// tokenCache remembers tokens whose signature was good, by their hash, least recently used out first.
type tokenCache struct {
	max int

	mu    sync.Mutex
	byKey map[[32]byte]*list.Element // of cachedToken
	order *list.List                 // most recently used in front
}

type cachedToken struct {
	sum    [32]byte
	claims *claims
}

func newTokenCache(limit int) *tokenCache {
	return &tokenCache{max: limit, byKey: map[[32]byte]*list.Element{}, order: list.New()}
}

func (t *tokenCache) get(sum [32]byte) *claims {
	t.mu.Lock()
	defer t.mu.Unlock()
	el, ok := t.byKey[sum]
	if !ok {
		return nil
	}
	t.order.MoveToFront(el)
	return el.Value.(cachedToken).claims
}

func (t *tokenCache) clear() {
	t.mu.Lock()
	defer t.mu.Unlock()
	clear(t.byKey)
	t.order.Init()
}

func (t *tokenCache) put(sum [32]byte, c *claims) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, ok := t.byKey[sum]; ok {
		return
	}
	t.byKey[sum] = t.order.PushFront(cachedToken{sum, c})
	for t.order.Len() > t.max {
		delete(t.byKey, t.order.Remove(t.order.Back()).(cachedToken).sum)
	}
}
