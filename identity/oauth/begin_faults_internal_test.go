package oauth

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	indigo "github.com/bluesky-social/indigo/atproto/identity"
	"github.com/bluesky-social/indigo/atproto/syntax"

	"github.com/atcr-dev/atcr/identity"
	"github.com/atcr-dev/atcr/internal/realtest"
)

// TestBeginFaults: the reference PDS behind a proxy that fails, also after the PDS has done what was asked.
func TestBeginFaults(t *testing.T) {
	t.Parallel()
	network := realtest.Network(t, realtest.NetworkOptions{Proxied: true})
	proxy, alice := network.Proxy[0], network.Account("alice")
	c := realClient(t, network, nil)
	begin := func() (*Started, error) { return c.Begin(t.Context(), Begin{Account: "alice.test"}) }
	count := func(table string) (n int) {
		t.Helper()
		if err := c.config.DB.Read().QueryRowContext(t.Context(), "select count(*) from "+table).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}

	for _, path := range []string{"/.well-known/oauth-protected-resource", "/.well-known/oauth-authorization-server", "/oauth/par"} {
		for name, f := range map[string]struct {
			realtest.Fault
			kind error
		}{
			"500":             {realtest.Fault{Kind: realtest.Fail}, ErrUnavailable},
			"500, but done":   {realtest.Fault{Kind: realtest.FailDone}, ErrUnavailable},
			"429":             {realtest.Fault{Kind: realtest.Fail, Status: 429}, ErrTooManyRequests},
			"reset":           {realtest.Fault{Kind: realtest.Drop}, ErrUnavailable},
			"reset, but done": {realtest.Fault{Kind: realtest.DropDone}, ErrUnavailable},
			"cut":             {realtest.Fault{Kind: realtest.CutResponse, After: 10}, ErrUnavailable},
			"silence":         {realtest.Fault{Kind: realtest.Hang}, ErrUnavailable},
		} {
			if path != "/oauth/par" && (f.Kind == realtest.Drop || f.Kind == realtest.DropDone) {
				f.Times = -1 // net/http asks again when it is a GET
			}
			if name == "silence" {
				c.agent.timeout = 100 * time.Millisecond
			}
			f.Path = path
			proxy.Inject(f.Fault)
			_, err := begin()
			if kindIs(t, err, f.kind, "localhost"); t.Failed() {
				t.Fatalf("that was %s at %s", name, path)
			}
			c.agent.timeout = callTimeout
			proxy.Clear()
		}
	}
	if n := count("oauth_request"); n != 0 {
		t.Errorf("%d sign-ins wait that could not be begun", n)
	}

	t.Run("Redeem", func(t *testing.T) {
		change := func(change func(map[string]any)) func([]byte) []byte {
			return func(body []byte) []byte {
				var m map[string]any
				if err := json.Unmarshal(body, &m); err != nil || m["error"] != nil {
					return body // such as use_dpop_nonce
				}
				change(m)
				b, _ := json.Marshal(m)
				return b
			}
		}
		lie := func(f func(map[string]any)) realtest.Fault {
			return realtest.Fault{Kind: realtest.Rewrite, Rewrite: change(f)}
		}
		for name, f := range map[string]struct {
			realtest.Fault
			kind    error
			words   string
			revoked bool // what was granted is given back
		}{
			"500":             {realtest.Fault{Kind: realtest.Fail}, ErrUnavailable, "", false},
			"500, but done":   {realtest.Fault{Kind: realtest.FailDone}, ErrUnavailable, "", false},
			"429":             {realtest.Fault{Kind: realtest.Fail, Status: 429}, ErrTooManyRequests, "", false},
			"reset, but done": {realtest.Fault{Kind: realtest.DropDone}, ErrUnavailable, "", false},
			"no JSON":         {realtest.Fault{Kind: realtest.Rewrite, Rewrite: func([]byte) []byte { return []byte("<html>") }}, ErrUnsupported, "", false},
			"another account": {lie(func(m map[string]any) { m["sub"] = network.Account("bob").DID }), ErrDenied, "another account", true},
			"no account":      {lie(func(m map[string]any) { delete(m, "sub") }), ErrDenied, "another account", true},
			"less":            {lie(func(m map[string]any) { m["scope"] = "atproto repo:io.atcr.manifest" }), ErrDenied, "repo:io.atcr.tag, blob:*/*", true},
			"nothing":         {lie(func(m map[string]any) { delete(m, "scope") }), ErrUnsupported, "scope", true},
			"bearer":          {lie(func(m map[string]any) { m["token_type"] = "Bearer" }), ErrUnsupported, "token_type", true},
			"no refresh":      {lie(func(m map[string]any) { delete(m, "refresh_token") }), ErrUnsupported, "refresh_token", false},
			"no token":        {lie(func(m map[string]any) { m["access_token"] = "a\nb" }), ErrUnsupported, "access_token", false},
		} {
			t.Run(name, func(t *testing.T) {
				started, err := begin()
				if err != nil {
					t.Fatal(err)
				}
				back := newPerson(t, alice).allows(started.URL)
				f.Path = "/oauth/token"
				proxy.Inject(f.Fault)
				defer proxy.Clear()
				proxy.Requests()
				_, err = c.Finish(t.Context(), back, started.Browser)
				kindIs(t, err, f.kind, f.words)
				if revoked := slices.Contains(proxy.Requests(), "POST /oauth/revoke"); revoked != f.revoked {
					t.Errorf("revoked: %v, want %v", revoked, f.revoked)
				}
				_, err = c.Finish(t.Context(), back, started.Browser)
				kindIs(t, err, ErrState, "finished already")
			})
		}
		if n, m := count("oauth_grant"), count("oauth_request"); n+m != 0 {
			t.Errorf("%d grants and %d sign-ins are kept", n, m)
		}
	})

	t.Run("CoarseScopes", func(t *testing.T) { // a server that knows none but the general one
		proxy.Inject(realtest.Fault{Kind: realtest.Fail, Path: "/oauth/par", Status: 400, Body: `{"error":"invalid_scope"}`})
		started, err := begin()
		if err != nil {
			t.Fatal(err)
		}
		finished, err := c.Finish(t.Context(), newPerson(t, alice).allows(started.URL), started.Browser)
		if err != nil {
			t.Fatal(err)
		}
		if g := finished.Grant; !slices.Contains(g.Scopes, scopeTransition) || len(g.Missing) > 0 {
			t.Errorf("%+v", g)
		}
		proxy.Inject(realtest.Fault{
			Kind: realtest.Fail, Path: "/oauth/par", Status: 400, Body: `{"error":"invalid_scope"}`, Times: 2,
		})
		_, err = begin()
		kindIs(t, err, ErrUnsupported, "invalid_scope")
	})

	t.Run("GoneAway", func(t *testing.T) { // whoever waits for a code to be redeemed
		started, err := begin()
		if err != nil {
			t.Fatal(err)
		}
		back := newPerson(t, alice).allows(started.URL)
		ctx, cancel := context.WithCancel(t.Context())
		proxy.Inject(realtest.Fault{Kind: realtest.Delay, Path: "/oauth/token", Match: func(*http.Request) bool { cancel(); return true }})
		if _, err := c.Finish(ctx, back, started.Browser); err != nil || ctx.Err() == nil {
			t.Errorf("%v; the context: %v", err, ctx.Err())
		}
	})
}

// fakePAR is a server that judges authorization requests as the test says, for what the real one can't be made to answer to a loopback
// client.
func fakePAR(t *testing.T, judge func(r *http.Request) string) *identity.MockDirectory {
	t.Helper()
	mux := http.NewServeMux()
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	mux.HandleFunc("/.well-known/oauth-protected-resource", func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, `{"authorization_servers":["`+s.URL+`"]}`)
	})
	mux.HandleFunc("/.well-known/oauth-authorization-server", func(w http.ResponseWriter, _ *http.Request) {
		w.Write(encoded(t, serverDocument(s.URL)))
	})
	mux.HandleFunc("/par", func(w http.ResponseWriter, r *http.Request) {
		if refusal := judge(r); refusal != "" {
			w.WriteHeader(http.StatusBadRequest)
			io.WriteString(w, `{"error":"`+refusal+`"}`)
			return
		}
		w.WriteHeader(http.StatusCreated)
		io.WriteString(w, `{"request_uri":"urn:ietf:params:oauth:request_uri:1","expires_in":300}`)
	})
	directory := identity.NewMockDirectory()
	directory.Insert(identity.Account{
		DID: syntax.DID("did:plc:cccccccccccccccccccccccc"), Handle: "carol.test",
		Services: map[string]indigo.ServiceEndpoint{"atproto_pds": {Type: "AtprotoPersonalDataServer", URL: s.URL}},
	})
	return directory
}

// TestBeginAfterRotation: a server that still has the metadata of before a rotation gets the key of before, by which the grant then goes on.
func TestBeginAfterRotation(t *testing.T) {
	var shown []string
	var known map[string]bool
	judge := func(r *http.Request) string {
		header, _ := jwtOf(t, r.FormValue("client_assertion"))
		kid := header["kid"].(string)
		if shown = append(shown, kid); !known[kid] {
			return "invalid_client"
		}
		return ""
	}
	c, err := testClient(t, func(c *Config) { c.Directory, c.TestMode = fakePAR(t, judge), true })
	if err != nil {
		t.Fatal(err)
	}
	old := c.agent.keys.all()[0].id
	fresh, err := RotateKey(c.config.KeyPath)
	if err != nil {
		t.Fatal(err)
	}
	c, err = New(t.Context(), c.config)
	if err != nil {
		t.Fatal(err)
	}
	known = map[string]bool{old: true}
	started, err := c.Begin(t.Context(), Begin{Account: "carol.test"})
	if err != nil || !slices.Equal(shown, []string{fresh, old}) {
		t.Fatalf("%v; keys that were shown: %q, want %q and %q", err, shown, fresh, old)
	}
	if !strings.Contains(started.URL, "client_id=https%3A%2F%2Fregistry.example.com%2Foauth-client-metadata.json") ||
		!strings.Contains(started.URL, "/authorize?") {
		t.Errorf("the browser is sent to %s", started.URL)
	}
	known, shown = map[string]bool{fresh: true, old: true}, nil
	if _, err := c.Begin(t.Context(), Begin{Account: "carol.test"}); err != nil || !slices.Equal(shown, []string{fresh}) {
		t.Errorf("%v; keys that were shown: %q", err, shown)
	}
	known = nil
	_, err = c.Begin(t.Context(), Begin{Account: "carol.test"})
	kindIs(t, err, ErrUnsupported, "invalid_client")
}

// TestBeginCancelled: whoever goes away is told nothing of the server.
func TestBeginCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	c, err := testClient(t, func(c *Config) {
		c.Directory, c.TestMode = fakePAR(t, func(*http.Request) string { cancel(); return "invalid_client" }), true
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Begin(ctx, Begin{Account: "carol.test"}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if _, err := c.Begin(ctx, Begin{Account: "carol.test"}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// FuzzCallback: a query that anybody can make up is an answer or an error of one kind, and never finds a sign-in.
func FuzzCallback(f *testing.F) {
	for _, q := range []string{
		"state=a&iss=https://pds.example&code=c", "state=a&iss=b&error=access_denied&error_description=no", "state=a&state=b&iss=c&code=d",
		"", "code=a", "%zz", "state=&iss=&code=", "state=a;b&iss=c&code=d&error=e",
	} {
		f.Add(q)
	}
	f.Fuzz(func(t *testing.T, query string) {
		q := httptest.NewRequest(http.MethodGet, "/", nil).URL
		q.RawQuery = query
		a, err := parseCallback(q.Query())
		if err != nil {
			return
		}
		if a.state == "" || a.issuer == "" || (a.code == "") == (a.problem == "") || len(a.state) > 128 {
			t.Errorf("%q is %+v", query, a)
		}
		if a.problem != "" {
			e := deniedBy(&request{Server: server{Issuer: a.issuer}}, a)
			if len(e.Message) > 1024 || plain(e.Message, 1024) != e.Message {
				t.Errorf("%q: the message is %q", query, e.Message)
			}
		}
	})
}
