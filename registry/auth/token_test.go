package auth

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestAnonymousGetsPull(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	tok := f.token("", "", "repository:alice.test/app:pull,push",
		"repository:nobody.test/x:push repository:did:plc:aaaaaaaaaaaaaaaaaaaaaaaa/y:*", "registry:catalog:*", "nonsense")
	if got := f.granted(tok); got != "alice.test/app:pull did:plc:aaaaaaaaaaaaaaaaaaaaaaaa/y:pull" {
		t.Error(got)
	}
	w := f.get("", "")
	var out map[string]any
	if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil || out["token"] != out["access_token"] || out["expires_in"] != 300.0 ||
		out["issued_at"] == "" {
		t.Errorf("%v %v", out, err)
	}
	if w.Header().Get("Cache-Control") != "no-store" {
		t.Error("cacheable")
	}
	if n := f.pds.count("com.atproto.server.createSession"); n != 0 {
		t.Error("the PDS was asked")
	}
}

// Every spelling of a user name signs in, and rights end at the own namespace.
func TestSignInNames(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	for _, c := range []struct{ user, password string }{
		{"alice.test", app}, {"Alice.TEST", app}, {"@alice.test", app}, {"did-plc-" + alice[8:], app},
		{"did", "plc:" + alice[8:] + ":" + app}, // Basic cuts a DID at its first colon
	} {
		tok := f.token(c.user, c.password, "repository:alice.test/app:pull,push", "repository:bob.test/app:pull,push,delete",
			"repository:did-plc-"+alice[8:]+"/a/b:delete", "repository:none.test/app:push")
		if got := f.granted(tok); got != "alice.test/app:pull,push bob.test/app:pull did-plc-"+alice[8:]+"/a/b:delete" {
			t.Errorf("%s: %s", c.user, got)
		}
		cl, _ := f.verify(tok, 0)
		if cl.DID != alice || cl.Subject != alice || cl.Session == "" {
			t.Errorf("%s: %+v", c.user, cl)
		}
	}
	if n := f.pds.count("com.atproto.server.createSession"); n != 1 {
		t.Errorf("the password was sent %d times", n)
	}
}

// Jobs that begin at the same moment sign in at the account's server once.
func TestOneSignIn(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	var jobs sync.WaitGroup
	for range 16 {
		jobs.Go(func() {
			if w := f.get("alice.test", app, "repository:alice.test/app:pull,push"); w.Code != http.StatusOK {
				t.Errorf("%d %s", w.Code, w.Body)
			}
		})
	}
	jobs.Wait()
	if n := f.pds.count("com.atproto.server.createSession"); n != 1 {
		t.Errorf("the password was sent %d times", n)
	}
}

func TestOAuth2Form(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	post := func(form url.Values) *httptest.ResponseRecorder {
		r := httptest.NewRequest(http.MethodPost, "/auth/token", strings.NewReader(form.Encode()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		return f.serve(r)
	}
	w := post(url.Values{"grant_type": {"password"}, "username": {"alice.test"}, "password": {app},
		"scope": {"repository:alice.test/app:push"}, "client_id": {"containerd"}})
	var out tokenAnswer
	if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil || f.granted(out.AccessToken) != "alice.test/app:push" {
		t.Errorf("%d %s %v", w.Code, w.Body, err)
	}
	if out.Scope != "repository:alice.test/app:push" {
		t.Error(out.Scope)
	}
	if w := post(url.Values{"grant_type": {"client_credentials"}}); w.Code != 400 {
		t.Error(w.Code)
	}
	if w := post(url.Values{"scope": {strings.Repeat("x", maxForm)}}); w.Code != 400 {
		t.Error(w.Code)
	}
	r := httptest.NewRequest(http.MethodPost, "/auth/token?grant_type=password&username=alice.test&password="+app, nil)
	if w := f.serve(r); w.Code != 200 || f.pds.count("com.atproto.server.createSession") != 1 {
		t.Error("credentials in the URL were used", w.Code)
	}
}

// Unknown account, wrong password, no PDS: one answer, since others would tell who has an account.
func TestOneRefusal(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	var first string
	for _, c := range []struct{ user, password string }{
		{"alice.test", "wrong"}, {"nobody.test", app}, {"bob.test", app}, {"alice.test", "atcr_unknown"},
		{"did", "plc:eeeeeeeeeeeeeeeeeeeeeeee:" + app}, {"did:plc:eeeeeeeeeeeeeeeeeeeeeeee", app},
	} {
		f.pass(time.Hour)
		w := f.get(c.user, c.password)
		all := w.Body.String() + w.Header().Get("WWW-Authenticate")
		if first == "" {
			first = all
		}
		if w.Code != 401 || all != first || code(t, w) != "UNAUTHORIZED" {
			t.Errorf("%.20q: %d %s", c.user, w.Code, all)
		}
	}
	r := httptest.NewRequest(http.MethodGet, "/auth/token", nil)
	r.Header.Set("Authorization", "Bearer x")
	if w := f.serve(r); w.Code != 401 {
		t.Error(w.Code)
	}
}

// What can be nobody's name is told apart, with the remedy: it says nothing of accounts. It costs a guess all the same.
func TestMalformedSignIn(t *testing.T) {
	f := newFixture(t, nil)
	for _, c := range []struct{ user, password, want string }{
		{"alice@example.com", app, `"alice@example.com" is an e-mail address: sign in with your handle`},
		{"@alice", app, `"alice" is a handle without its domain: sign in with all of it, as in docker login registry.example.com -u alice.bsky.social`},
		{"not a name", app, `"not a name" is neither a handle nor a DID`},
		{"did", "plc:x", `"did" is neither`}, {"did", app, `"did" is neither`},
		{" ", app, "no user name"}, {"alice.test", "", "no password"},
		{strings.Repeat("a", 600), app, "at most 512 bytes"}, {"alice.test", strings.Repeat("a", 2000), "at most 512 bytes"},
	} {
		f.pass(time.Hour)
		w := f.get(c.user, c.password)
		var body struct {
			Errors []struct{ Code, Message string }
		}
		err := json.Unmarshal(w.Body.Bytes(), &body)
		if err != nil || w.Code != 401 || len(body.Errors) != 1 || body.Errors[0].Code != "UNAUTHORIZED" ||
			!strings.Contains(body.Errors[0].Message, c.want) {
			t.Errorf("%.20q: %d %s", c.user, w.Code, w.Body)
		}
		if w.Header().Get("WWW-Authenticate") == "" || strings.Contains(w.Body.String(), "REGISTRY") {
			t.Errorf("%.20q: %q %s", c.user, w.Header().Get("WWW-Authenticate"), w.Body)
		}
	}
	if n := f.pds.count("com.atproto.server.createSession"); n != 0 {
		t.Errorf("the PDS was asked %d times", n)
	}
	slowed := 0
	for range 50 {
		if f.get("alice@example.com", app).Code == 429 {
			slowed++
		}
	}
	if slowed == 0 {
		t.Error("guesses by such names are not slowed")
	}
}

func TestMainPassword(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	for _, password := range []string{main, "second-factor"} {
		w := f.get("alice.test", password)
		if w.Code != 403 || code(t, w) != "DENIED" || !strings.Contains(w.Body.String(), "app password") {
			t.Errorf("%d %s", w.Code, w.Body)
		}
	}
	if f.pds.count("com.atproto.server.deleteSession") != 1 {
		t.Error("the session with full access was left behind")
	}
	f = newFixture(t, func(o *Options) { o.AllowAccountPassword = true })
	f.token("alice.test", main)
}

func TestPDSTrouble(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	f.pds.set(func() { f.pds.status = 500 })
	w := f.get("alice.test", app)
	if w.Code != 503 || code(t, w) != "UNAVAILABLE" || !strings.Contains(w.Body.String(), hostOf(f.pds.URL)) ||
		w.Header().Get("Retry-After") == "" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	f.pds.set(func() { f.pds.status, f.pds.retry = 429, "77" })
	if w := f.get("alice.test", app); w.Code != 429 || w.Header().Get("Retry-After") != "77" {
		t.Errorf("%d %v", w.Code, w.Header())
	}
	f.pds.set(func() { f.pds.status = 0 })
	f.token("alice.test", app)
	// Down: a known password pulls, and is told why it can't push; for a day.
	f.pds.set(func() { f.pds.status = 502 })
	f.pass(11 * time.Minute)
	f.token("alice.test", app, "repository:alice.test/app:pull")
	if w := f.get("alice.test", app, "repository:alice.test/app:pull,push"); w.Code != 503 {
		t.Error(w.Code)
	}
	if w := f.get("alice.test", "wrong", "repository:alice.test/app:pull"); w.Code != 503 {
		t.Error(w.Code)
	}
	f.pass(24 * time.Hour)
	if w := f.get("alice.test", app, "repository:alice.test/app:pull"); w.Code != 503 {
		t.Error(w.Code)
	}
}

// A PDS is untrusted: an endless answer is cut, and one for another account is none.
func TestHostilePDS(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	for name, h := range map[string]http.HandlerFunc{
		"endless": func(w http.ResponseWriter, _ *http.Request) {
			for {
				if _, err := w.Write(make([]byte, 64<<10)); err != nil {
					return
				}
			}
		},
		"not JSON": func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) },
		"redirect": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, f.pds.URL+r.URL.Path, http.StatusTemporaryRedirect)
		},
		"another account": func(w http.ResponseWriter, _ *http.Request) {
			writeJSON(w, 200, map[string]string{"did": bob, "accessJwt": "x", "refreshJwt": "y"})
		},
		"inactive": func(w http.ResponseWriter, _ *http.Request) {
			writeJSON(w, 200, map[string]any{"did": alice, "accessJwt": "x", "refreshJwt": "y", "active": false})
		},
	} {
		hostile := httptest.NewServer(h)
		f.insert(alice, "alice.test", hostile.URL)
		if w := f.get("alice.test", app); w.Code != 503 && w.Code != 401 {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
		}
		hostile.Close()
		f.pass(time.Hour)
	}
	if f.pds.count("com.atproto.server.createSession") != 0 {
		t.Error("a password followed a redirect")
	}
	for _, bad := range []string{"ftp://x", "http://u:p@127.0.0.1", "http://127.0.0.1/path", "::", "http://", "https://x?y"} {
		f.insert(alice, "alice.test", bad)
		f.pass(time.Hour)
		if w := f.get("alice.test", app); w.Code != 401 {
			t.Errorf("PDS %q: %d", bad, w.Code)
		}
	}
	// Outside test mode a PDS is https, and the guard keeps untrusted addresses from leading inside.
	f = newFixture(t, func(o *Options) { o.TestMode = false })
	if w := f.get("alice.test", app); w.Code != 401 {
		t.Error(w.Code)
	}
	f.insert(alice, "alice.test", "https://localhost:1")
	if w := f.get("alice.test", app); w.Code != 403 || f.pds.count("com.atproto.server.createSession") != 0 {
		t.Error(w.Code)
	}
}

func TestBaseURL(t *testing.T) {
	t.Parallel()
	f := newFixture(t, func(o *Options) { o.BaseURL, o.ListenAddr = "", "registry.lan:5000" })
	for host, want := range map[string]int{
		"127.0.0.1:5000": 200, "localhost": 200, "LOCALHOST:1": 200, "[::1]:5000": 200, "registry.lan:5000": 200,
		"registry.lan": 421, "evil.example": 421, "127.0.0.1.evil.example": 421, "127.0.0.1:5000\" x=\"": 421, "": 421, "u@127.0.0.1": 421, "10.0.0.1": 421,
	} {
		r := httptest.NewRequest(http.MethodGet, "/auth/token", nil)
		r.Host = host
		if w := f.serve(r); w.Code != want {
			t.Errorf("%q: %d %s", host, w.Code, w.Body)
		}
	}
	for _, bad := range []string{"registry.example.com", "https://x/path", "ftp://x", "https://u:p@x", "https://x?y"} {
		if _, err := newBaseURL(bad, ""); err == nil {
			t.Error(bad)
		}
	}
}

func FuzzParseScope(f *testing.F) {
	for _, s := range []string{"repository:alice.test/app:pull,push", "repository:did:plc:x/app:*", "registry:catalog:*", "a:b", "::",
		"repository(plugin):a/b:pull"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		wanted, ok := parseScopes([]string{s})
		if len(wanted) > maxScopes || !ok && wanted != nil {
			t.Fatal(len(wanted))
		}
		for _, a := range wanted {
			if a.Type != "repository" || len(a.Actions) == 0 || len(a.Actions) > 3 || strings.ContainsAny(a.Name, " \"") {
				t.Fatalf("%+v", a)
			}
		}
	})
}

func TestTooManyScopes(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	var scopes []string
	for i := range maxScopes + 1 {
		scopes = append(scopes, "repository:a.test/"+strings.Repeat("x", i+1)+":pull")
	}
	if w := f.get("", "", scopes[:maxScopes]...); w.Code != 200 {
		t.Error(w.Code)
	}
	if w := f.get("", "", scopes...); w.Code != 400 {
		t.Error(w.Code)
	}
}
