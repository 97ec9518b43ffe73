package devnet

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/base64"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/atcr-dev/atcr/repo/xrpc"
)

// Scopes that the reference PDS puts into its tokens: they tell a session by the main password from one by an app password.
const (
	scopeAccess     = "com.atproto.access"
	scopeAppPass    = "com.atproto.appPass"
	scopePrivileged = "com.atproto.appPassPrivileged"
	scopeRefresh    = "com.atproto.refresh"
)

const (
	accessTTL    = 2 * time.Hour
	refreshTTL   = 90 * 24 * time.Hour
	refreshGrace = 2 * time.Hour // a refresh token that was used works this long, with the same successor
)

type claims struct {
	Scope string `json:"scope"`
	jwt.RegisteredClaims
}

func (p *PDS) sign(typ, did, scope, id string, ttl time.Duration) (string, error) {
	now := p.cfg.Clock()
	t := jwt.NewWithClaims(jwt.SigningMethodHS256, claims{scope, jwt.RegisteredClaims{
		ID: id, Subject: did, IssuedAt: jwt.NewNumericDate(now), ExpiresAt: jwt.NewNumericDate(now.Add(ttl)),
	}})
	t.Header["typ"] = typ
	t.Claims = audClaims{t.Claims.(claims), p.did}
	return t.SignedString(p.state.JWTSecret)
}

// audClaims writes aud as one string, as the reference does.
type audClaims struct {
	claims
	Aud string `json:"aud"`
}

func authRequired(name, format string) error {
	if name == "" {
		name = "AuthenticationRequired"
	}
	return xrpc.Errorf(http.StatusUnauthorized, name, "%s", format)
}

func badToken(text string) error {
	return xrpc.Errorf(http.StatusBadRequest, "InvalidToken", "%s", text)
}

// verify reads the request's Bearer token of a type; its account and claims.
func (p *PDS) verify(r *http.Request, typ string, expiredToo bool, scopes ...string) (*account, *claims, error) {
	head := r.Header.Get("Authorization")
	if head == "" {
		return nil, nil, authRequired("AuthMissing", "Authentication Required")
	}
	kind, token, _ := strings.Cut(head, " ")
	if !strings.EqualFold(kind, "Bearer") {
		return nil, nil, badToken("Unexpected authorization type")
	}
	opts := []jwt.ParserOption{jwt.WithValidMethods([]string{"HS256"}), jwt.WithAudience(p.did), jwt.WithTimeFunc(p.cfg.Clock),
		jwt.WithExpirationRequired()}
	if expiredToo {
		opts = append(opts, jwt.WithoutClaimsValidation())
	}
	var c claims
	t, err := jwt.ParseWithClaims(token, &c, func(*jwt.Token) (any, error) { return p.state.JWTSecret, nil }, opts...)
	switch {
	case errors.Is(err, jwt.ErrTokenExpired):
		return nil, nil, xrpc.Errorf(http.StatusBadRequest, "ExpiredToken", "Token has expired")
	case err != nil || t.Header["typ"] != typ:
		return nil, nil, badToken("Token could not be verified")
	}
	for _, s := range scopes {
		if s != c.Scope {
			continue
		}
		a := p.accounts[c.Subject]
		if a == nil {
			return nil, nil, xrpc.Errorf(http.StatusForbidden, "AccountNotFound", "Account not found")
		}
		return a, &c, nil
	}
	return nil, nil, badToken("Bad token scope")
}

// access returns who asks with an access token: by whatever password, or with full only by the main one.
func (p *PDS) access(r *http.Request, full bool) (*account, *claims, error) {
	if full {
		return p.verify(r, "at+jwt", false, scopeAccess)
	}
	return p.verify(r, "at+jwt", false, scopeAccess, scopePrivileged, scopeAppPass)
}

func (p *PDS) createSession(w http.ResponseWriter, r *http.Request) error {
	var in struct{ Identifier, Password string }
	if err := input(w, r, &in); err != nil {
		return err
	}
	if in.Identifier == "" || in.Password == "" {
		return xrpc.InvalidRequest("Error: Input must have the properties \"identifier\" and \"password\"")
	}
	wrong := authRequired("", "Invalid identifier or password")
	a := p.find(in.Identifier)
	if a == nil {
		return wrong
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	with := ""
	if !hmac.Equal([]byte(in.Password), []byte(a.Password)) {
		app := a.appPassword(func(ap *appPassword) bool { return hmac.Equal(ap.Hash, hashPassword(a.DID, in.Password)) })
		if app == nil {
			return wrong
		}
		with = app.Name
	}
	return p.answerSession(w, r, a, with, randomID())
}

func (a *account) appPassword(is func(*appPassword) bool) *appPassword {
	for _, ap := range a.AppPasswords {
		if is(ap) {
			return ap
		}
	}
	return nil
}

// answerSession makes both tokens; id is the refresh token's. The caller holds mu.
func (p *PDS) answerSession(w http.ResponseWriter, r *http.Request, a *account, with, id string) error {
	scope := scopeAccess
	if with != "" {
		scope = scopeAppPass
		if ap := a.appPassword(func(ap *appPassword) bool { return ap.Name == with }); ap != nil && ap.Privileged {
			scope = scopePrivileged
		}
	}
	if a.Refresh == nil {
		a.Refresh = map[string]refresh{}
	}
	now := p.cfg.Clock()
	for k, v := range a.Refresh {
		if v.Expires.Before(now) || len(a.Refresh) >= maxRefresh {
			delete(a.Refresh, k)
		}
	}
	a.Refresh[id] = refresh{Expires: now.Add(refreshTTL), AppPassword: with}
	if err := p.state.save(p.cfg.Dir); err != nil {
		return err
	}
	accessJwt, err := p.sign("at+jwt", a.DID, scope, "", accessTTL)
	if err != nil {
		return err
	}
	refreshJwt, err := p.sign("refresh+jwt", a.DID, scopeRefresh, id, refreshTTL)
	if err != nil {
		return err
	}
	out, err := p.sessionView(r, a)
	if err != nil {
		return err
	}
	out["accessJwt"], out["refreshJwt"] = accessJwt, refreshJwt
	xrpc.WriteJSON(w, http.StatusOK, out)
	return nil
}

func (p *PDS) sessionView(r *http.Request, a *account) (map[string]any, error) {
	doc, err := p.plc.Document(r.Context(), a.DID)
	if err != nil {
		return nil, err
	}
	name, _, _ := strings.Cut(a.Handle, ".")
	return map[string]any{"did": a.DID, "handle": a.Handle, "didDoc": doc, "email": name + "@mail.test", "emailConfirmed": false,
		"active": true}, nil
}

func (p *PDS) getSession(w http.ResponseWriter, r *http.Request) error {
	a, _, err := p.access(r, false)
	if err != nil {
		return err
	}
	out, err := p.sessionView(r, a)
	if err != nil {
		return err
	}
	xrpc.WriteJSON(w, http.StatusOK, out)
	return nil
}

// refreshSession gives a new pair. The old token lives on for its grace, and answers with the same successor.
func (p *PDS) refreshSession(w http.ResponseWriter, r *http.Request) error {
	a, c, err := p.verify(r, "refresh+jwt", false, scopeRefresh)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	old, ok := a.Refresh[c.ID]
	if !ok || old.Expires.Before(p.cfg.Clock()) {
		return xrpc.Errorf(http.StatusBadRequest, "ExpiredToken", "Token has been revoked")
	}
	if old.Next == "" {
		old.Next = randomID()
	}
	if grace := p.cfg.Clock().Add(refreshGrace); grace.Before(old.Expires) {
		old.Expires = grace
	}
	a.Refresh[c.ID] = old
	return p.answerSession(w, r, a, old.AppPassword, old.Next)
}

func (p *PDS) deleteSession(w http.ResponseWriter, r *http.Request) error {
	a, c, err := p.verify(r, "refresh+jwt", true, scopeRefresh)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(a.Refresh, c.ID)
	return p.state.save(p.cfg.Dir)
}

func (p *PDS) createAppPassword(w http.ResponseWriter, r *http.Request) error {
	a, _, err := p.access(r, true)
	if err != nil {
		return err
	}
	var in struct {
		Name       string
		Privileged bool
	}
	if err := input(w, r, &in); err != nil {
		return err
	}
	if in.Name == "" {
		return xrpc.InvalidRequest("Error: Input must have the property \"name\"")
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if a.appPassword(func(ap *appPassword) bool { return ap.Name == in.Name }) != nil || len(a.AppPasswords) >= maxAppPasswords {
		return xrpc.InvalidRequest("could not create app-specific password")
	}
	password := newPassword()
	ap := &appPassword{Name: in.Name, Hash: hashPassword(a.DID, password), Privileged: in.Privileged,
		CreatedAt: p.cfg.Clock().UTC().Truncate(time.Millisecond)}
	a.AppPasswords = append(a.AppPasswords, ap)
	if err := p.state.save(p.cfg.Dir); err != nil {
		return err
	}
	xrpc.WriteJSON(w, http.StatusOK, map[string]any{"name": ap.Name, "password": password, "createdAt": ap.CreatedAt,
		"privileged": ap.Privileged})
	return nil
}

// newPassword is 80 random bits as xxxx-xxxx-xxxx-xxxx: so many that a plain hash suffices to keep it.
func newPassword() string {
	var b [10]byte
	rand.Read(b[:]) //nolint:errcheck // never fails
	s := strings.ToLower(base32.StdEncoding.EncodeToString(b[:]))
	return s[:4] + "-" + s[4:8] + "-" + s[8:12] + "-" + s[12:]
}

func hashPassword(did, password string) []byte {
	sum := sha256.Sum256([]byte(did + "\x00" + password))
	return sum[:]
}

func randomID() string {
	var b [32]byte
	rand.Read(b[:]) //nolint:errcheck // never fails
	return base64.StdEncoding.EncodeToString(b[:])
}
