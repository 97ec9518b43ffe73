package appview_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	indigo "github.com/bluesky-social/indigo/atproto/identity"
	"github.com/bluesky-social/indigo/atproto/syntax"

	"github.com/atcr-dev/atcr/identity"
	"github.com/atcr-dev/atcr/registry/appview"
)

func newApp(t *testing.T, change func(*appview.Config)) *appview.Server {
	t.Helper()
	cfg := appview.Config{
		Dir: t.TempDir(), BaseURL: "https://registry.example.com", DefaultHold: "did:web:hold.example.com",
		Directory: identity.NewMockDirectory(), Log: slog.New(slog.DiscardHandler),
	}
	if change != nil {
		change(&cfg)
	}
	app, err := appview.New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := app.Close(); err != nil {
			t.Error(err)
		}
	})
	return app
}

// Behind a trusted proxy one client's wrong passwords are not another's; without the setting the header is anybody's and means nothing.
func TestGuessesBehindProxy(t *testing.T) {
	for name, c := range map[string]struct {
		trusted []netip.Prefix
		other   int // what the second client gets after the first one's guesses
	}{
		"trusted": {[]netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}, http.StatusUnauthorized},
		"not":     {nil, http.StatusTooManyRequests},
		"another": {[]netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}, http.StatusTooManyRequests},
	} {
		app := newApp(t, func(cfg *appview.Config) { cfg.TrustedProxies = c.trusted })
		guess := func(client, user string) int {
			r := httptest.NewRequest(http.MethodGet, "/auth/token", nil) // of 192.0.2.1
			r.Header.Set("X-Forwarded-For", "203.0.113.77, "+client)     // the first is what the client wrote itself
			r.SetBasicAuth(user, "x")
			w := httptest.NewRecorder()
			app.Handler().ServeHTTP(w, r)
			return w.Code
		}
		last := 0
		for i := range 21 {
			last = guess("203.0.113.1", "u"+string(rune('a'+i))+".example.com")
		}
		if last != http.StatusTooManyRequests {
			t.Errorf("%s: 21 guesses of one client: %d", name, last)
		}
		if got := guess("203.0.113.2", "another.example.com"); got != c.other {
			t.Errorf("%s: a guess of another client: %d, want %d", name, got, c.other)
		}
	}
}

// A name that can't be resolved is answered from memory as fast as it is asked for. The log must not grow as fast, and it is no error (A20).
func TestLogFlood(t *testing.T) {
	var out lockedBuffer
	app := newApp(t, func(cfg *appview.Config) {
		cfg.Directory, cfg.Log = unreachable{identity.NewMockDirectory()}, slog.New(slog.NewTextHandler(&out, nil))
	})
	const asked = 3000
	for i := range asked {
		r := httptest.NewRequest(http.MethodGet, fmt.Sprintf("/v2/u%d.example.com/app/tags/list", i%7), nil)
		r.RemoteAddr = fmt.Sprintf("203.0.113.%d:1", i%250)
		w := httptest.NewRecorder()
		app.Handler().ServeHTTP(w, r)
		if w.Code != http.StatusServiceUnavailable {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
	}
	log := out.String()
	if strings.Contains(log, "level=ERROR") {
		t.Errorf("what a directory does is an error of ours: %.300s", log)
	}
	lines := strings.Count(log, "request failed")
	if lines == 0 || lines > 100 || len(log) > 50_000 {
		t.Errorf("%d lines, %d bytes of %d requests", lines, len(log), asked)
	}
	if !strings.Contains(log, "client=203.0.113.") {
		t.Errorf("the client is not named: %.300s", log)
	}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string { l.mu.Lock(); defer l.mu.Unlock(); return l.b.String() }

// unreachable is a directory that nobody can ask.
type unreachable struct{ *identity.MockDirectory }

func (unreachable) Lookup(context.Context, syntax.AtIdentifier) (*identity.Account, error) {
	return nil, fmt.Errorf("%w: no route", identity.ErrHandleResolutionFailed)
}

// One client has so many accounts asked about that are not known yet (A19), and leaves the others their share.
func TestAskingRate(t *testing.T) {
	const accounts = 130
	var asked sync.Map
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if did := r.URL.Query().Get("did") + r.URL.Query().Get("repo"); did != "" {
			asked.Store(did, true)
		}
		_, _ = io.WriteString(w, `{"cid":"bafyreidykglsfhoixmivffc5uwhcgshx4j465xwqntbmu43nb2dzqwfvae","rev":"3k1","records":[]}`)
	}))
	defer srv.Close()
	dir := identity.NewMockDirectory()
	did := func(i int) string {
		return "did:plc:" + strings.Map(func(c rune) rune { return c - '0' + 'a' }, fmt.Sprintf("%024d", i))
	}
	for i := range accounts {
		dir.Insert(identity.Account{DID: syntax.DID(did(i)), Handle: syntax.Handle(fmt.Sprintf("u%d.example.com", i)),
			Services: map[string]indigo.ServiceEndpoint{"atproto_pds": {Type: "AtprotoPersonalDataServer", URL: srv.URL}}})
	}
	now := time.Now()
	app := newApp(t, func(cfg *appview.Config) {
		cfg.Directory, cfg.TestMode, cfg.BaseURL = dir, true, "http://127.0.0.1:5000"
		cfg.Clock = func() time.Time { return now }
	})
	ask := func(client string, i int) *httptest.ResponseRecorder {
		r := httptest.NewRequest(http.MethodGet, fmt.Sprintf("/v2/u%d.example.com/app/tags/list", i), nil)
		r.RemoteAddr = client + ":1"
		w := httptest.NewRecorder()
		app.Handler().ServeHTTP(w, r)
		return w
	}
	refused := 0
	for i := range accounts {
		w := ask("203.0.113.1", i)
		switch w.Code {
		case http.StatusTooManyRequests:
			if refused++; w.Header().Get("Retry-After") == "" || !strings.Contains(w.Body.String(), "TOOMANYREQUESTS") {
				t.Fatalf("%v %s", w.Header(), w.Body)
			}
		case http.StatusServiceUnavailable, http.StatusInternalServerError:
			t.Fatalf("%d %s", w.Code, w.Body)
		}
	}
	n := 0
	asked.Range(func(any, any) bool { n++; return true })
	if refused != accounts-100 || n != 100 {
		t.Errorf("%d of %d were refused, %d accounts were asked about; want 100", refused, accounts, n)
	}
	for range 300 { // what is known costs nothing
		if w := ask("203.0.113.1", 0); w.Code == http.StatusTooManyRequests {
			t.Fatal("an account that is known was refused")
		}
	}
	if w := ask("203.0.113.2", accounts-1); w.Code == http.StatusTooManyRequests {
		t.Error("another client was refused")
	}
	now = now.Add(time.Second)
	for i := 100; i < 105; i++ {
		if w := ask("203.0.113.1", i); w.Code == http.StatusTooManyRequests {
			t.Errorf("number %d in the next second was refused", i-99)
		}
	}
}

// Behind a trusted proxy one client has so many requests at once; others are served meanwhile.
func TestRequestsOfClient(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	app := newApp(t, func(cfg *appview.Config) { cfg.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")} })
	ask := func(client string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(http.MethodPost, "/auth/token", waitingBody{entered, leave})
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("X-Forwarded-For", client)
		w := httptest.NewRecorder()
		app.Handler().ServeHTTP(w, r)
		return w
	}
	var wg sync.WaitGroup
	for range 512 {
		wg.Go(func() { ask("203.0.113.1") })
		<-entered
	}
	w := ask("203.0.113.1")
	if w.Code != http.StatusTooManyRequests || !strings.Contains(w.Body.String(), "at once") || w.Header().Get("Retry-After") == "" {
		t.Errorf("one more: %d %v %s", w.Code, w.Header(), w.Body)
	}
	wg.Go(func() { ask("203.0.113.2") })
	<-entered // another client's is at work
	close(leave)
	wg.Wait()
}

// waitingBody is a body that is still on its way.
type waitingBody struct{ entered, leave chan struct{} }

func (b waitingBody) Read([]byte) (int, error) {
	b.entered <- struct{}{}
	<-b.leave
	return 0, io.EOF
}

// What a document says of its PDS or hold is anybody's text: asking there fails, and is no fault of ours.
func TestNonsenseAddresses(t *testing.T) {
	var out lockedBuffer
	dir := identity.NewMockDirectory()
	app := newApp(t, func(cfg *appview.Config) {
		cfg.Directory, cfg.Log = dir, slog.New(slog.NewTextHandler(&out, nil))
	})
	for i, address := range []string{"http://a b", "https://a b.example.com", "http://[::1", "ftp://x.example.com", "http://", "https:///x", "x",
		"http://u:p@x.example.com", "https://x.example.com:99999", "https://x.example.com/%zz", "https://\x00", "javascript:1",
		"https://x.example.com?a=" + strings.Repeat("b", 100_000), "https://127.0.0.1", "http://169.254.169.254"} {
		did, handle := fmt.Sprintf("did:plc:aaaaaaaaaaaaaaaaaaaaaa%c%c", 'a'+i/26, 'a'+i%26), fmt.Sprintf("u%d.example.com", i)
		dir.Insert(identity.Account{DID: syntax.DID(did), Handle: syntax.Handle(handle), Services: map[string]indigo.ServiceEndpoint{
			"atproto_pds": {Type: "AtprotoPersonalDataServer", URL: address}, "atcr_hold": {Type: "AtcrHoldService", URL: address},
		}})
		for _, path := range []string{"/v2/" + handle + "/app/tags/list", "/v2/" + did + "/app/manifests/v1",
			"/auth/token?scope=repository:" + handle + "/app:push,pull"} {
			r := httptest.NewRequest(http.MethodGet, path, nil)
			if strings.HasPrefix(path, "/auth") {
				r.SetBasicAuth(handle, "abcd-abcd-abcd-abcd")
			}
			r.RemoteAddr = fmt.Sprintf("203.0.113.%d:1", i)
			w := httptest.NewRecorder()
			app.Handler().ServeHTTP(w, r)
			if w.Code < 400 || w.Code == http.StatusInternalServerError {
				t.Errorf("%.60q: %s is %d %s", address, path, w.Code, w.Body)
			}
		}
	}
	if log := out.String(); strings.Contains(log, "level=ERROR") {
		t.Errorf("the log says %.500s", log[strings.Index(log, "level=ERROR"):])
	}
}
