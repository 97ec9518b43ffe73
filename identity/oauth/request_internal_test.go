package oauth

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"

	"github.com/atcr-dev/atcr/internal/httpx"
)

func testAgent(t *testing.T) *agent {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	keys, err := loadKeyring(filepath.Join(t.TempDir(), "client.key"), time.Now, log)
	if err != nil {
		t.Fatal(err)
	}
	return newAgent(nil, true, time.Now, log, keys)
}

// served starts a server that misbehaves in one way.
func served(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

// jwtOf reads the parts of a JWT without checking it.
func jwtOf(t *testing.T, token string) (header, claims map[string]any) {
	t.Helper()
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		t.Fatalf("%q is no JWT", token)
	}
	for i, to := range []*map[string]any{&header, &claims} {
		b, err := base64.RawURLEncoding.DecodeString(parts[i])
		if err == nil {
			err = json.Unmarshal(b, to)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return header, claims
}

func (a *agent) testCall(t *testing.T, endpoint string) call {
	t.Helper()
	dpop, err := atcrypto.GeneratePrivateKeyP256()
	if err != nil {
		t.Fatal(err)
	}
	return call{
		endpoint: endpoint, issuer: "https://issuer.example", clientID: "https://app.example/metadata.json", keyID: a.keys.all()[0].id,
		dpop: dpop, grant: "oauth-1", form: url.Values{"grant_type": {"refresh_token"}, "refresh_token": {"ref"}},
	}
}

// TestPost: what a server sees, and that a nonce is taken from every answer.
func TestPost(t *testing.T) {
	a := testAgent(t)
	var nonces, ids []string
	endpoint := served(t, func(w http.ResponseWriter, r *http.Request) {
		header, claims := jwtOf(t, r.Header.Get("DPoP"))
		if header["typ"] != "dpop+jwt" || claims["htm"] != "POST" || claims["htu"] != "http://"+r.Host+"/token" {
			t.Errorf("DPoP says %v %v", header, claims)
		}
		nonce, _ := claims["nonce"].(string)
		nonces = append(nonces, nonce)
		header, claims = jwtOf(t, r.FormValue("client_assertion"))
		if header["kid"] != a.keys.all()[0].id || claims["aud"] != "https://issuer.example" || claims["iss"] != claims["sub"] ||
			claims["sub"] != r.FormValue("client_id") {
			t.Errorf("the assertion says %v %v", header, claims)
		}
		ids = append(ids, claims["jti"].(string))
		if r.FormValue("refresh_token") != "ref" {
			t.Errorf("the form is %v", r.Form)
		}
		w.Header().Set("DPoP-Nonce", fmt.Sprintf("nonce%d", len(nonces)))
		if len(nonces) == 1 {
			w.WriteHeader(http.StatusBadRequest)
			io.WriteString(w, `{"error":"use_dpop_nonce"}`)
			return
		}
		io.WriteString(w, `{"done":true}`)
	}) + "/token"
	c := a.testCall(t, endpoint)
	for range 2 {
		if b, err := a.post(t.Context(), c); err != nil || string(b) != `{"done":true}` {
			t.Fatalf("%q, %v", b, err)
		}
	}
	if got := strings.Join(nonces, ","); got != ",nonce1,nonce2" {
		t.Errorf("nonces were %q", got)
	}
	if ids[0] == ids[1] || ids[1] == ids[2] {
		t.Errorf("an assertion was shown twice: %q", ids)
	}
	c.grant, nonces = "oauth-2", nonces[:1]
	if _, err := a.post(t.Context(), c); err != nil || nonces[1] != "" {
		t.Errorf("another grant had nonce %q, %v", nonces[1], err)
	}
}

// TestPostFaults: what servers may do wrong, and how often they are then asked.
func TestPostFaults(t *testing.T) {
	refusal := func(status int, body string, header ...string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			for i := 0; i < len(header); i += 2 {
				w.Header().Set(header[i], header[i+1])
			}
			w.WriteHeader(status)
			io.WriteString(w, body)
		}
	}
	var count atomic.Int32
	changing := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("DPoP-Nonce", fmt.Sprint("n", count.Load()))
		w.WriteHeader(http.StatusBadRequest)
		io.WriteString(w, `{"error":"use_dpop_nonce"}`)
	}
	endless := func(w http.ResponseWriter, r *http.Request) {
		b := make([]byte, 64<<10)
		for r.Context().Err() == nil {
			if _, err := w.Write(b); err != nil {
				return
			}
		}
	}
	cut := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		io.WriteString(w, `{"access_token":`)
		panic(http.ErrAbortHandler)
	}
	for name, c := range map[string]struct {
		h     http.HandlerFunc
		asked int
		kind  error
		words string
	}{
		"a nonce that changes on every answer": {changing, 2, ErrUnsupported, "use_dpop_nonce"},
		"no nonce":                             {refusal(400, `{"error":"use_dpop_nonce"}`), 1, ErrUnsupported, "use_dpop_nonce"},
		"no text as nonce":                     {refusal(400, `{"error":"use_dpop_nonce"}`, "DPoP-Nonce", "a b"), 1, ErrUnsupported, ""},
		"a long nonce": {refusal(400, `{"error":"use_dpop_nonce"}`, "DPoP-Nonce", strings.Repeat("n", maxNonce+1)), 1,
			ErrUnsupported, ""},
		"500":        {refusal(500, `{"error":"server_error"}`), 1, ErrUnavailable, "does not answer as it should"},
		"503, wait":  {refusal(503, ``, "Retry-After", "7"), 1, ErrUnavailable, ""},
		"429":        {refusal(429, `{"error":"invalid_grant"}`, "Retry-After", "120"), 1, ErrTooManyRequests, "asks to wait"},
		"redirect":   {refusal(307, ``, "Location", "http://127.0.0.1:1/"), 1, ErrUnsupported, "status 307"},
		"1 GB":       {endless, 1, ErrUnavailable, ""},
		"cut":        {cut, 1, ErrUnavailable, ""},
		"a refusal":  {refusal(400, `{"error":"invalid_request","error_description":"no\u001b[31m good"}`), 1, ErrUnsupported, "no [31m good"},
		"no JSON":    {refusal(400, `<html>`), 1, ErrUnsupported, "status 400"},
		"wrong JSON": {refusal(400, `{"error":{"a":1}}`), 1, ErrUnsupported, "status 400"},
	} {
		t.Run(name, func(t *testing.T) {
			a := testAgent(t)
			count.Store(0)
			endpoint := served(t, func(w http.ResponseWriter, r *http.Request) { count.Add(1); c.h(w, r) })
			_, err := a.post(t.Context(), a.testCall(t, endpoint))
			if err == nil {
				t.Fatal("it was taken")
			}
			kindIs(t, a.serverError(endpoint, err), c.kind, c.words)
			if got := int(count.Load()); got != c.asked {
				t.Errorf("asked %d times, want %d", got, c.asked)
			}
			if isRefused(err, "invalid_grant") {
				t.Error("a grant would end by it")
			}
		})
	}
	a := testAgent(t)
	for name, wait := range map[string]time.Duration{"429": 2 * time.Minute, "503": 7 * time.Second} {
		status, seconds := 429, "120"
		if name == "503" {
			status, seconds = 503, "7"
		}
		endpoint := served(t, refusal(status, "", "Retry-After", seconds))
		_, err := a.post(t.Context(), a.testCall(t, endpoint))
		if e := a.serverError(endpoint, err); e.RetryAfter != wait {
			t.Errorf("%s: RetryAfter is %v, want %v", name, e.RetryAfter, wait)
		}
	}
}

// TestPostNowhere: addresses that are not asked, keys that are gone, and a caller that has gone.
func TestPostNowhere(t *testing.T) {
	a := testAgent(t)
	public := newAgent(nil, false, time.Now, a.log, a.keys)
	_, err := public.post(t.Context(), a.testCall(t, served(t, func(http.ResponseWriter, *http.Request) { t.Error("loopback was asked") })))
	if !errors.Is(err, httpx.ErrForbiddenAddress) {
		t.Error(err)
	}
	kindIs(t, public.serverError("http://127.0.0.1", err), ErrUnsupported, "not public")

	asked := served(t, func(http.ResponseWriter, *http.Request) { t.Error("asked without a key") })
	c := a.testCall(t, asked)
	c.keyID = "gone"
	if _, err := a.post(t.Context(), c); !errors.Is(err, errNoClientKey) {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	silent := served(t, func(_ http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body) // else net/http does not notice that the caller has gone
		cancel()
		<-r.Context().Done()
	})
	if _, err := a.post(ctx, a.testCall(t, silent)); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// TestNonces: so many are remembered, the ones that were used last.
func TestNonces(t *testing.T) {
	var n nonces
	u := &url.URL{Scheme: "https", Host: "pds.example", Path: "/token"}
	for i := range 3 * maxNonces {
		n.saw(fmt.Sprint(i), u, http.Header{"Dpop-Nonce": {fmt.Sprint("n", i)}})
		if got := n.get("0", &url.URL{Scheme: "https", Host: "pds.example", Path: "/xrpc/x"}); got != "n0" {
			t.Fatalf("after %d others the one in use is %q", i, got)
		}
	}
	if size := len(n.young) + len(n.old); size > 2*maxNonces {
		t.Errorf("%d are kept", size)
	}
	if got := n.get("1", u); got != "" {
		t.Errorf("an old one is %q", got)
	}
	if got := n.get("0", &url.URL{Scheme: "https", Host: "other.example"}); got != "" {
		t.Errorf("another server's is %q", got)
	}
}

func TestPlain(t *testing.T) {
	for in, want := range map[string]string{
		"":                        "",
		"short":                   "short",
		"a\nb\x1b[31m":            "a b [31m",
		"\xff\xfe":                "?",
		strings.Repeat("x", 20):   strings.Repeat("x", 16) + "…",
		strings.Repeat("ä", 9):    strings.Repeat("ä", 8) + "…",
		"123456789012345ä and so": "123456789012345…",
	} {
		if got := plain(in, 16); got != want {
			t.Errorf("%q became %q, want %q", in, got, want)
		}
	}
}
