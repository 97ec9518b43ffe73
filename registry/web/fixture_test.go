package web

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"github.com/atcr-dev/atcr/identity"
	"github.com/atcr-dev/atcr/identity/oauth"
	"github.com/atcr-dev/atcr/internal/realtest"
	"github.com/atcr-dev/atcr/registry"
)

func TestMain(m *testing.M) { os.Exit(realtest.Main(m)) }

const (
	alice = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"
	bob   = "did:plc:bbbbbbbbbbbbbbbbbbbbbbbb"
	base  = "https://registry.example.com"
	evil  = `<script>alert(1)</script>"'><img src=x onerror=alert(1)>`
)

// fakes stand for what the pages write to; the real ones are in registry/appview's tests.
type fakes struct {
	mu    sync.Mutex
	now   time.Time
	ended []string // grants

	begun   []oauth.Begin
	grant   string // of the next Finish
	as      string // its account
	failing error  // of Begin and Finish

	waiting  map[string]Waiting
	decided  []string
	devices  map[string][]Token
	robots   map[string][]Token
	specs    []RobotSpec
	noRobots error
}

func (f *fakes) clock() time.Time        { f.mu.Lock(); defer f.mu.Unlock(); return f.now }
func (f *fakes) advance(d time.Duration) { f.mu.Lock(); defer f.mu.Unlock(); f.now = f.now.Add(d) }

func (f *fakes) SignIn(_ context.Context, user, password string, client netip.Addr) (did, session string, err error) {
	switch {
	case !client.IsValid():
		return "", "", errors.New("whose guess is it")
	case user == "alice.test" && password == "right":
		return alice, "password-session", nil
	case user == "down.test":
		return "", "", registry.ErrUnavailable.With("the account's server pds.test does not answer")
	}
	return "", "", registry.ErrUnauthorized.With("sign-in failed: use an app password")
}

func (f *fakes) Begin(_ context.Context, o oauth.Begin) (*oauth.Started, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.failing != nil {
		return nil, f.failing
	}
	f.begun = append(f.begun, o)
	return &oauth.Started{URL: "https://pds.test/oauth/authorize?request_uri=urn:x", Browser: "browser-secret", Expires: f.now.Add(10 * time.Minute)}, nil
}

func (f *fakes) Finish(_ context.Context, callback url.Values, browser string) (*oauth.Finished, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.failing != nil:
		return nil, f.failing
	case browser != "browser-secret" || callback.Get("state") != "s" || len(f.begun) == 0:
		return nil, &oauth.Error{Kind: oauth.ErrState, Message: "this sign-in is not known here"}
	}
	b := f.begun[len(f.begun)-1]
	f.begun = f.begun[:len(f.begun)-1]
	return &oauth.Finished{Grant: oauth.Grant{ID: f.grant, DID: f.as}, Data: b.Data}, nil
}

func (f *fakes) end(_ context.Context, did, grant string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ended = append(f.ended, did[len("did:plc:"):len("did:plc:")+1]+" "+grant)
}

func (f *fakes) endedGrants() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := f.ended
	f.ended = nil
	slices.Sort(out)
	return out
}

type fakeDevices struct{ *fakes }

func (f fakeDevices) Pending(_ context.Context, code string) (*Waiting, error) {
	if w, ok := f.waiting[code]; ok {
		return &w, nil
	}
	return nil, (&registry.Error{Code: "UNKNOWN", Status: http.StatusNotFound}).With("no device waits with this code")
}

func (f fakeDevices) Approve(_ context.Context, code, did, handle, grant string) error {
	if _, ok := f.waiting[code]; !ok {
		return (&registry.Error{Code: "UNKNOWN", Status: http.StatusNotFound}).With("no device waits with this code")
	}
	f.decided = append(f.decided, "approved "+code+" "+handle+" "+grant)
	delete(f.waiting, code)
	return nil
}

func (f fakeDevices) Deny(_ context.Context, code string) error {
	f.decided = append(f.decided, "denied "+code)
	delete(f.waiting, code)
	return nil
}

func list(of map[string][]Token, did string) ([]Token, error) { return of[did], nil }

func end(of map[string][]Token, did, id string) error {
	n := len(of[did])
	of[did] = slices.DeleteFunc(of[did], func(t Token) bool { return t.ID == id })
	if len(of[did]) == n {
		return (&registry.Error{Code: "UNKNOWN", Status: http.StatusNotFound}).With("there is no such device")
	}
	return nil
}

func (f fakeDevices) List(_ context.Context, did string) ([]Token, error) {
	return list(f.devices, did)
}
func (f fakeDevices) End(_ context.Context, did, id string) error { return end(f.devices, did, id) }

type fakeRobots struct{ *fakes }

func (f fakeRobots) Create(_ context.Context, did, _, grant string, spec RobotSpec) (string, error) {
	if f.noRobots != nil {
		return "", f.noRobots
	}
	f.specs = append(f.specs, spec)
	f.decided = append(f.decided, "robot "+grant)
	return "atcr_robot_the-secret", nil
}

func (f fakeRobots) Renew(_ context.Context, did, id, grant string) (string, error) {
	if id == "no grant" {
		if grant == "" {
			return "", registry.ErrUnauthorized.With("its grant has ended")
		}
		f.decided = append(f.decided, "renewed by "+grant)
		return "atcr_robot_by-another-grant", nil
	}
	if len(f.robots[did]) == 0 || f.robots[did][0].ID != id {
		return "", (&registry.Error{Code: "UNKNOWN", Status: http.StatusNotFound}).With("there is no such robot")
	}
	return "atcr_robot_another-secret", nil
}
func (f fakeRobots) List(_ context.Context, did string) ([]Token, error) { return list(f.robots, did) }
func (f fakeRobots) End(_ context.Context, did, id string) error         { return end(f.robots, did, id) }

type fixture struct {
	*Site
	*fakes
	t *testing.T
}

func newFixture(t *testing.T, change func(*Options)) *fixture {
	t.Helper()
	db := realtest.OpenDatabase(t, filepath.Join(t.TempDir(), "web.db"))
	t.Cleanup(func() { db.Close() })
	f := &fakes{
		now: time.Unix(1_800_000_000, 0), grant: "oauth-1", as: alice,
		waiting: map[string]Waiting{}, devices: map[string][]Token{}, robots: map[string][]Token{},
	}
	dir := identity.NewMockDirectory()
	dir.Insert(identity.Account{DID: syntax.DID(alice), Handle: "alice.test"})
	o := Options{
		DB: db, Directory: dir, OAuth: f, Passwords: f, End: f.end, Devices: fakeDevices{f}, Robots: fakeRobots{f},
		Logins: fakeDevices{f}, BaseURL: base, Clock: f.clock, Log: slog.New(slog.DiscardHandler),
	}
	if change != nil {
		change(&o)
	}
	s, err := New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return &fixture{s, f, t}
}

// person keeps cookies, and says of forms that they are this site's.
type person struct {
	f       *fixture
	cookies map[string]string
}

func (f *fixture) person() *person { return &person{f: f, cookies: map[string]string{}} }

func (b *person) do(r *http.Request) (*http.Response, string) {
	b.f.t.Helper()
	for name, value := range b.cookies {
		r.AddCookie(&http.Cookie{Name: name, Value: value})
	}
	r.Header.Set("User-Agent", "Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0")
	w := httptest.NewRecorder()
	b.f.Handler().ServeHTTP(w, r)
	resp := w.Result()
	for _, c := range resp.Cookies() {
		if c.MaxAge < 0 {
			delete(b.cookies, c.Name)
		} else {
			b.cookies[c.Name] = c.Value
		}
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		b.f.t.Fatal(err)
	}
	return resp, string(body)
}

func (b *person) get(path string) (*http.Response, string) {
	b.f.t.Helper()
	return b.do(httptest.NewRequest(http.MethodGet, base+path, nil))
}

func (b *person) post(path string, form ...string) (*http.Response, string) {
	b.f.t.Helper()
	values := url.Values{}
	for i := 0; i < len(form); i += 2 {
		values.Add(form[i], form[i+1])
	}
	r := httptest.NewRequest(http.MethodPost, base+path, strings.NewReader(values.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	return b.do(r)
}

// signIn signs in at the account's server.
func (b *person) signIn() {
	b.f.t.Helper()
	if resp, body := b.post("/login", "account", "alice.test"); resp.StatusCode != http.StatusSeeOther {
		b.f.t.Fatal(resp.StatusCode, body)
	}
	resp, body := b.get("/auth/oauth/callback?state=s&code=c")
	if resp.StatusCode != http.StatusSeeOther {
		b.f.t.Fatal(resp.StatusCode, body)
	}
}

// signedIn reports whether the browser is.
func (b *person) signedIn() bool {
	resp, _ := b.get("/settings/access")
	return resp.StatusCode == http.StatusOK
}

func where(resp *http.Response) string { return resp.Header.Get("Location") }
