package websession

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/atcr-dev/atcr/internal/realtest"
)

func TestMain(m *testing.M) { os.Exit(realtest.Main(m)) }

const alice, bob = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa", "did:plc:bbbbbbbbbbbbbbbbbbbbbbbb"

type fixture struct {
	*Sessions
	t  *testing.T
	mu sync.Mutex
	// now is the clock's; ended are the grants that have ended, in any order.
	now   time.Time
	ended []string
}

func (f *fixture) advance(d time.Duration) { f.mu.Lock(); defer f.mu.Unlock(); f.now = f.now.Add(d) }

func (f *fixture) taken() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := f.ended
	f.ended = nil
	slices.Sort(out)
	return out
}

func newFixture(t *testing.T, secure bool) *fixture {
	t.Helper()
	db := realtest.OpenDatabase(t, filepath.Join(t.TempDir(), "web.db"))
	t.Cleanup(func() { db.Close() })
	f := &fixture{t: t, now: time.Unix(1_800_000_000, 0)}
	var err error
	f.Sessions, err = New(t.Context(), Options{
		DB: db, Name: "test", Secure: secure, Clock: func() time.Time { f.mu.Lock(); defer f.mu.Unlock(); return f.now },
		Ended: func(_ context.Context, s Session) {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.ended = append(f.ended, s.Grant)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func request(cookie *http.Cookie) *http.Request {
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.Header.Set("User-Agent", "Test/1")
	if cookie != nil {
		r.AddCookie(cookie)
	}
	return r
}

// begin signs a browser in that has a cookie, or none, and returns the new one.
func (f *fixture) begin(cookie *http.Cookie, did, grant string) *http.Cookie {
	f.t.Helper()
	w := httptest.NewRecorder()
	if _, err := f.Begin(w, request(cookie), Session{DID: did, Handle: "alice.test", Grant: grant}); err != nil {
		f.t.Fatal(err)
	}
	all := w.Result().Cookies()
	if len(all) != 1 {
		f.t.Fatalf("cookies: %v", all)
	}
	return all[0]
}

// who returns the grant of who is signed in, and the cookie that the answer sets.
func (f *fixture) who(cookie *http.Cookie) (grant string, set *http.Cookie) {
	f.t.Helper()
	w := httptest.NewRecorder()
	s, err := f.Get(w, request(cookie))
	if err != nil {
		f.t.Fatal(err)
	}
	if all := w.Result().Cookies(); len(all) > 0 {
		set = all[0]
	}
	if s == nil {
		return "", set
	}
	return s.Grant, set
}

func TestCookie(t *testing.T) {
	for _, secure := range []bool{false, true} {
		c := newFixture(t, secure).begin(nil, alice, "grant")
		want := map[bool]string{false: "test", true: "__Host-test"}[secure]
		if c.Name != want || c.Secure != secure || !c.HttpOnly || c.SameSite != http.SameSiteLaxMode || c.Path != "/" || c.Domain != "" ||
			c.MaxAge != 30*24*3600 {
			t.Errorf("%+v", c)
		}
		if len(c.Value) < 43 { // 256 bits
			t.Errorf("%d characters of secret", len(c.Value))
		}
	}
}

// A sign-in gives a new cookie and ends the session that the browser had, whoever's it was: nobody can have planted it.
func TestRotatedAtSignIn(t *testing.T) {
	f := newFixture(t, true)
	first := f.begin(nil, alice, "first")
	second := f.begin(first, bob, "second")
	if first.Value == second.Value {
		t.Error("the cookie stayed")
	}
	if grant, set := f.who(first); grant != "" || set == nil || set.MaxAge >= 0 {
		t.Errorf("the old cookie is %q's, and is not taken back: %v", grant, set)
	}
	if grant, _ := f.who(second); grant != "second" {
		t.Errorf("the new one is %q's", grant)
	}
	if got := f.taken(); !slices.Equal(got, []string{"first"}) {
		t.Errorf("told of the end of %q", got)
	}
	planted := &http.Cookie{Name: first.Name, Value: strings.Repeat("A", 43)}
	if c := f.begin(planted, alice, "third"); c.Value == planted.Value {
		t.Error("a cookie that somebody planted was taken")
	}
}

// The database alone signs nobody in.
func TestHashedAtRest(t *testing.T) {
	f := newFixture(t, true)
	c := f.begin(nil, alice, "grant")
	rows, err := f.opts.DB.Read().QueryContext(t.Context(), "select * from web_session")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil || !rows.Next() {
		t.Fatal(err, "no row")
	}
	values := make([]any, len(columns))
	for i := range values {
		values[i] = new(any)
	}
	if err := rows.Scan(values...); err != nil {
		t.Fatal(err)
	}
	for i, v := range values {
		text := fmt.Sprintf("%s", *v.(*any))
		if strings.Contains(text, c.Value) {
			t.Errorf("%s holds the secret", columns[i])
		}
		if grant, _ := f.who(&http.Cookie{Name: c.Name, Value: text}); grant != "" {
			t.Errorf("%s signs in", columns[i])
		}
	}
}

func TestIdle(t *testing.T) {
	f := newFixture(t, true)
	c := f.begin(nil, alice, "grant")
	f.advance(5 * time.Minute)
	if grant, set := f.who(c); grant == "" || set != nil {
		t.Errorf("after 5 minutes: %q, %v", grant, set)
	}
	for range 3 { // each use begins the 30 days anew, in the browser, too
		f.advance(29 * 24 * time.Hour)
		if grant, set := f.who(c); grant == "" || set == nil || set.MaxAge != 30*24*3600 || set.Value != c.Value {
			t.Fatalf("after 29 days: %q, %v", grant, set)
		}
	}
	f.advance(30 * 24 * time.Hour)
	if grant, set := f.who(c); grant != "" || set == nil || set.MaxAge >= 0 {
		t.Errorf("after 30 days: %q, %v", grant, set)
	}
	if all, err := f.List(t.Context(), alice); err != nil || len(all) > 0 {
		t.Errorf("it is listed: %v, %v", all, err)
	}
	other := f.begin(nil, bob, "other")
	if err := f.prune(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := f.taken(); !slices.Equal(got, []string{"grant"}) {
		t.Errorf("told of the end of %q", got)
	}
	if grant, _ := f.who(other); grant != "other" {
		t.Error("one in use went, too")
	}
}

// The 21st browser of an account ends its least used one, and nobody else's.
func TestBrowsersOfAnAccount(t *testing.T) {
	f := newFixture(t, true)
	bobs := f.begin(nil, bob, "bob")
	var all []*http.Cookie
	for i := range maxOfAccount {
		all = append(all, f.begin(nil, alice, fmt.Sprint(i)))
		f.advance(time.Hour)
	}
	f.who(all[0])
	f.advance(time.Hour)
	last := f.begin(nil, alice, "last")
	if got := f.taken(); !slices.Equal(got, []string{"1"}) {
		t.Errorf("told of the end of %q, want the least used one", got)
	}
	for _, c := range []*http.Cookie{bobs, all[0], all[2], last} {
		if grant, _ := f.who(c); grant == "" {
			t.Error("another one went")
		}
	}
	list, err := f.List(t.Context(), alice)
	if err != nil || len(list) != maxOfAccount || list[0].Grant != "last" || list[0].Agent != "Test/1" || list[0].Address == "" {
		t.Errorf("%d are listed, %v: %+v", len(list), err, list)
	}
}

func TestEnd(t *testing.T) {
	f := newFixture(t, true)
	ctx := t.Context()
	mine, other, third, bobs := f.begin(nil, alice, "mine"), f.begin(nil, alice, "other"), f.begin(nil, alice, "third"), f.begin(nil, bob, "bob")
	ids := map[string]string{}
	for _, did := range []string{alice, bob} {
		list, err := f.List(ctx, did)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range list {
			ids[s.Grant] = s.ID
		}
	}
	for name, id := range map[string]string{"another account's": ids["bob"], "none": "", "no id": "x' or 1=1 --"} {
		if err := f.End(ctx, alice, id); !errors.Is(err, ErrNone) {
			t.Errorf("%s: %v", name, err)
		}
	}
	var wg sync.WaitGroup
	results := make([]error, 4)
	for i := range results {
		wg.Go(func() { results[i] = f.End(ctx, alice, ids["other"]) })
	}
	wg.Wait()
	ok := 0
	for _, err := range results {
		if err == nil {
			ok++
		} else if !errors.Is(err, ErrNone) {
			t.Error(err)
		}
	}
	if got := f.taken(); ok != 1 || !slices.Equal(got, []string{"other"}) {
		t.Errorf("%d ended it, told of %q", ok, got)
	}
	if grant, _ := f.who(other); grant != "" {
		t.Error("it lives")
	}
	if n, err := f.EndAll(ctx, alice, ids["mine"]); n != 1 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if got := f.taken(); !slices.Equal(got, []string{"third"}) {
		t.Errorf("told of %q", got)
	}
	for c, want := range map[*http.Cookie]string{mine: "mine", third: "", bobs: "bob"} {
		if grant, _ := f.who(c); grant != want {
			t.Errorf("%q, want %q", grant, want)
		}
	}
	w := httptest.NewRecorder()
	if err := f.SignOut(w, request(mine)); err != nil {
		t.Fatal(err)
	}
	if set := w.Result().Cookies(); len(set) != 1 || set[0].MaxAge >= 0 || set[0].Name != mine.Name || !set[0].Secure {
		t.Errorf("%v", set)
	}
	if grant, _ := f.who(mine); grant != "" {
		t.Error("signed out, it lives")
	}
	if err := f.SignOut(httptest.NewRecorder(), request(nil)); err != nil {
		t.Error(err)
	}
}

// What stands in cookies and headers is anybody's invention.
func TestForeignCookies(t *testing.T) {
	f := newFixture(t, true)
	good := f.begin(nil, alice, "grant")
	for _, value := range []string{"", "x", strings.Repeat("A", 43), strings.Repeat("A", 4000), good.Value[:42], good.Value + "x", "' or 1=1 --"} {
		if grant, _ := f.who(&http.Cookie{Name: good.Name, Value: value}); grant != "" {
			t.Errorf("%.50q signs in", value)
		}
	}
	if grant, _ := f.who(&http.Cookie{Name: "test", Value: good.Value}); grant != "" {
		t.Error("over https a cookie without __Host- signs in")
	}
	r := request(nil)
	r.Header.Set("User-Agent", "\xff\x00<b>"+strings.Repeat("ä", 500))
	w := httptest.NewRecorder()
	s, err := f.Begin(w, r, Session{DID: bob})
	if err != nil || len(s.Agent) > maxAgent || !strings.HasPrefix(s.Agent, "<b>ä") {
		t.Errorf("%q, %v", s.Agent, err)
	}
}

func TestOptions(t *testing.T) {
	if _, err := New(t.Context(), Options{}); err == nil || !strings.Contains(err.Error(), "Options.DB") {
		t.Error(err)
	}
	f := newFixture(t, false)
	if _, err := New(t.Context(), Options{DB: f.opts.DB}); err == nil || !strings.Contains(err.Error(), "Options.Name") {
		t.Error(err)
	}
}
