package web

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/atcr-dev/atcr/identity/oauth"
)

// The way through: a form, a page between that leads to the account's server, the callback, a new cookie.
func TestSignInAtOnesServer(t *testing.T) {
	f := newFixture(t, nil)
	b := f.person()
	resp, _ := b.get("/settings/access?x=1")
	if resp.StatusCode != http.StatusSeeOther || where(resp) != "/login?next=%2Fsettings%2Faccess%3Fx%3D1" {
		t.Fatal(resp.StatusCode, where(resp))
	}
	_, body := b.get(where(resp))
	if !strings.Contains(body, `value="/settings/access?x=1"`) || !strings.Contains(body, "Sign in to see") {
		t.Error(body)
	}
	resp, _ = b.post("/login", "account", " @alice.test ", "next", "/settings/access?x=1")
	if resp.StatusCode != http.StatusSeeOther || where(resp) != "/login/go" {
		t.Fatal(resp.StatusCode, where(resp))
	}
	if o := f.begun[0]; o.Account != "alice.test" || o.Keep {
		t.Errorf("%+v", o)
	}
	cookie := resp.Cookies()[0]
	if cookie.Name != "__Host-atcr-login" || !cookie.Secure || !cookie.HttpOnly || cookie.SameSite != http.SameSiteLaxMode || cookie.MaxAge != 600 {
		t.Errorf("%+v", cookie)
	}
	resp, body = b.get("/login/go")
	const to = "https://pds.test/oauth/authorize?request_uri=urn:x"
	if resp.StatusCode != 200 || resp.Header.Get("Refresh") != "0;url="+to || !strings.Contains(body, `href="`+to) || where(resp) != "" {
		t.Fatal(resp.StatusCode, resp.Header, body)
	}
	if b.signedIn() {
		t.Error("signed in before the server said so")
	}
	resp, body = b.get("/auth/oauth/callback?state=s&code=c")
	if resp.StatusCode != http.StatusSeeOther || where(resp) != "/settings/access?x=1" {
		t.Fatal(resp.StatusCode, where(resp), body)
	}
	if c := resp.Cookies()[0]; c.Name != "__Host-atcr" || !c.Secure || !c.HttpOnly || c.SameSite != http.SameSiteLaxMode {
		t.Errorf("%+v", c)
	}
	resp, body = b.get("/settings/access")
	if resp.StatusCode != 200 || !strings.Contains(body, "alice.test") || !strings.Contains(body, "Firefox on Linux") ||
		!strings.Contains(body, "this browser") {
		t.Error(resp.StatusCode, body)
	}
	// Once more: a new cookie, and the grant of before ends.
	before := b.cookies["__Host-atcr"]
	f.grant = "oauth-2"
	b.signIn()
	if b.cookies["__Host-atcr"] == before {
		t.Error("the cookie stayed")
	}
	if got := f.endedGrants(); !slices.Equal(got, []string{"a oauth-1"}) {
		t.Errorf("ended: %q", got)
	}
	resp, _ = b.post("/logout")
	if resp.StatusCode != http.StatusSeeOther || b.signedIn() {
		t.Error(resp.StatusCode, "signed out, and still in")
	}
	if got := f.endedGrants(); !slices.Equal(got, []string{"a oauth-2"}) {
		t.Errorf("sign-out ended %q", got)
	}
}

// The callback counts in the browser that began alone.
func TestCallbackOfAnother(t *testing.T) {
	f := newFixture(t, nil)
	mine, other := f.person(), f.person()
	mine.post("/login", "account", "alice.test")
	resp, body := other.get("/auth/oauth/callback?state=s&code=c")
	if resp.StatusCode != http.StatusBadRequest || !strings.Contains(body, "This sign-in is not known here.") || other.signedIn() {
		t.Error(resp.StatusCode, body)
	}
	if resp, _ := mine.get("/auth/oauth/callback?state=s&code=c"); resp.StatusCode != http.StatusSeeOther {
		t.Error("the browser that began can't finish", resp.StatusCode)
	}
}

func TestServersTrouble(t *testing.T) {
	for _, c := range []struct {
		err    error
		status int
		says   string
	}{
		{&oauth.Error{Kind: oauth.ErrUnsupported, Message: "pds.test has no OAuth: use an app password"}, 400, "Pds.test has no OAuth: use an app password."},
		{&oauth.Error{Kind: oauth.ErrUnavailable, Message: "pds.test does not answer " + evil}, 503, "Pds.test does not answer &lt;script&gt;"},
		{&oauth.Error{Kind: oauth.ErrTooManyRequests, Message: "wait", RetryAfter: 90 * time.Second}, 429, "Wait."},
		{&oauth.Error{Kind: oauth.ErrDenied, Message: "this was not granted: blob:*/*"}, 403, "This was not granted: blob:*/*."},
		{http.ErrBodyNotAllowed, 500, "Try again later."},
	} {
		f := newFixture(t, nil)
		b := f.person()
		f.failing = c.err
		for range 2 {
			resp, body := b.post("/login", "account", "alice.test", "next", "/device")
			if resp.StatusCode != c.status || !strings.Contains(body, c.says) || strings.Contains(body, "<script") {
				t.Errorf("begin, %v: %d\n%s", c.err, resp.StatusCode, body)
			}
			if !strings.Contains(body, `value="alice.test"`) && c.status != 500 || !strings.Contains(body, `value="/device"`) {
				t.Errorf("%v: the form is empty", c.err)
			}
			if open := strings.Contains(body, "<details open>"); open != unsupported(c.err) {
				t.Errorf("%v: the form for app passwords is open: %t", c.err, open)
			}
		}
		f.failing = nil
		b.post("/login", "account", "alice.test")
		f.failing = c.err
		resp, body := b.get("/auth/oauth/callback?state=s&code=c")
		if resp.StatusCode != c.status || !strings.Contains(body, strings.ReplaceAll(c.says, "Try again later", "Try again later")) || b.signedIn() {
			t.Errorf("finish, %v: %d\n%s", c.err, resp.StatusCode, body)
		}
		if c.status == 429 && resp.Header.Get("Retry-After") != "90" {
			t.Error(resp.Header)
		}
	}
}

func TestAppPassword(t *testing.T) {
	f := newFixture(t, nil)
	b := f.person()
	for password, status := range map[string]int{"wrong": 401, "": 401} {
		resp, body := b.post("/login", "account", "alice.test", "password", password)
		if resp.StatusCode != status || !strings.Contains(body, "Sign-in failed: use an app password.") || b.signedIn() {
			t.Errorf("%q: %d\n%s", password, resp.StatusCode, body)
		}
		if password != "" && strings.Contains(body, password+`"`) {
			t.Error("the page shows the password")
		}
	}
	if resp, body := b.post("/login", "account", "down.test", "password", "x"); resp.StatusCode != 503 || !strings.Contains(body, "pds.test does not answer") {
		t.Error(resp.StatusCode, body)
	}
	resp, _ := b.post("/login", "account", "alice.test", "password", "right", "next", "/device?user_code=BCDF-GHJK")
	if resp.StatusCode != http.StatusSeeOther || where(resp) != "/device?user_code=BCDF-GHJK" || !b.signedIn() {
		t.Error(resp.StatusCode, where(resp))
	}

	none := newFixture(t, func(o *Options) { o.Passwords = nil })
	b = none.person()
	if _, body := b.get("/login"); strings.Contains(body, `type="password"`) {
		t.Error("where app passwords are not taken the form is there")
	}
	if resp, _ := b.post("/login", "account", "alice.test", "password", "right"); resp.StatusCode != 400 || b.signedIn() {
		t.Error(resp.StatusCode)
	}
	neither := newFixture(t, func(o *Options) { o.Passwords, o.OAuth = nil, nil })
	b = neither.person()
	if _, body := b.get("/login"); strings.Contains(body, "<input") {
		t.Error(body)
	}
	if resp, _ := b.get("/auth/oauth/callback?state=s"); resp.StatusCode != 404 {
		t.Error(resp.StatusCode)
	}
}

// Nothing changes by GET, from another site, or without a cookie.
func TestWhatChanges(t *testing.T) {
	f := newFixture(t, nil)
	b := f.person()
	b.signIn()
	for _, path := range []string{"/logout", "/settings/access/browsers/end", "/settings/access/devices/end", "/settings/access/logins/end",
		"/settings/access/robots/make", "/settings/access/robots/renew", "/settings/access/robots/end", "/login", "/device"} {
		if resp, body := b.get(path); path != "/login" && path != "/device" && (resp.StatusCode != 405 || resp.Header.Get("Allow") != "POST") {
			t.Errorf("GET %s: %d\n%s", path, resp.StatusCode, body)
		}
		for _, origin := range []string{"https://evil.example", "null", "https://other.example.com"} {
			r := httptest.NewRequest(http.MethodPost, base+path, strings.NewReader("all=others&account=alice.test&answer=deny"))
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			r.Header.Set("Origin", origin)
			if resp, _ := b.do(r); resp.StatusCode != http.StatusForbidden {
				t.Errorf("POST %s from %s: %d", path, origin, resp.StatusCode)
			}
		}
		if path != "/logout" && path != "/login" {
			if resp, _ := f.person().post(path, "id", "x"); resp.StatusCode != http.StatusSeeOther || !strings.HasPrefix(where(resp), "/login?") {
				t.Errorf("POST %s without a cookie: %d", path, resp.StatusCode)
			}
		}
	}
	if !b.signedIn() || len(f.decided) > 0 || len(f.begun) > 0 {
		t.Error("something changed")
	}
}

func TestLocalPath(t *testing.T) {
	for _, good := range []string{"/", "/device?user_code=BCDF-GHJK", "/settings/access", "/r/alice.test/app"} {
		if got := localPath(good, "no"); got != good {
			t.Errorf("%s: %s", good, got)
		}
	}
	for _, bad := range []string{"", "x", "//evil.example", "///evil.example", `/\evil.example`, `\\evil.example`, "https://evil.example/", "javascript:alert(1)",
		"/\t/evil.example", "/\n/evil.example", "http:evil", "/login", "/login/go", "/logout", "/auth/oauth/callback?x", "/" + strings.Repeat("x", 2000), "%2f%2fevil", "/%zz"} {
		if got := localPath(bad, "no"); got != "no" {
			t.Errorf("%q: %s", bad, got)
		}
	}
	f := newFixture(t, nil)
	b := f.person()
	resp, _ := b.post("/login", "account", "alice.test", "password", "right", "next", "//evil.example/")
	if where(resp) != "/settings/access" {
		t.Error(where(resp))
	}
}

// Sign-ins that one client begins ask servers of its choice: they are limited, for it alone.
func TestBeginsAreLimited(t *testing.T) {
	f := newFixture(t, nil)
	b := f.person()
	for i := range beginBurst {
		if resp, _ := b.post("/login", "account", "alice.test"); resp.StatusCode != http.StatusSeeOther {
			t.Fatal(i, resp.StatusCode)
		}
	}
	resp, body := b.post("/login", "account", "alice.test")
	if resp.StatusCode != 429 || resp.Header.Get("Retry-After") == "" || !strings.Contains(body, "wait a little") {
		t.Error(resp.StatusCode, body)
	}
	r := httptest.NewRequest(http.MethodPost, base+"/login", strings.NewReader("account=alice.test"))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.RemoteAddr = "198.51.100.7:1234"
	if resp, _ := f.person().do(r); resp.StatusCode != http.StatusSeeOther {
		t.Error("another client is refused", resp.StatusCode)
	}
	f.advance(time.Minute)
	if resp, _ := b.post("/login", "account", "alice.test"); resp.StatusCode != http.StatusSeeOther {
		t.Error("a minute later", resp.StatusCode)
	}
}

// Pages asked for by localhost are sent to 127.0.0.1; a Host that may be anybody's is none of ours.
func TestHosts(t *testing.T) {
	loopback := func(o *Options) { o.BaseURL, o.ListenAddr = "", "192.0.2.1:5000" }
	for _, c := range []struct {
		change func(*Options)
		method string
		url    string
		status int
		to     string
	}{
		{loopback, "GET", "http://localhost:5000/login?next=/device", 302, "http://127.0.0.1:5000/login?next=/device"},
		{loopback, "GET", "http://LOCALHOST:5000/x", 302, "http://127.0.0.1:5000/x"},
		{loopback, "POST", "http://localhost:5000/logout", 421, ""},
		{loopback, "GET", "http://127.0.0.1:5000/login", 200, ""},
		{loopback, "GET", "http://[::1]:5000/login", 302, "http://127.0.0.1:5000/login"},
		{func(o *Options) { loopback(o); o.OAuth = nil }, "GET", "http://[::1]:5000/login", 200, ""},
		{func(o *Options) { o.BaseURL, o.ListenAddr = "", "[::1]:5000" }, "GET", "http://[::1]:5000/login", 200, ""},
		{func(o *Options) { o.BaseURL, o.ListenAddr = "", "[::1]:5000" }, "GET", "http://localhost:5000/login", 302, "http://[::1]:5000/login"},
		{func(o *Options) { o.BaseURL = "http://[::1]" }, "GET", "http://localhost/login", 302, "http://[::1]/login"},
		{loopback, "GET", "http://192.0.2.1:5000/login", 200, ""},
		{loopback, "GET", "http://rebound.example:5000/login", 421, ""},
		{func(o *Options) { o.BaseURL = "http://localhost:5000" }, "GET", "http://localhost:5000/login", 302, "http://127.0.0.1:5000/login"},
		{func(o *Options) { o.BaseURL = "http://127.0.0.1:5000" }, "GET", "http://localhost:5000/login", 302, "http://127.0.0.1:5000/login"},
		{func(o *Options) { o.BaseURL = "http://127.0.0.1:5000" }, "GET", "http://rebound.example:5000/login", 421, ""},
		{nil, "GET", base + "/login", 200, ""},
		{nil, "GET", "http://127.0.0.1:5000/login", 200, ""}, // a proxy's
	} {
		f := newFixture(t, c.change)
		resp, body := f.person().do(httptest.NewRequest(c.method, c.url, nil))
		if resp.StatusCode != c.status || where(resp) != c.to || len(resp.Cookies()) > 0 {
			t.Errorf("%s %s: %d %s\n%s", c.method, c.url, resp.StatusCode, where(resp), body)
		}
	}
	f := newFixture(t, loopback)
	b := f.person()
	r := httptest.NewRequest(http.MethodPost, "http://127.0.0.1:5000/login", strings.NewReader("account=alice.test&password=right"))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, _ := b.do(r)
	if c := resp.Cookies(); len(c) != 1 || c[0].Name != "atcr" || c[0].Secure {
		t.Errorf("on loopback: %v", c)
	}
}

func TestOtherPages(t *testing.T) {
	f := newFixture(t, func(o *Options) { o.Company, o.Jurisdiction = "Example "+evil, "Utopia" })
	b := f.person()
	for _, path := range []string{"/", "/privacy", "/terms", "/login"} {
		resp, body := b.get(path)
		if resp.StatusCode != 200 || strings.Contains(body, "<script") || !strings.Contains(body, "<h1>") {
			t.Errorf("%s: %d\n%s", path, resp.StatusCode, body)
		}
		if (path == "/privacy" || path == "/terms") && (!strings.Contains(body, "Example &lt;") || !strings.Contains(body, "Utopia")) {
			t.Errorf("%s does not say who runs it", path)
		}
	}
	if _, body := b.get("/"); !strings.Contains(body, "docker push registry.example.com/alice.example.com/app:v1") {
		t.Error(body)
	}
	for _, path := range []string{"/nothing", "/settings", "/login/x", "/index.php"} {
		resp, body := b.get(path)
		if resp.StatusCode != 404 || !strings.Contains(body, "There is no such page") {
			t.Errorf("%s: %d", path, resp.StatusCode)
		}
	}
	if resp, _ := b.get("/login/go"); resp.StatusCode != http.StatusSeeOther || where(resp) != "/login" {
		t.Error("without a sign-in under way:", resp.StatusCode, where(resp))
	}
	_, body := newFixture(t, nil).person().get("/privacy")
	if !strings.Contains(body, "has not written here who they are") {
		t.Error(body)
	}
}

// A form that is too long, or none, is refused before anything is done.
func TestForms(t *testing.T) {
	f := newFixture(t, nil)
	b := f.person()
	b.signIn()
	for _, path := range []string{"/login", "/device", "/settings/access/robots/make"} {
		resp, body := b.post(path, "account", strings.Repeat("x", 20<<10))
		if resp.StatusCode != 400 || !strings.Contains(body, "The form can&#39;t be read") {
			t.Errorf("%s: %d", path, resp.StatusCode)
		}
		r := httptest.NewRequest(http.MethodPost, base+path, strings.NewReader("%zz=%"))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		if resp, _ := b.do(r); resp.StatusCode != 400 {
			t.Errorf("%s: %d", path, resp.StatusCode)
		}
	}
}

func FuzzLocalPath(f *testing.F) {
	for _, s := range []string{"/", "//x", `/\x`, "/a?b#c", "/login"} {
		f.Add(s)
	}
	origin := &url.URL{Scheme: "https", Host: "registry.example.com", Path: "/login"}
	f.Fuzz(func(t *testing.T, s string) {
		got := localPath(s, "/")
		u, err := origin.Parse(strings.ReplaceAll(got, `\`, "/")) // as browsers read it
		if err != nil || u.Host != origin.Host || u.Scheme != "https" {
			t.Errorf("%q leads to %v, %v", s, u, err)
		}
	})
}
