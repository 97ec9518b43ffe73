package auth

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/atcr-dev/atcr/identity"
	"github.com/atcr-dev/atcr/registry"
)

func ask(f *fixture, token string, wanted ...registry.Access) (registry.Actor, *registry.Error) {
	f.t.Helper()
	r := httptest.NewRequest(http.MethodGet, "/v2/", nil)
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	actor, err := f.Authorize(r, wanted)
	if err == nil {
		return actor, nil
	}
	var e *registry.Error
	if !errors.As(err, &e) {
		f.t.Fatal(err)
	}
	return actor, e
}

func want(name string, actions ...registry.Action) registry.Access {
	return registry.Access{Repository: name, Actions: actions}
}

func TestPing(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	const challenge = `Bearer realm="https://registry.example.com/auth/token",service="registry.example.com"`
	_, e := ask(f, "", registry.Access{})
	if e == nil || e.Status != 401 || e.Challenge != challenge {
		t.Fatalf("%+v", e)
	}
	if _, e := ask(f, f.token("", ""), registry.Access{}); e != nil {
		t.Error(e)
	}
	// Through the real handler: the body that `curl BASE/v2/` shows.
	h := registry.NewHandler(registry.UnimplementedBackend{}, &registry.Options{Authorizer: f.Auth})
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/v2/", nil))
	if w.Code != 401 || strings.TrimSpace(w.Body.String()) != "{}" || w.Header().Get("WWW-Authenticate") != challenge {
		t.Errorf("%d %q %v", w.Code, w.Body, w.Header())
	}
}

func TestAuthorizeRights(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	all := "repository:alice.test/app:pull,push,delete"
	anonymous := f.token("", "", all)
	signedIn := f.token("alice.test", app, all, "repository:bob.test/app:*")
	pushOnly := f.token("alice.test", app, "repository:alice.test/app:push")
	for name, c := range map[string]struct {
		token  string
		want   registry.Access
		status int // 0 is yes
		who    string
	}{
		"pull without a token": {"", want("alice.test/app", registry.Pull), 0, ""},
		"push without a token": {"", want("alice.test/app", registry.Push), 401, ""},
		"upload without a token": {"", registry.Access{Repository: "alice.test/app", Actions: []registry.Action{registry.Pull},
			Upload: "x"}, 401, ""},
		"anonymous pull":                 {anonymous, want("alice.test/app", registry.Pull), 0, ""},
		"anonymous push":                 {anonymous, want("alice.test/app", registry.Push), 401, ""},
		"pull":                           {signedIn, want("alice.test/app", registry.Pull), 0, alice},
		"push":                           {signedIn, want("alice.test/app", registry.Pull, registry.Push), 0, alice},
		"push by DID":                    {signedIn, want("did-plc-"+alice[8:]+"/app", registry.Push), 401, ""}, // another name than asked for
		"delete":                         {signedIn, want("alice.test/app", registry.Delete), 0, alice},
		"another repository":             {signedIn, want("alice.test/other", registry.Pull), 401, ""},
		"pull of another's":              {signedIn, want("bob.test/app", registry.Pull), 0, alice},
		"push into another's":            {signedIn, want("bob.test/app", registry.Push), 403, ""},
		"push into another's, not asked": {signedIn, want("bob.test/else", registry.Push), 403, ""},
		"push into nobody's":             {signedIn, want("nobody.test/app", registry.Push), 403, ""},
		"push without an owner":          {signedIn, want("app", registry.Push), 403, ""},
		"delete by a push token":         {pushOnly, want("alice.test/app", registry.Delete), 401, ""},
		"pull by a push token":           {pushOnly, want("alice.test/app", registry.Pull), 401, ""},
		"catalog":                        {"", registry.Access{Actions: []registry.Action{registry.Pull}}, 0, ""},
	} {
		actor, e := ask(f, c.token, c.want)
		switch {
		case e == nil && c.status != 0, e != nil && e.Status != c.status:
			t.Errorf("%s: %v, want %d", name, e, c.status)
		case e == nil && actor.NoToken != (c.token == ""):
			t.Errorf("%s: NoToken %v", name, actor.NoToken)
		case e == nil && (actor.ID != c.who || actor.Challenge == "" || (c.who != "") != (actor.Session != "")):
			t.Errorf("%s: %+v", name, actor)
		case e != nil && e.Status == 401 && !strings.HasPrefix(e.Challenge, "Bearer realm="):
			t.Errorf("%s: no challenge", name)
		}
	}
	_, e := ask(f, anonymous, want("alice.test/app", registry.Pull, registry.Push))
	if !strings.Contains(e.Challenge, `scope="repository:alice.test/app:pull,push"`) {
		t.Error(e.Challenge)
	}
	f.insert("did:web:carol.test", "carol.test", "")
	for asked, wanted := range map[string]string{"did:web:carol.test/app": "did_web_carol.test/app",
		"Carol.test/app": "carol.test/app", "did-plc-" + bob[8:] + "/x": bob + "/x"} {
		if !covers([]access{{"repository", asked, []string{"push"}}}, wanted, []registry.Action{registry.Push}) {
			t.Error(asked, wanted)
		}
	}
	if covers([]access{{"repository", "did:web:carol.test/app", []string{"push"}}}, "carol.test/app", []registry.Action{registry.Push}) {
		t.Error("a DID is taken for a handle")
	}
	// docker asks with the name it has; the handler may ask with the OCI spelling of it.
	asDID := f.token("alice.test", app, "repository:"+alice+"/app:push")
	if _, e := ask(f, asDID, want("did-plc-"+alice[8:]+"/app", registry.Push)); e != nil {
		t.Error(e)
	}
}

// The DID in the token decides when a handle changes hands between token and push.
func TestHandleChangesHands(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	tok := f.token("alice.test", app, "repository:alice.test/app:pull,push")
	f.insert(bob, "alice.test", "")
	if _, e := ask(f, tok, want("alice.test/app", registry.Push)); e == nil || e.Status != 403 || e.Code != "DENIED" {
		t.Error(e)
	}
}

func TestUnresolvableOwner(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	tok := f.token("alice.test", app, "repository:alice.test/app:pull,push")
	f.opts.Directory = failing{f.dir}
	a, err := New(t.Context(), f.opts)
	if err != nil {
		t.Fatal(err)
	}
	f.Auth = a
	if _, e := ask(f, tok, want("alice.test/app", registry.Push)); e == nil || e.Status != 503 {
		t.Error(e)
	}
}

// The checklist's row on JWTs: each is 401 and looks like every other.
func TestJWTAttacks(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	good := f.token("alice.test", app, "repository:alice.test/app:pull,push")
	if _, e := ask(f, good, want("alice.test/app", registry.Push)); e != nil {
		t.Fatal(e)
	}
	parts := strings.Split(good, ".")
	stranger, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	b64 := base64.RawURLEncoding.EncodeToString
	jwk := map[string]any{"kty": "RSA", "n": b64(stranger.N.Bytes()), "e": b64(big.NewInt(int64(stranger.E)).Bytes()), "kid": f.ring.Load().keys[0].kid}
	type change func(h map[string]any, c jwt.MapClaims)
	sign := func(key any, method jwt.SigningMethod, ch change) string {
		var c jwt.MapClaims
		b, _ := base64.RawURLEncoding.DecodeString(parts[1])
		if err := json.Unmarshal(b, &c); err != nil {
			t.Fatal(err)
		}
		tok := jwt.NewWithClaims(method, c)
		tok.Header["kid"] = f.ring.Load().keys[0].kid
		if ch != nil {
			ch(tok.Header, c)
		}
		s, err := tok.SignedString(key)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	ours := func(ch change) string { return sign(f.ring.Load().keys[0].key, jwt.SigningMethodRS256, ch) }
	if _, e := ask(f, ours(nil), want("alice.test/app", registry.Push)); e != nil {
		t.Fatal("the test's own signing is wrong:", e)
	}
	pubDER, _ := x509.MarshalPKIXPublicKey(&f.ring.Load().keys[0].key.PublicKey)
	pubPEM := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: pubDER})
	mac := func(key []byte) string {
		h := b64([]byte(`{"alg":"HS256","typ":"JWT","kid":"` + f.ring.Load().keys[0].kid + `"}`))
		m := hmac.New(sha256.New, key)
		m.Write([]byte(h + "." + parts[1]))
		return h + "." + parts[1] + "." + b64(m.Sum(nil))
	}
	far := f.clock().Add(time.Hour).Unix()
	attacks := map[string]string{
		"empty":               "",
		"garbage":             "x.y.z",
		"alg none":            b64([]byte(`{"alg":"none","kid":"`+f.ring.Load().keys[0].kid+`"}`)) + "." + parts[1] + ".",
		"alg None":            b64([]byte(`{"alg":"None","kid":"`+f.ring.Load().keys[0].kid+`"}`)) + "." + parts[1] + ".",
		"HS256 by public PEM": mac(pubPEM),
		"HS256 by public DER": mac(pubDER),
		"HS256 by modulus":    mac(f.ring.Load().keys[0].key.N.Bytes()),
		"PS256":               sign(f.ring.Load().keys[0].key, jwt.SigningMethodPS256, nil),
		"RS512":               sign(f.ring.Load().keys[0].key, jwt.SigningMethodRS512, nil),
		"stranger's key":      sign(stranger, jwt.SigningMethodRS256, nil),
		"embedded jwk":        sign(stranger, jwt.SigningMethodRS256, func(h map[string]any, _ jwt.MapClaims) { h["jwk"] = jwk }),
		"embedded jwk, no kid": sign(stranger, jwt.SigningMethodRS256,
			func(h map[string]any, _ jwt.MapClaims) { h["jwk"] = jwk; delete(h, "kid") }),
		"embedded x5c": sign(stranger, jwt.SigningMethodRS256,
			func(h map[string]any, _ jwt.MapClaims) { h["x5c"] = []string{b64(pubDER)} }),
		"jku": sign(stranger, jwt.SigningMethodRS256,
			func(h map[string]any, _ jwt.MapClaims) { h["jku"] = "https://evil.example/jwks.json" }),
		"unknown kid":        ours(func(h map[string]any, _ jwt.MapClaims) { h["kid"] = "other" }),
		"no kid":             ours(func(h map[string]any, _ jwt.MapClaims) { delete(h, "kid") }),
		"other iss":          ours(func(_ map[string]any, c jwt.MapClaims) { c["iss"] = "https://evil.example" }),
		"other aud":          ours(func(_ map[string]any, c jwt.MapClaims) { c["aud"] = "registry.example.com" }),
		"two aud":            ours(func(_ map[string]any, c jwt.MapClaims) { c["aud"] = []string{audience, "other"} }),
		"no aud":             ours(func(_ map[string]any, c jwt.MapClaims) { delete(c, "aud") }),
		"no exp":             ours(func(_ map[string]any, c jwt.MapClaims) { delete(c, "exp") }),
		"no nbf":             ours(func(_ map[string]any, c jwt.MapClaims) { delete(c, "nbf") }),
		"nbf ahead":          ours(func(_ map[string]any, c jwt.MapClaims) { c["nbf"], c["exp"] = far, far+60 }),
		"expired":            ours(func(_ map[string]any, c jwt.MapClaims) { c["exp"] = f.clock().Add(-Leeway).Unix() }),
		"did is not sub":     ours(func(_ map[string]any, c jwt.MapClaims) { c["did"] = bob }),
		"payload of another": parts[0] + "." + b64([]byte(`{"sub":"`+bob+`"}`)) + "." + parts[2],
		"signature cut":      good[:len(good)-4],
		"too long":           good + strings.Repeat("A", maxToken),
		"a service token":    "eyJhbGciOiJFUzI1NksifQ.eyJpc3MiOiJkaWQ6cGxjOngifQ.AAAA",
	}
	shape := ""
	for name, tok := range attacks {
		r := httptest.NewRequest(http.MethodGet, "/v2/", nil)
		r.Header.Set("Authorization", "Bearer "+tok)
		_, err := f.Authorize(r, []registry.Access{want("alice.test/app", registry.Pull)})
		var e *registry.Error
		if !errors.As(err, &e) || e.Status != 401 {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if s := e.Code + e.Message + e.Challenge; shape == "" {
			shape = s
		} else if s != shape {
			t.Errorf("%s is answered in its own way: %s", name, s)
		}
	}
	if !strings.Contains(shape, `error="invalid_token"`) {
		t.Error(shape)
	}
	if r := httptest.NewRequest(http.MethodGet, "/v2/", nil); true {
		r.SetBasicAuth("alice.test", app)
		if _, err := f.Authorize(r, []registry.Access{want("alice.test/app", registry.Pull)}); !errors.Is(err, registry.ErrUnauthorized) {
			t.Error("Basic:", err)
		}
	}
}

// A token that was remembered as good ends all the same.
func TestTokenEnds(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	tok := f.token("alice.test", app, "repository:alice.test/app:pull,push")
	push := want("alice.test/app", registry.Push)
	upload := push
	upload.Upload = "some-upload"
	for _, c := range []struct {
		pass         time.Duration
		push, upload bool
	}{
		{0, true, true}, {tokenLife + Leeway - time.Second, true, true}, {time.Second, false, true},
		{uploadLife - time.Second, false, true}, {time.Second, false, false},
	} {
		f.pass(c.pass)
		if _, e := ask(f, tok, push); (e == nil) != c.push {
			t.Errorf("push after %s: %v", c.pass, e)
		}
		if _, e := ask(f, tok, upload); (e == nil) != c.upload {
			t.Errorf("upload after %s: %v", c.pass, e)
		}
	}
}

func TestTokensOutliveARestart(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	tok := f.token("alice.test", app, "repository:alice.test/app:pull,push")
	kid := f.ring.Load().keys[0].kid
	f.restart()
	if _, e := ask(f, tok, want("alice.test/app", registry.Push)); e != nil || f.ring.Load().keys[0].kid != kid {
		t.Error(e)
	}
}

func TestMisdirected(t *testing.T) {
	t.Parallel()
	f := newFixture(t, func(o *Options) { o.BaseURL = "" })
	r := httptest.NewRequest(http.MethodGet, "/v2/", nil)
	r.Host = "evil.example"
	var e *registry.Error
	if _, err := f.Authorize(r, []registry.Access{{}}); !errors.As(err, &e) || e.Status != 421 || e.Challenge != "" {
		t.Error(err)
	}
	r.Host = "127.0.0.1:5000"
	if _, err := f.Authorize(r, []registry.Access{{}}); !errors.As(err, &e) ||
		e.Challenge != `Bearer realm="http://127.0.0.1:5000/auth/token",service="127.0.0.1:5000"` {
		t.Error(err)
	}
}

func TestTokenCacheIsBounded(t *testing.T) {
	t.Parallel()
	c := newTokenCache(10)
	for i := range 100 {
		c.put(sha256.Sum256([]byte{byte(i)}), &claims{})
	}
	if len(c.byKey) != 10 || c.order.Len() != 10 || c.get(sha256.Sum256([]byte{99})) == nil {
		t.Error(len(c.byKey))
	}
}

var _ identity.Directory = failing{}
