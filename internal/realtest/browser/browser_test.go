package browser_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/atcr-dev/atcr/internal/realtest"
	"github.com/atcr-dev/atcr/internal/realtest/browser"
)

func TestMain(m *testing.M) { os.Exit(realtest.Main(m)) }

// TestConsent signs in at the reference PDS, allows and denies, and looks at what comes back to the application.
func TestConsent(t *testing.T) {
	n := realtest.Network(t, realtest.NetworkOptions{})
	alice := n.Account("alice")
	b := browser.New(t, browser.Options{})
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, "<title>back</title>Back again.")
	}))
	defer app.Close()
	known := b.Page(t)
	for i, c := range []struct {
		name, hint string
		page       *browser.Page
		allow      bool
	}{
		{"named", alice.Handle, known, true},
		{"the same browser again", alice.Handle, known, true},
		{"not named, denied", "", b.Page(t), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.page.Open(authorize(t, alice.PDS, app.URL+"/callback", c.hint))
			c.page.SignIn(alice)
			c.page.Shoot("consent-" + strconv.Itoa(i))
			if c.allow {
				c.page.Consent()
			} else {
				c.page.Deny()
			}
			back := c.page.WaitURL("the application", func(u *url.URL) bool { return "http://"+u.Host == app.URL })
			q := back.Query()
			if got := q.Get("code") != ""; got != c.allow || q.Get("state") != "a-state" || q.Get("iss") != alice.PDS {
				t.Errorf("came back with %s", back)
			}
			if !c.allow && q.Get("error") != "access_denied" {
				t.Errorf("denied: %s", back)
			}
			if !strings.Contains(c.page.Text(), "Back again.") {
				t.Errorf("the page shows %q", c.page.Text())
			}
		})
	}
}

// authorize begins a sign-in without keys, as far as the page: at the PDS that the account's server names, which is itself.
func authorize(t *testing.T, pds, redirect, hint string) string {
	t.Helper()
	var resource struct {
		Servers []string `json:"authorization_servers"`
	}
	getJSON(t, pds+"/.well-known/oauth-protected-resource", &resource)
	var server struct {
		Issuer string
		PAR    string `json:"pushed_authorization_request_endpoint"`
		Page   string `json:"authorization_endpoint"`
	}
	if len(resource.Servers) != 1 {
		t.Fatalf("authorization servers: %q", resource.Servers)
	}
	getJSON(t, resource.Servers[0]+"/.well-known/oauth-authorization-server", &server)
	if server.Issuer != pds {
		t.Fatalf("issuer %q, want %q", server.Issuer, pds)
	}
	client := "http://localhost?" + url.Values{"redirect_uri": {redirect}, "scope": {"atproto"}}.Encode()
	form := url.Values{
		"client_id": {client}, "redirect_uri": {redirect}, "response_type": {"code"}, "scope": {"atproto"}, "state": {"a-state"},
		"code_challenge": {"E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"}, "code_challenge_method": {"S256"},
	}
	if hint != "" {
		form.Set("login_hint", hint)
	}
	resp, err := http.PostForm(server.PAR, form)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var par struct {
		RequestURI string `json:"request_uri"`
		Error      string
		Why        string `json:"error_description"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&par); err != nil || par.RequestURI == "" {
		t.Fatalf("PAR: %s, %v, %s: %s", resp.Status, err, par.Error, par.Why)
	}
	return server.Page + "?" + url.Values{"client_id": {client}, "request_uri": {par.RequestURI}}.Encode()
}

func getJSON(t *testing.T, address string, out any) {
	t.Helper()
	resp, err := http.Get(address)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s", address, resp.Status)
	}
	if err := json.NewDecoder(resp.Body).Decode(out); err != nil {
		t.Fatalf("%s: %v", address, err)
	}
}

const goodPage = `<!doctype html><html lang="en"><head><meta name="viewport" content="width=device-width"><title>Good</title>
<style>:root { color-scheme: light dark }</style></head>
<body><main><h1>Good</h1><form action="/next"><label>Name <input name="name"></label><button>Go on</button></form></main></body></html>`

// TestCheck: what is wrong with a page is found, each by its name, and nothing in a page that is as it should be.
func TestCheck(t *testing.T) {
	b := browser.New(t, browser.Options{})
	pages := map[string]string{
		"/":     goodPage,
		"/next": goodPage,
		"/label": strings.Replace(goodPage, "<label>Name <input name=\"name\"></label>",
			"<input name=\"name\">", 1),
		"/dark": strings.Replace(goodPage, "color-scheme: light dark",
			"color-scheme: light dark } @media (prefers-color-scheme: dark) { h1 { color: #444; background: #333 }", 1),
		"/wide":    strings.Replace(goodPage, "<h1>", `<p style="width: 500px">wide</p><h1>`, 1),
		"/script":  strings.Replace(goodPage, "<h1>", `<script>nothing.there</script><h1>`, 1),
		"/policy":  strings.Replace(goodPage, "<h1>", `<p style="color: red">no</p><h1>`, 1),
		"/missing": "",
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		page, ok := pages[r.URL.Path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		http.SetCookie(w, &http.Cookie{Name: "seen", Value: r.URL.Path[1:], Path: "/"})
		if r.URL.Path == "/policy" {
			w.Header().Set("Content-Security-Policy", "default-src 'none'")
		}
		fmt.Fprint(w, page, "<link rel=icon href=data:>")
	}))
	defer s.Close()
	p := b.Page(t)
	for path, want := range map[string][]string{
		"/":       nil,
		"/label":  {"light: ", "dark: ", "phone: ", "(label, critical)"},
		"/dark":   {"dark: ", "(color-contrast, serious)"},
		"/wide":   {"phone: wider than the window"},
		"/script": {"console: error", "nothing is not defined"},
		"/policy": {"console: error", "Content Security Policy"},
	} {
		if status := p.Open(s.URL + path); status != http.StatusOK {
			t.Errorf("%s: status %d", path, status)
		}
		found := strings.Join(p.Faults("check"+strings.ReplaceAll(path, "/", "-")), "\n")
		if want == nil && found != "" {
			t.Errorf("%s: nothing is wrong with it, found: %s", path, found)
		}
		for _, w := range want {
			if !strings.Contains(found, w) {
				t.Errorf("%s: want %q in: %s", path, w, found)
			}
		}
		if path == "/dark" && (strings.Contains(found, "light: ") || strings.Contains(found, "phone: ")) {
			t.Errorf("/dark is wrong in the dark alone, found: %s", found)
		}
	}
	if status := p.Open(s.URL + "/nowhere"); status != http.StatusNotFound {
		t.Errorf("a missing page has status %d", status)
	}

	p.Scripts(false)
	p.Open(s.URL)
	p.Fill("input[name=name]", "first")
	p.Fill("input[name=name]", `O'Neill "x"`)
	p.Press("Go on")
	next := p.WaitURL("the next page", func(u *url.URL) bool { return u.Path == "/next" })
	if next.Query().Get("name") != `O'Neill "x"` {
		t.Errorf("the form sent %s", next)
	}
	if c := p.Cookies(s.URL); len(c) != 1 || c[0].Name != "seen" || c[0].Value != "next" {
		t.Errorf("cookies %v", c)
	}
	if c := p.Tab().Cookies(s.URL); len(c) != 1 {
		t.Errorf("cookies of the same person's other tab: %v", c)
	}
	if c := b.Page(t).Cookies(s.URL); len(c) != 0 {
		t.Errorf("another person has cookies %v", c)
	}
}

// TestOnHost: a browser on a host has its names, and TLS without a warning.
func TestOnHost(t *testing.T) {
	hosts := realtest.NewHosts(t, "home", "client")
	home := hosts.Host("home")
	hosts.DNS(t, map[string]string{"pds.test": home.IP, "plc.test": home.IP}, nil)
	home.TLS(t, map[string]int{"pds.test": realtest.PDSPort, "plc.test": realtest.PLCPort})
	n := realtest.Network(t, realtest.NetworkOptions{On: home, Hostname: "pds.test", PLCName: "plc.test"})
	page := browser.New(t, browser.Options{On: hosts.Host("client")}).Page(t)
	if got := page.Apps(n.Account("alice")); got != 0 {
		t.Errorf("%d applications of a new account", got)
	}
	if got := page.URL(); got != "https://pds.test/account/u/alice.test/apps" {
		t.Errorf("the page is at %s", got)
	}
}

// TestStops: neither a process nor a file is left of a browser.
func TestStops(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	profile := func() string {
		found, _ := filepath.Glob(filepath.Join(os.TempDir(), "atcr-browser-*"))
		return strings.Join(found, " ")
	}
	processes := func(dir string) (found string) {
		all, _ := filepath.Glob("/proc/[0-9]*/cmdline")
		for _, path := range all {
			if line, err := os.ReadFile(path); err == nil && strings.Contains(string(line), dir) {
				found += path + "\n"
			}
		}
		return found
	}
	var dir string
	t.Run("browser", func(t *testing.T) {
		browser.New(t, browser.Options{}).Page(t).Open("about:blank")
		if dir = profile(); dir == "" || processes(dir) == "" {
			t.Fatalf("no profile (%q) or no process of it: the test looks for the wrong thing", dir)
		}
	})
	if dir == "" {
		t.Skip("there was no browser")
	}
	if left := profile(); left != "" {
		t.Errorf("left: %s", left)
	}
	if left := processes(dir); left != "" {
		t.Errorf("processes left: %s", left)
	}
}
