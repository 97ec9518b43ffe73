package auth

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	indigo "github.com/bluesky-social/indigo/atproto/identity"
	"github.com/bluesky-social/indigo/atproto/syntax"

	"github.com/atcr-dev/atcr/identity"
	"github.com/atcr-dev/atcr/internal/durable"
	"github.com/atcr-dev/atcr/internal/realtest"
	"github.com/atcr-dev/atcr/internal/sqlx"
)

const (
	alice = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"
	bob   = "did:plc:bbbbbbbbbbbbbbbbbbbbbbbb"
	app   = "app-pass-word-aaaa" // alice's app password
	main  = "main:pass:word"     // alice's main password
)

// fakePDS fails in the ways a real one can't be made to; what a real one does is tested in real_test.go.
type fakePDS struct {
	*httptest.Server
	mu      sync.Mutex
	status  int // of every answer, unless 0
	retry   string
	calls   map[string]int
	access  string // the one that is taken
	refresh string
	serial  int
	refuse  bool // refreshSession says no
	life    time.Duration
	pad     int // bytes that make tokens longer
	now     func() time.Time
	entered chan struct{} // a refresh has begun, if not nil
	leave   chan struct{}
}

func (p *fakePDS) set(f func()) { p.mu.Lock(); defer p.mu.Unlock(); f() }

func (p *fakePDS) count(nsid string) int { p.mu.Lock(); defer p.mu.Unlock(); return p.calls[nsid] }

func (p *fakePDS) token(scope string) string {
	p.serial++
	body := fmt.Sprintf(`{"scope":%q,"exp":%d,"n":%d,"pad":%q}`, scope, p.now().Add(p.life).Unix(), p.serial, strings.Repeat("x", p.pad))
	return "e30." + base64.RawURLEncoding.EncodeToString([]byte(body)) + ".c2ln"
}

func (p *fakePDS) session(scope string) map[string]any {
	p.access, p.refresh = p.token(scope), p.token("com.atproto.refresh")
	return map[string]any{"did": alice, "handle": "alice.test", "active": true, "accessJwt": p.access, "refreshJwt": p.refresh}
}

func (p *fakePDS) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	nsid := strings.TrimPrefix(r.URL.Path, "/xrpc/")
	p.mu.Lock()
	entered, leave := p.entered, p.leave
	p.mu.Unlock()
	if entered != nil && strings.HasSuffix(nsid, "refreshSession") {
		entered <- struct{}{}
		<-leave
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls[nsid]++
	refuse := func(status int, name string) {
		writeJSON(w, status, map[string]string{"error": name, "message": name})
	}
	bearer := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	switch {
	case p.status != 0:
		if p.retry != "" {
			w.Header().Set("Retry-After", p.retry)
		}
		refuse(p.status, "Trouble")
	case nsid == "com.atproto.server.createSession":
		var in struct{ Identifier, Password string }
		_ = json.NewDecoder(r.Body).Decode(&in)
		switch {
		case in.Identifier == alice && strings.HasPrefix(in.Password, app): // and as many more as a test likes
			writeJSON(w, 200, p.session("com.atproto.appPass"))
		case in.Identifier == alice && in.Password == main:
			writeJSON(w, 200, p.session(fullAccess))
		case in.Identifier == alice && in.Password == "second-factor":
			refuse(401, "AuthFactorTokenRequired")
		default:
			refuse(401, "AuthenticationRequired")
		}
	case nsid == "com.atproto.server.refreshSession":
		if p.refuse || bearer != p.refresh {
			refuse(400, "ExpiredToken")
			return
		}
		writeJSON(w, 200, p.session("com.atproto.appPass"))
	case nsid == "com.atproto.server.deleteSession":
	case bearer != p.access:
		refuse(400, "ExpiredToken")
	case nsid == "com.atproto.server.getServiceAuth":
		if strings.Contains(r.URL.Query().Get("aud"), "127.0.0.1") {
			refuse(400, "InvalidRequest")
			return
		}
		writeJSON(w, 200, map[string]string{"token": r.URL.Query().Get("aud") + " " + r.URL.Query().Get("lxm") + strings.Repeat("x", p.pad)})
	case nsid == "test.redirect":
		http.Redirect(w, r, "/elsewhere", http.StatusFound)
	default:
		b, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %s", r.Method, b)
	}
}

var testKey = sync.OnceValue(func() []byte {
	b, err := newKeyPEM()
	if err != nil {
		return nil
	}
	return b
})

type fixture struct {
	*Auth
	t    testing.TB
	pds  *fakePDS
	dir  *identity.MockDirectory
	db   *sqlx.DB
	opts Options
	http http.Handler

	mu  sync.Mutex
	now time.Time
}

func (f *fixture) clock() time.Time { f.mu.Lock(); defer f.mu.Unlock(); return f.now }

func (f *fixture) pass(d time.Duration) { f.mu.Lock(); defer f.mu.Unlock(); f.now = f.now.Add(d) }

func newFixture(t testing.TB, change func(*Options)) *fixture {
	t.Helper()
	f := &fixture{t: t, now: time.Unix(1_800_000_000, 0), dir: identity.NewMockDirectory()}
	f.pds = &fakePDS{calls: map[string]int{}, life: 2 * time.Hour, now: f.clock}
	f.pds.Server = httptest.NewServer(f.pds)
	t.Cleanup(f.pds.Close)
	f.insert(alice, "alice.test", f.pds.URL)
	f.insert(bob, "bob.test", "")
	folder := t.TempDir()
	db := realtest.OpenDatabase(t, filepath.Join(folder, "auth.db"))
	t.Cleanup(func() { db.Close() })
	f.db = db
	f.opts = Options{
		DB: db, Directory: f.dir, BaseURL: "https://registry.example.com", KeyPath: filepath.Join(folder, "auth", "private-key.pem"),
		TestMode: true, Clock: f.clock,
	}
	if change != nil {
		change(&f.opts)
	}
	if err := durable.ReplaceSecret(f.opts.KeyPath, testKey()); err != nil { // making one takes long
		t.Fatal(err)
	}
	f.restart()
	if realtest.OnPostgres() {
		realtest.SortsByBytes(t, db)
	}
	return f
}

func (f *fixture) restart() {
	f.t.Helper()
	a, err := New(f.t.Context(), f.opts)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(a.opts.HTTP.CloseIdleConnections)
	f.Auth, f.http = a, a.Handler()
}

func (f *fixture) insert(did, handle, pds string) {
	acc := identity.Account{DID: syntax.DID(did), Handle: syntax.Handle(handle), Services: map[string]indigo.ServiceEndpoint{}}
	if pds != "" {
		acc.Services["atproto_pds"] = indigo.ServiceEndpoint{Type: "AtprotoPersonalDataServer", URL: pds}
	}
	f.dir.Insert(acc)
}

// get asks the token endpoint; an empty user is anonymous.
func (f *fixture) get(user, password string, scopes ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodGet, "/auth/token?"+url.Values{"scope": scopes, "service": {"registry.example.com"}}.Encode(), nil)
	if user != "" {
		r.SetBasicAuth(user, password)
	}
	return f.serve(r)
}

func (f *fixture) serve(r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	f.http.ServeHTTP(w, r)
	return w
}

// token is get for an answer that must be a token.
func (f *fixture) token(user, password string, scopes ...string) string {
	f.t.Helper()
	w := f.get(user, password, scopes...)
	var out tokenAnswer
	if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil || w.Code != 200 || out.Token == "" {
		f.t.Fatalf("token for %q %q: %d %s", user, scopes, w.Code, w.Body)
	}
	return out.Token
}

// granted are the accesses of a token, as name:action,action.
func (f *fixture) granted(token string) string {
	f.t.Helper()
	c, err := f.verify(token, 0)
	if err != nil {
		f.t.Fatal(err)
	}
	var all []string
	for _, a := range c.Access {
		all = append(all, a.Name+":"+strings.Join(a.Actions, ","))
	}
	return strings.Join(all, " ")
}

func code(t *testing.T, w *httptest.ResponseRecorder) string {
	t.Helper()
	var out struct {
		Errors []struct{ Code, Message string }
	}
	if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil || len(out.Errors) != 1 || out.Errors[0].Message == "" {
		t.Fatalf("not an OCI error: %s", w.Body)
	}
	return out.Errors[0].Code
}
