package serviceauth

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	indigo "github.com/bluesky-social/indigo/atproto/identity"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"
	dto "github.com/prometheus/client_model/go"

	"github.com/atcr-dev/atcr/identity"
)

const (
	alice  = syntax.DID("did:plc:aaaaaaaaaaaaaaaaaaaaaaaa")
	hold   = "did:web:hold.example.com"
	method = "io.atcr.hold.initiateUpload"
	remove = "com.atproto.repo.deleteRecord"
)

var now = time.Unix(1_800_000_000, 0)

func clock() time.Time { return now }

// directory is indigo's mock, with a count of purges and a document that appears only after one.
type directory struct {
	*identity.MockDirectory
	purges int
	after  *identity.Account
	down   bool
}

func (d *directory) Purge(ctx context.Context, id syntax.AtIdentifier) error {
	d.purges++
	if d.after != nil {
		d.Insert(*d.after)
	}
	return d.MockDirectory.Purge(ctx, id)
}

func (d *directory) LookupDID(ctx context.Context, did syntax.DID) (*identity.Account, error) {
	if d.down {
		return nil, fmt.Errorf("%w: no answer", identity.ErrDIDResolutionFailed)
	}
	return d.MockDirectory.LookupDID(ctx, did)
}

func account(t testing.TB, keys map[string]atcrypto.PrivateKey) identity.Account {
	acc := identity.Account{DID: alice, Handle: "alice.test", Keys: map[string]indigo.VerificationMethod{}}
	for name, k := range keys {
		pub, err := k.PublicKey()
		if err != nil {
			t.Fatal(err)
		}
		acc.Keys[name] = indigo.VerificationMethod{Type: "Multikey", PublicKeyMultibase: pub.Multibase()}
	}
	return acc
}

func k256(t testing.TB) *atcrypto.PrivateKeyK256 {
	k, err := atcrypto.GeneratePrivateKeyK256()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func setup(t testing.TB, opts VerifierOptions) (*Verifier, *directory, atcrypto.PrivateKey) {
	key := k256(t)
	dir := &directory{MockDirectory: identity.NewMockDirectory()}
	dir.Insert(account(t, map[string]atcrypto.PrivateKey{"atproto": key}))
	opts.Audiences = []string{hold, hold + "#atcr_hold"}
	opts.Clock = clock
	return NewVerifier(dir, opts), dir, key
}

func mint(t testing.TB, key atcrypto.PrivateKey, change func(*MintOptions)) string {
	opts := MintOptions{Issuer: alice, Audience: hold, Method: method, Clock: clock}
	if change != nil {
		change(&opts)
	}
	tok, err := Mint(key, opts)
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

// sign makes any token at all.
func sign(t testing.TB, key atcrypto.PrivateKey, header, claims map[string]any) string {
	h := map[string]any{"alg": "ES256K", "typ": "JWT"}
	c := map[string]any{"iss": alice, "aud": hold, "lxm": method, "iat": now.Unix(), "exp": now.Unix() + 60,
		"jti": fmt.Sprint(time.Now().UnixNano())}
	for k, v := range header {
		h[k] = v
	}
	for k, v := range claims {
		if v == nil {
			delete(c, k)
		} else {
			c[k] = v
		}
	}
	signed, err := encode(h, c)
	if err != nil {
		t.Fatal(err)
	}
	sig, err := key.HashAndSign([]byte(signed))
	if err != nil {
		t.Fatal(err)
	}
	return signed + "." + base64.RawURLEncoding.EncodeToString(sig)
}

func TestMintAndVerify(t *testing.T) {
	p, err := atcrypto.GeneratePrivateKeyP256()
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []atcrypto.PrivateKey{k256(t), p} {
		v, dir, _ := setup(t, VerifierOptions{})
		dir.Insert(account(t, map[string]atcrypto.PrivateKey{"atproto": key}))
		tok := mint(t, key, func(o *MintOptions) { o.Audience = hold + "#atcr_hold"; o.Subject = "did:plc:bbbbbbbbbbbbbbbbbbbbbbbb" })
		c, err := v.Verify(t.Context(), tok, remove, method)
		if err != nil {
			t.Fatal(err)
		}
		if c.Issuer != alice || c.Method != method || c.Subject != "did:plc:bbbbbbbbbbbbbbbbbbbbbbbb" || c.Audience != hold+
			"#atcr_hold" || c.ID == "" || !c.Expires.Equal(now.Add(time.Minute)) {
			t.Errorf("%+v", c)
		}
		if n := counted(t, v, "ok"); n != 1 {
			t.Errorf("counted %v", n)
		}
	}
}

func counted(t *testing.T, v *Verifier, result string) float64 {
	t.Helper()
	var m dto.Metric
	if err := v.results.WithLabelValues(result).Write(&m); err != nil {
		t.Fatal(err)
	}
	return m.GetCounter().GetValue()
}

func TestMintRefuses(t *testing.T) {
	key := k256(t)
	for name, o := range map[string]MintOptions{
		"no method":   {Issuer: alice, Audience: hold},
		"no audience": {Issuer: alice, Method: method},
		"no issuer":   {Audience: hold, Method: method},
		"too long":    {Issuer: alice, Audience: hold, Method: method, TTL: 61 * time.Minute},
		"negative":    {Issuer: alice, Audience: hold, Method: method, TTL: -1},
	} {
		if _, err := Mint(key, o); err == nil {
			t.Error(name)
		}
	}
}

// The checklist's row on service tokens, one line each.
func TestVerifyRefuses(t *testing.T) {
	unix := func(d time.Duration) int64 { return now.Add(d).Unix() }
	for name, c := range map[string]struct {
		header, claims map[string]any
		kind           Kind // "" is taken
	}{
		"as it should be":         {nil, nil, ""},
		"aud of another":          {nil, map[string]any{"aud": "did:web:other.example.com"}, BadAudience},
		"aud with other service":  {nil, map[string]any{"aud": hold + "#atproto_labeler"}, BadAudience},
		"aud missing":             {nil, map[string]any{"aud": nil}, BadAudience},
		"aud a list":              {nil, map[string]any{"aud": []string{hold}}, BadToken},
		"aud prefix":              {nil, map[string]any{"aud": hold + ".evil.example"}, BadAudience},
		"lxm wrong":               {nil, map[string]any{"lxm": remove}, BadLxm},
		"lxm missing":             {nil, map[string]any{"lxm": nil}, BadLxm},
		"lxm star":                {nil, map[string]any{"lxm": "*"}, BadLxm},
		"lxm of legacy":           {nil, map[string]any{"lxm": legacyMethod}, BadLxm},
		"iat missing":             {nil, map[string]any{"iat": nil}, BadToken},
		"exp missing":             {nil, map[string]any{"exp": nil}, BadToken},
		"jti missing":             {nil, map[string]any{"jti": nil}, BadToken},
		"jti huge":                {nil, map[string]any{"jti": strings.Repeat("x", 257)}, BadToken},
		"exp a string":            {nil, map[string]any{"exp": "9999999999"}, BadToken},
		"exp 62 min ahead":        {nil, map[string]any{"exp": unix(62 * time.Minute)}, ""},
		"exp 63 min ahead":        {nil, map[string]any{"exp": unix(63 * time.Minute)}, Expired},
		"expired within leeway":   {nil, map[string]any{"exp": unix(-119 * time.Second), "iat": unix(-3 * time.Minute)}, ""},
		"expired":                 {nil, map[string]any{"exp": unix(-2 * time.Minute), "iat": unix(-3 * time.Minute)}, Expired},
		"iat ahead within leeway": {nil, map[string]any{"iat": unix(2 * time.Minute), "exp": unix(3 * time.Minute)}, ""},
		"iat ahead":               {nil, map[string]any{"iat": unix(121 * time.Second), "exp": unix(3 * time.Minute)}, Expired},
		"iat too old":             {nil, map[string]any{"iat": unix(-63 * time.Minute)}, Expired},
		"exp before iat":          {nil, map[string]any{"iat": unix(time.Minute), "exp": unix(0)}, Expired},
		"nbf ahead":               {nil, map[string]any{"nbf": unix(3 * time.Minute)}, Expired},
		"sub no did":              {nil, map[string]any{"sub": "alice"}, BadToken},
		"alg none":                {map[string]any{"alg": "none"}, nil, BadToken},
		"alg HS256":               {map[string]any{"alg": "HS256"}, nil, BadToken},
		"alg of the other curve":  {map[string]any{"alg": "ES256"}, nil, BadSignature},
		"typ at+jwt":              {map[string]any{"typ": "at+jwt"}, nil, BadToken},
		"typ dpop+jwt":            {map[string]any{"typ": "dpop+jwt"}, nil, BadToken},
		"crit":                    {map[string]any{"crit": []string{"x"}}, nil, BadToken},
		"kid with #":              {map[string]any{"kid": "#atproto"}, nil, ""},
		"kid with did":            {map[string]any{"kid": alice.String() + "#atproto"}, nil, ""},
		"kid of another did":      {map[string]any{"kid": "did:plc:bbbbbbbbbbbbbbbbbbbbbbbb#atproto"}, nil, BadToken},
		"kid unknown":             {map[string]any{"kid": "#other"}, nil, UnknownIssuer},
		"jwk in the header":       {map[string]any{"jwk": map[string]any{"kty": "EC"}, "kid": "#other"}, nil, UnknownIssuer},
		"iss unknown":             {nil, map[string]any{"iss": "did:plc:zzzzzzzzzzzzzzzzzzzzzzzz"}, UnknownIssuer},
		"iss no did":              {nil, map[string]any{"iss": "https://example.com"}, "none"},
		"iss missing":             {nil, map[string]any{"iss": nil}, "none"},
	} {
		t.Run(name, func(t *testing.T) {
			v, _, key := setup(t, VerifierOptions{})
			_, err := v.Verify(t.Context(), sign(t, key, c.header, c.claims), method)
			if c.kind == "none" {
				if !errors.Is(err, ErrNotServiceToken) {
					t.Fatal(err)
				}
				return
			}
			if KindOf(err) != c.kind || (err == nil) != (c.kind == "") {
				t.Fatalf("%v, want %q", err, c.kind)
			}
			var e *Error
			if errors.As(err, &e) && (e.Status() != 401 || e.Name() == "" || !errors.Is(err, &Error{Kind: c.kind})) {
				t.Errorf("%d %s", e.Status(), e.Name())
			}
		})
	}
}

func TestReplay(t *testing.T) {
	v, _, key := setup(t, VerifierOptions{MaxPerIssuer: 3})
	tok := mint(t, key, nil)
	if _, err := v.Verify(t.Context(), tok, method); err != nil {
		t.Fatal(err)
	}
	if _, err := v.Verify(t.Context(), tok, method); KindOf(err) != Replay {
		t.Fatal(err)
	}
	// A signature is checked before a jti is used up: nobody burns another's.
	other := sign(t, k256(t), nil, map[string]any{"jti": "mine"})
	if _, err := v.Verify(t.Context(), other, method); KindOf(err) != BadSignature {
		t.Fatal(err)
	}
	if _, err := v.Verify(t.Context(), sign(t, key, nil, map[string]any{"jti": "mine"}), method); err != nil {
		t.Fatal(err)
	}
	_, _ = v.Verify(t.Context(), mint(t, key, nil), method)
	if _, err := v.Verify(t.Context(), mint(t, key, nil), method); KindOf(err) != TooMany {
		t.Fatal(err)
	}
}

func TestReplayCacheIsBounded(t *testing.T) {
	c := newReplayCache(100, 1000)
	use := func(jti string, ttl time.Duration, at time.Time) error { return c.use(alice, jti, at.Add(ttl), at) }
	for i := range 1000 {
		if err := use(fmt.Sprint(i), time.Minute+time.Duration(i)*time.Second, now); err != nil {
			t.Fatal(err)
		}
	}
	if len(c.seen) != 100 || len(c.byExpiry) != 100 || c.perIssuer[alice] != 100 {
		t.Fatalf("%d tokens kept", len(c.seen))
	}
	if KindOf(use("999", time.Minute, now)) != Replay {
		t.Error("the longest-lived token was forgotten")
	}
	if err := use("x", time.Minute, now.Add(2*time.Hour)); err != nil || len(c.seen) != 1 || len(c.perIssuer) != 1 {
		t.Errorf("expired tokens stay: %d, %v", len(c.seen), err)
	}
}

// Who fills the cache, with some DIDs or with as many as a wildcard name gives, has tokens of their own forgotten, not others'.
func TestReplayCacheIsShared(t *testing.T) {
	const size = 1000
	for name, issuer := range map[string]func(i int) syntax.DID{
		"some DIDs":      func(i int) syntax.DID { return syntax.DID(fmt.Sprintf("did:plc:mallory%d", i%20)) },
		"a wildcard":     func(i int) syntax.DID { return syntax.DID(fmt.Sprintf("did:web:h%d.mallory.example", i)) },
		"many DIDs":      func(i int) syntax.DID { return syntax.DID(fmt.Sprintf("did:plc:mallory%d", i)) },
		"one, by itself": func(int) syntax.DID { return "did:web:mallory.example" },
		"a neighbour":    func(i int) syntax.DID { return syntax.DID(fmt.Sprintf("did:web:h%d.mallory.co.uk", i)) },
	} {
		me := alice
		if name == "a neighbour" { // under the public suffix
			me = "did:web:alice.co.uk"
		}
		for _, ttl := range []time.Duration{time.Hour, time.Minute} {
			if name == "many DIDs" && ttl == time.Minute {
				continue // as many people as there are tokens
			}
			c := newReplayCache(size, 100_000)
			var mine []string
			for i := range 3 * size {
				if i%(size/10) == 0 { // alice's are used now and then
					jti := fmt.Sprint("mine ", i)
					if err := c.use(me, jti, now.Add(time.Minute), now); err != nil {
						t.Fatal(err)
					}
					mine = append(mine, jti)
				}
				if err := c.use(issuer(i), fmt.Sprint(i), now.Add(ttl), now); err != nil {
					t.Fatal(err)
				}
				if len(c.byExpiry) > size || len(c.seen) != len(c.byExpiry) {
					t.Fatalf("%s: %d tokens are kept", name, len(c.byExpiry))
				}
			}
			for _, jti := range mine {
				if KindOf(c.use(me, jti, now.Add(time.Minute), now)) != Replay {
					t.Errorf("%s, tokens of %s: %s may be used again", name, ttl, jti)
				}
			}
		}
	}
}

func TestHighSRefused(t *testing.T) {
	v, _, key := setup(t, VerifierOptions{})
	tok := mint(t, key, nil)
	dot := strings.LastIndexByte(tok, '.')
	sig, _ := base64.RawURLEncoding.DecodeString(tok[dot+1:])
	order, _ := new(big.Int).SetString("fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141", 16)
	s := new(big.Int).Sub(order, new(big.Int).SetBytes(sig[32:]))
	s.FillBytes(sig[32:])
	if _, err := v.Verify(t.Context(), tok[:dot+1]+base64.RawURLEncoding.EncodeToString(sig), method); KindOf(err) != BadSignature {
		t.Fatal(err)
	}
	if _, err := v.Verify(t.Context(), tok, method); err != nil {
		t.Fatal("the low-S original:", err)
	}
}

// After a rotation the new key counts at once, the old one no longer, and a flood of bad signatures fetches once a minute.
func TestKeyRotation(t *testing.T) {
	v, dir, old := setup(t, VerifierOptions{})
	fresh := k256(t)
	acc := account(t, map[string]atcrypto.PrivateKey{"atproto": fresh})
	dir.after = &acc
	if _, err := v.Verify(t.Context(), mint(t, fresh, nil), method); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		if _, err := v.Verify(t.Context(), mint(t, old, nil), method); KindOf(err) != BadSignature {
			t.Fatal(err)
		}
	}
	if dir.purges != 1 {
		t.Errorf("fetched afresh %d times", dir.purges)
	}
}

func TestDirectoryDown(t *testing.T) {
	v, dir, key := setup(t, VerifierOptions{})
	dir.down = true
	_, err := v.Verify(t.Context(), mint(t, key, nil), method)
	var e *Error
	if !errors.As(err, &e) || e.Kind != Unavailable || e.Status() != http.StatusServiceUnavailable {
		t.Fatal(err)
	}
}

func TestDeactivatedAndNotBefore(t *testing.T) {
	v, _, key := setup(t, VerifierOptions{Deactivated: func(_ context.Context, did syntax.DID) (bool, error) { return did == alice, nil }})
	if _, err := v.Verify(t.Context(), mint(t, key, nil), method); KindOf(err) != UnknownIssuer {
		t.Error(err)
	}
	v, _, key = setup(t, VerifierOptions{NotBefore: now})
	if _, err := v.Verify(t.Context(), sign(t, key, nil, map[string]any{"iat": now.Unix() - 1}), method); KindOf(err) != Expired {
		t.Error(err)
	}
	if _, err := v.Verify(t.Context(), mint(t, key, nil), method); err != nil {
		t.Error(err)
	}
}

func TestLegacyTokens(t *testing.T) {
	v, _, key := setup(t, VerifierOptions{Legacy: []string{method}})
	legacy := mint(t, key, func(o *MintOptions) { o.Method = legacyMethod })
	for range 3 { // reused for a minute
		c, err := v.Verify(t.Context(), legacy, method)
		if err != nil || !c.Legacy {
			t.Fatal(c, err)
		}
	}
	if n := counted(t, v, "legacy"); n != 3 {
		t.Errorf("counted %v", n)
	}
	if _, err := v.Verify(t.Context(), legacy, remove); KindOf(err) != BadLxm {
		t.Error("taken for a delete:", err)
	}
	long := mint(t, key, func(o *MintOptions) { o.Method = legacyMethod; o.TTL = 13 * time.Minute })
	if _, err := v.Verify(t.Context(), long, method); KindOf(err) != Expired {
		t.Error(err)
	}
	wrong := mint(t, key, func(o *MintOptions) { o.Method = legacyMethod; o.Audience = "did:web:other.example.com" })
	if _, err := v.Verify(t.Context(), wrong, method); KindOf(err) != BadAudience {
		t.Error(err)
	}
	proper := mint(t, key, nil)
	_, _ = v.Verify(t.Context(), proper, method)
	if _, err := v.Verify(t.Context(), proper, method); KindOf(err) != Replay {
		t.Error("a proper token was taken twice:", err)
	}
}

func TestVerifyRequest(t *testing.T) {
	v, _, key := setup(t, VerifierOptions{})
	for auth, want := range map[string]Kind{
		"Bearer " + mint(t, key, nil): "", "bearer " + mint(t, key, nil): "",
		"DPoP abc": WrongScheme, "Basic abc": "none", "": "none", "Bearer": "none", "Bearer x.y.z": "none", "Bearer e30.e30.AA": "none",
	} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header.Set("Authorization", auth)
		_, err := v.VerifyRequest(r, method)
		if want == "none" {
			if !errors.Is(err, ErrNotServiceToken) {
				t.Errorf("%.20q: %v", auth, err)
			}
		} else if KindOf(err) != want || (err == nil) != (want == "") {
			t.Errorf("%.20q: %v", auth, err)
		}
		if want == WrongScheme && !strings.Contains(err.Error(), "getServiceAuth") {
			t.Error("no way out:", err)
		}
	}
}

// Tokens that indigo mints are taken.
func TestIndigoTokens(t *testing.T) {
	v, _, key := setup(t, VerifierOptions{})
	v.opts.Clock = time.Now
	lxm := syntax.NSID(method)
	tok, err := signIndigo(alice, hold, time.Minute, &lxm, key)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v.Verify(t.Context(), tok, method); err != nil {
		t.Fatal(err)
	}
}

func FuzzParse(f *testing.F) {
	key := k256(f)
	f.Add(sign(f, key, nil, nil))
	f.Add(sign(f, key, map[string]any{"kid": "#x", "crit": []string{"b64"}}, map[string]any{"exp": 1e300}))
	f.Add("a.b.c")
	f.Add("e30.e30.AA")
	f.Fuzz(func(t *testing.T, s string) {
		tok, err := parse(s)
		if err != nil {
			if KindOf(err) == "" && !errors.Is(err, ErrNotServiceToken) {
				t.Fatal(err)
			}
			return
		}
		if _, err := syntax.ParseDID(tok.issuer.String()); err != nil || len(tok.sig) != 64 {
			t.Fatal("accepted", s)
		}
		_, _ = tok.keyName()
	})
}

func FuzzSeconds(f *testing.F) {
	for _, s := range []string{"0", "1.5", "-1", "1e999", `"1"`, "null"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var v seconds
		if json.Unmarshal([]byte(s), &v) == nil && (v < 0 || v > 253402300799) {
			t.Fatal(v)
		}
	})
}
