package webui

import (
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"
)

var pages = fstest.MapFS{
	"p/one.html":    {Data: []byte(`{{define "main"}}<p id="x" title="{{.Data}}">{{.Data}}</p><a href="{{.Data}}">go</a>{{end}}`)},
	"p/broken.html": {Data: []byte(`{{define "main"}}<p>first half {{.Data.Missing}}</p>{{end}}`)},
}

func newUI(t *testing.T, o Options) (*UI, *Pages) {
	t.Helper()
	o.Name, o.Log = "Test", slog.New(slog.DiscardHandler)
	u, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	p, err := u.Parse(pages, "p")
	if err != nil {
		t.Fatal(err)
	}
	return u, p
}

func show(t *testing.T, h http.Handler, r *http.Request) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// Whatever stands in a page, nothing of it runs, and nothing comes from elsewhere.
func TestNothingRuns(t *testing.T) {
	u, p := newUI(t, Options{})
	const evil = `javascript:alert(1)"><script>alert(1)</script>`
	h := u.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.Show(w, r, 200, "one", Page{Title: evil, Account: evil, Notice: evil, Trouble: evil, Data: evil})
	}))
	w := show(t, h, httptest.NewRequest("GET", "/", nil))
	body := w.Body.String()
	if w.Code != 200 || strings.Contains(body, "<script") || strings.Contains(body, `href="javascript:`) {
		t.Errorf("%d\n%s", w.Code, body)
	}
	if n := strings.Count(body, "&lt;script"); n < 5 {
		t.Errorf("it stands there %d times", n)
	}
	csp := w.Header().Get("Content-Security-Policy")
	for _, want := range []string{"default-src 'none'", "form-action 'self'", "base-uri 'none'", "frame-ancestors 'none'"} {
		if !strings.Contains(csp, want) {
			t.Errorf("the policy %q lacks %s", csp, want)
		}
	}
	if strings.Contains(csp, "unsafe") || strings.Contains(csp, "script-src") {
		t.Errorf("the policy lets scripts run: %s", csp)
	}
	for name, want := range map[string]string{
		"X-Content-Type-Options": "nosniff", "Referrer-Policy": "same-origin", "Cache-Control": "no-store", "Content-Type": "text/html; charset=utf-8",
	} {
		if got := w.Header().Get(name); got != want {
			t.Errorf("%s: %q", name, got)
		}
	}
	if regexp.MustCompile(` style=| on[a-z]+=`).MatchString(body) {
		t.Error("the layout has styles or handlers that the policy forbids")
	}
}

// What is posted counts only from a page of this host.
func TestForms(t *testing.T) {
	reached := 0
	next := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached++ })
	u, _ := newUI(t, Options{Origin: "https://registry.example.com"})
	h := u.Handler(next)
	for name, c := range map[string]struct {
		site, origin string
		ok           bool
	}{
		"another site's":                        {"cross-site", "https://evil.example", false},
		"another host's of the site":            {"same-site", "https://other.example.com", false},
		"a sandboxed frame's":                   {"cross-site", "null", false},
		"an old browser's":                      {"", "https://evil.example", false},
		"ours":                                  {"same-origin", "https://registry.example.com", true},
		"ours behind a proxy that changes Host": {"", "https://registry.example.com", true},
		"typed":                                 {"none", "", true},
	} {
		for _, method := range []string{"POST", "PUT", "DELETE"} {
			r := httptest.NewRequest(method, "http://127.0.0.1:5000/x", nil)
			if c.site != "" {
				r.Header.Set("Sec-Fetch-Site", c.site)
			}
			if c.origin != "" {
				r.Header.Set("Origin", c.origin)
			}
			reached = 0
			w := show(t, h, r)
			if (reached == 1) != c.ok || !c.ok && w.Code != http.StatusForbidden {
				t.Errorf("%s by %s: reached %d times, %d", name, method, reached, w.Code)
			}
			if !c.ok && !strings.Contains(w.Body.String(), "This did not come from here") {
				t.Errorf("%s: %s", name, w.Body)
			}
		}
	}
}

// A page is shown whole or not at all, and what failed is not said.
func TestBrokenPage(t *testing.T) {
	_, p := newUI(t, Options{})
	for name, page := range map[string]Page{"broken": {Data: "x"}, "none": {}, "one": {Onward: "javascript:alert(1)"}} {
		w := httptest.NewRecorder()
		p.Show(w, httptest.NewRequest("GET", "/", nil), 200, name, page)
		body := w.Body.String()
		if w.Code != 500 || strings.Contains(body, "first half") || strings.Contains(body, "Missing") || !strings.Contains(body, "Something went wrong") {
			t.Errorf("%s: %d\n%s", name, w.Code, body)
		}
		if w.Header().Get("Refresh") != "" {
			t.Errorf("%s: goes on", name)
		}
	}
}

func TestOnward(t *testing.T) {
	_, p := newUI(t, Options{})
	w := httptest.NewRecorder()
	p.Show(w, httptest.NewRequest("GET", "/", nil), 200, "one", Page{Onward: "https://pds.example.com/authorize?a=b;c"})
	if got := w.Header().Get("Refresh"); got != "0;url=https://pds.example.com/authorize?a=b;c" {
		t.Error(got)
	}
	for _, bad := range []string{"/local", "data:text/html,x", "//host", "http:", "ftp://x/"} {
		w := httptest.NewRecorder()
		if p.Show(w, httptest.NewRequest("GET", "/", nil), 200, "one", Page{Onward: bad}); w.Code != 500 {
			t.Errorf("%s: %d", bad, w.Code)
		}
	}
}

func TestAssets(t *testing.T) {
	u, p := newUI(t, Options{})
	h := u.Handler(http.NotFoundHandler())
	w := httptest.NewRecorder()
	p.Show(w, httptest.NewRequest("GET", "/", nil), 200, "one", Page{})
	found := regexp.MustCompile(`(?:href|src)="(/[^"]*\.[a-z]+)"`).FindAllStringSubmatch(w.Body.String(), -1)
	addresses := []string{"/favicon.ico"}
	for _, m := range found {
		addresses = append(addresses, m[1])
	}
	if len(addresses) < 4 {
		t.Fatalf("the layout names %q", addresses)
	}
	for _, a := range addresses {
		w := show(t, h, httptest.NewRequest("GET", a, nil))
		if w.Code != 200 || w.Body.Len() == 0 || w.Header().Get("Cache-Control") == "no-store" {
			t.Errorf("%s: %d, %s", a, w.Code, w.Header())
		}
	}
	css, err := fs.ReadFile(files, "static/ui.css")
	if err != nil || len(css) > 20_000 || strings.Contains(string(css), "@import") || strings.Contains(string(css), "url(") {
		t.Errorf("the style sheet has %d bytes, or takes from elsewhere: %v", len(css), err)
	}
}

func TestHead(t *testing.T) {
	_, p := newUI(t, Options{})
	w := httptest.NewRecorder()
	p.Show(w, httptest.NewRequest("HEAD", "/", nil), 200, "one", Page{})
	if w.Code != 200 || w.Body.Len() > 0 {
		t.Errorf("%d, %d bytes", w.Code, w.Body.Len())
	}
}

func TestBrowser(t *testing.T) {
	for agent, want := range map[string]string{
		"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0":                                              "Firefox on Linux",
		"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0 Safari/537.36 Edg/156": "Edge on Windows",
		"Mozilla/5.0 (Linux; Android 15) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0 Mobile Safari/537.36":            "Chrome on Android",
		"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18 Safari/605.1.15": "Safari on macOS",
		"Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 Version/18 Mobile Safari/604.1":          "Safari on iPhone",
		"curl/8.1": "curl", "": "A browser", "<script>": "A browser",
	} {
		if got := Browser(agent); got != want {
			t.Errorf("%s: %s, want %s", agent, got, want)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	u, _ := newUI(t, Options{})
	for name, files := range map[string]fstest.MapFS{
		"none": {}, "no main": {"p/x.html": {Data: []byte("text")}}, "broken": {"p/x.html": {Data: []byte(`{{define "main"}}{{if}}{{end}}`)}},
	} {
		if _, err := u.Parse(files, "p"); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
	if _, err := New(Options{}); err == nil || !strings.Contains(err.Error(), "Options.Name") {
		t.Error(err)
	}
	if _, err := New(Options{Name: "x", Origin: "registry.example.com"}); err == nil || !strings.Contains(err.Error(), "Options.Origin") {
		t.Error(err)
	}
}
