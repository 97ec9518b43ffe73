package oauth

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	indigo "github.com/bluesky-social/indigo/atproto/identity"
	"github.com/bluesky-social/indigo/atproto/syntax"

	"github.com/atcr-dev/atcr/identity"
)

const (
	alice = syntax.DID("did:plc:aaaaaaaaaaaaaaaaaaaaaaaa")
	bob   = syntax.DID("did:plc:bbbbbbbbbbbbbbbbbbbbbbbb")
)

// testClock is a clock that tests set.
type testClock struct {
	mu  sync.Mutex
	now time.Time
}

func newTestClock() *testClock { return &testClock{now: time.Now().Truncate(time.Second)} }

func (c *testClock) Now() time.Time { c.mu.Lock(); defer c.mu.Unlock(); return c.now }

func (c *testClock) add(d time.Duration) { c.mu.Lock(); defer c.mu.Unlock(); c.now = c.now.Add(d) }

// fakeServer is an account's server with OAuth, for faults that the real one can't be made to have on demand. As the reference PDS it
// wants nonces, rotates refresh tokens, and ends a whole sign-in when a spent one is shown. What the real one says is tested beside this.
type fakeServer struct {
	*httptest.Server
	t     testing.TB
	clock func() time.Time

	mu       sync.Mutex
	url      string // by which clients know it, if a proxy stands before it
	life     time.Duration
	nonce    string
	nonces   bool // a new one with each answer
	pad      int  // bytes that make tokens longer
	sessions map[string]*fakeSession
	proofs   map[string]bool // jti
	refresh  int             // refresh requests that were judged
	replays  int             // spent tokens that were shown
	revoked  int
	calls    int                  // good requests with a token
	change   func(map[string]any) // of answers to refreshes
	answer   func(w http.ResponseWriter, r *http.Request) bool
	wrong    []string // what no client may do
}

// fakeSession is one sign-in.
type fakeSession struct {
	did             syntax.DID
	jkt             string // hash of the key
	access, refresh string
	expires         time.Time
	spent           map[string]bool
	dead            bool
	scope           string
}

func newFakeServer(t testing.TB, clock func() time.Time) *fakeServer {
	f := &fakeServer{
		t: t, clock: clock, life: time.Hour, nonce: "nonce-0", sessions: map[string]*fakeSession{}, proofs: map[string]bool{},
	}
	f.Server = httptest.NewServer(f)
	f.url = f.URL
	t.Cleanup(func() {
		f.CloseClientConnections()
		f.Close()
		f.mu.Lock()
		defer f.mu.Unlock()
		for _, w := range f.wrong {
			t.Errorf("a client did what none may: %s", w)
		}
	})
	return f
}

func (f *fakeServer) set(change func()) { f.mu.Lock(); defer f.mu.Unlock(); change() }

// refreshes is how many requests to refresh were judged; replays how many showed a spent token.
func (f *fakeServer) counts() (refreshes, replays, revoked int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.refresh, f.replays, f.revoked
}

func word() string {
	var b [12]byte
	rand.Read(b[:]) //nolint:errcheck // it never fails
	return hex.EncodeToString(b[:])
}

// directory has alice and bob at a URL.
func (f *fakeServer) directory() *identity.MockDirectory {
	d := identity.NewMockDirectory()
	for did, name := range map[syntax.DID]string{alice: "alice.test", bob: "bob.test"} {
		d.Insert(accountAt(did, name, f.url))
	}
	return d
}

func accountAt(did syntax.DID, handle, pds string) identity.Account {
	return identity.Account{DID: did, Handle: syntax.Handle(handle), Services: map[string]indigo.ServiceEndpoint{
		"atproto_pds": {Type: "AtprotoPersonalDataServer", URL: pds},
	}}
}

// signIn makes a session, and a grant as Finish would.
func (f *fakeServer) signIn(did syntax.DID, c *Client) *grant {
	f.t.Helper()
	key, err := newDPoPKey()
	if err != nil {
		f.t.Fatal(err)
	}
	pub, err := key.PublicKey()
	if err != nil {
		f.t.Fatal(err)
	}
	jwk, err := pub.JWK()
	if err != nil {
		f.t.Fatal(err)
	}
	f.mu.Lock()
	s := &fakeSession{
		did: did, jkt: jwk.X + jwk.Y, access: "access-" + word(), refresh: "refresh-" + word(), expires: f.clock().Add(f.life),
		spent: map[string]bool{}, scope: strings.Join(testScopes, " "),
	}
	f.sessions[s.jkt] = s
	life, at := f.life, f.url
	f.mu.Unlock()
	now := c.config.Clock()
	g := &grant{
		id: newGrantID(), did: did.String(), server: at, pds: at, clientID: c.self.id,
		secrets: secrets{
			Access: s.access, Refresh: s.refresh, Key: key.Multibase(), TokenEndpoint: at + "/token", RevokeAt: at + "/revoke",
		},
		scopes: testScopes, expires: now.Add(life), created: now, used: now, refreshed: now,
	}
	if err := c.store.insertGrant(f.t.Context(), g); err != nil {
		f.t.Fatal(err)
	}
	return g
}

func (f *fakeServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	answer := f.answer
	f.mu.Unlock()
	if answer != nil && answer(w, r) {
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	jkt, claims, err := f.proof(r)
	nonce := f.nonce
	if f.nonces {
		f.nonce = "nonce-" + word()
	}
	w.Header().Set("DPoP-Nonce", f.nonce)
	w.Header().Set("Content-Type", "application/json")
	resource := strings.HasPrefix(r.URL.Path, "/xrpc/")
	switch {
	case err != nil:
		f.wrong = append(f.wrong, err.Error())
		refuse(w, 400, "invalid_dpop_proof")
	case claims.Nonce != nonce && resource:
		w.Header().Set("WWW-Authenticate", `DPoP error="use_dpop_nonce", error_description="nonce, please"`)
		refuse(w, 401, "use_dpop_nonce")
	case claims.Nonce != nonce:
		refuse(w, 400, "use_dpop_nonce")
	case resource:
		f.resource(w, r, jkt, claims.Ath, body)
	case r.URL.Path == "/token":
		f.token(w, jkt, body)
	case r.URL.Path == "/revoke":
		f.revoke(w, jkt, body)
	default:
		refuse(w, 404, "not_found")
	}
}

func refuse(w http.ResponseWriter, status int, name string) {
	w.WriteHeader(status)
	fmt.Fprintf(w, `{"error":%q,"message":"says the test","error_description":"says the test"}`, name)
}

type proofClaims struct {
	Htm, Htu, Nonce, Ath, Jti string
	Iat                       int64
}

// proof checks a proof of possession (RFC 9449 §4.3) and returns whose it is.
func (f *fakeServer) proof(r *http.Request) (jkt string, c proofClaims, err error) {
	parts := strings.Split(r.Header.Get("DPoP"), ".")
	if len(parts) != 3 || len(r.Header.Values("DPoP")) != 1 {
		return "", c, fmt.Errorf("%s without one proof", r.URL.Path)
	}
	var raw [3][]byte
	for i, p := range parts {
		if raw[i], err = base64.RawURLEncoding.DecodeString(p); err != nil {
			return "", c, err
		}
	}
	var head struct {
		Typ, Alg string
		Jwk      struct{ Kty, Crv, X, Y, D string }
	}
	if err := json.Unmarshal(raw[0], &head); err != nil {
		return "", c, err
	}
	if err := json.Unmarshal(raw[1], &c); err != nil {
		return "", c, err
	}
	jwk, err := json.Marshal(map[string]string{"kty": head.Jwk.Kty, "crv": head.Jwk.Crv, "x": head.Jwk.X, "y": head.Jwk.Y})
	if err != nil {
		return "", c, err
	}
	pub, err := atcrypto.ParsePublicJWKBytes(jwk)
	if err != nil {
		return "", c, err
	}
	if err := pub.HashAndVerifyLenient([]byte(parts[0]+"."+parts[1]), raw[2]); err != nil {
		return "", c, err
	}
	at, err := url.Parse(f.url)
	if err != nil {
		return "", c, err
	}
	want := at.Scheme + "://" + at.Host + r.URL.EscapedPath()
	switch {
	case head.Typ != "dpop+jwt" || head.Alg != "ES256" || head.Jwk.D != "":
		return "", c, fmt.Errorf("header %s", raw[0])
	case c.Htm != r.Method || c.Htu != want:
		return "", c, fmt.Errorf("proof for %s %s, want %s %s", c.Htm, c.Htu, r.Method, want)
	case f.proofs[c.Jti]:
		return "", c, fmt.Errorf("proof %s was shown before", c.Jti)
	}
	f.proofs[c.Jti] = true
	return head.Jwk.X + head.Jwk.Y, c, nil
}

func (f *fakeServer) token(w http.ResponseWriter, jkt string, body []byte) {
	form, err := url.ParseQuery(string(body))
	s := f.sessions[jkt]
	if err != nil || s == nil || form.Get("grant_type") != "refresh_token" {
		refuse(w, 400, "invalid_request")
		return
	}
	f.refresh++
	token := form.Get("refresh_token")
	if s.spent[token] {
		f.replays++
		s.dead = true
	}
	if s.dead || token != s.refresh {
		refuse(w, 400, "invalid_grant")
		return
	}
	s.spent[token] = true
	pad := strings.Repeat("x", f.pad)
	s.access, s.refresh, s.expires = "access-"+word()+pad, "refresh-"+word()+pad, f.clock().Add(f.life)
	out := map[string]any{
		"access_token": s.access, "refresh_token": s.refresh, "token_type": "DPoP", "scope": s.scope, "sub": s.did,
		"expires_in": int(f.life.Seconds()),
	}
	if f.change != nil {
		f.change(out)
	}
	_ = json.NewEncoder(w).Encode(out)
}

func (f *fakeServer) revoke(w http.ResponseWriter, jkt string, body []byte) {
	form, err := url.ParseQuery(string(body))
	if s := f.sessions[jkt]; err == nil && s != nil && (form.Get("token") == s.refresh || s.spent[form.Get("token")]) {
		s.dead = true
		f.revoked++
	}
	w.WriteHeader(200)
	_, _ = io.WriteString(w, "{}")
}

func (f *fakeServer) resource(w http.ResponseWriter, r *http.Request, jkt, ath string, body []byte) {
	s := f.sessions[jkt]
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "DPoP ")
	sum := sha256.Sum256([]byte(token))
	switch {
	case !ok || s == nil || ath != base64.RawURLEncoding.EncodeToString(sum[:]):
		f.wrong = append(f.wrong, "a token that is not bound to its proof")
		refuse(w, 401, "invalid_token")
	case s.dead || token != s.access || !f.clock().Before(s.expires):
		w.Header().Set("WWW-Authenticate", `DPoP realm="x", error="invalid_token", error_description="it is over"`)
		refuse(w, 401, "invalid_token")
	default:
		f.calls++
		w.WriteHeader(200)
		_ = json.NewEncoder(w).Encode(map[string]string{"did": s.did.String(), "path": r.URL.RequestURI(), "body": string(body)})
	}
}
