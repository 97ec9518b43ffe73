package oauth

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/atcr-dev/atcr/identity"
	"github.com/atcr-dev/atcr/internal/httpx"
	"github.com/atcr-dev/atcr/internal/realtest"
	"github.com/atcr-dev/atcr/sqldb"
)

// world is a client, the server of alice and bob, and what stands between them.
type world struct {
	t      *testing.T
	clock  *testClock
	server *fakeServer
	proxy  *realtest.FaultProxy
	dir    string
	dirs   *identity.MockDirectory
	db     *sqldb.DB
	*Client
}

func newWorld(t *testing.T) *world { return newWorldIn(t, t.Context(), t.TempDir()) }

func newWorldIn(t *testing.T, ctx context.Context, dir string) *world {
	t.Helper()
	w := &world{t: t, clock: newTestClock(), dir: dir}
	w.server = newFakeServer(t, w.clock.Now)
	w.proxy = realtest.NewFaultProxy(t, w.server.URL)
	w.server.set(func() { w.server.url = w.proxy.URL })
	w.dirs = w.server.directory()
	w.db = w.another()
	w.Client = w.client(ctx, w.db)
	return w
}

// client opens another client on the same files.
func (w *world) client(ctx context.Context, db *sqldb.DB) *Client {
	w.t.Helper()
	web := httpx.NewClient(httpx.ClientOptions{Guard: httpx.Guard{Loopback: true}})
	w.t.Cleanup(web.CloseIdleConnections)
	c, err := New(ctx, Config{
		DB: db, Directory: w.dirs, URL: "http://127.0.0.1:5000", Scopes: testScopes, KeyPath: filepath.Join(w.dir, "client.key"),
		SealPath: filepath.Join(w.dir, "seal.key"), TestMode: true, HTTP: web, Clock: w.clock.Now, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

// newRequest is one with a body.
func newRequest(t testing.TB, body string) *http.Request {
	t.Helper()
	req, err := http.NewRequest(http.MethodPost, "/xrpc/com.example.method?a=%20b", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	return req
}

// do sends a request as a grant, and returns an error when it does not arrive whole and in the grant's name.
func do(t testing.TB, c *Client, g *grant) error {
	resp, err := c.Do(context.Background(), g.id, newRequest(t, "the body"))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	var got struct{ DID, Path, Body string }
	if err := json.Unmarshal(b, &got); err != nil || resp.StatusCode != 200 {
		return errors.New(resp.Status + " " + string(b))
	}
	if got.DID != g.did || got.Body != "the body" || got.Path != "/xrpc/com.example.method?a=%20b" {
		return errors.New("arrived as " + string(b))
	}
	return nil
}

func (w *world) must(g *grant) {
	w.t.Helper()
	if err := do(w.t, w.Client, g); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) counts(refreshes, replays, revoked int) {
	w.t.Helper()
	if a, b, c := w.server.counts(); a != refreshes || b != replays || c != revoked {
		w.t.Errorf("%d refreshes, %d spent tokens shown, %d revoked; want %d, %d, %d", a, b, c, refreshes, replays, revoked)
	}
}

func (w *world) row(g *grant) *grant {
	w.t.Helper()
	row, err := w.store.grant(w.t.Context(), g.id)
	if err != nil || row == nil {
		w.t.Fatalf("row of the grant: %v, %v", row, err)
	}
	return row
}

func TestDo(t *testing.T) {
	w := newWorld(t)
	g := w.server.signIn(alice, w.Client)
	for range 3 {
		w.must(g)
	}
	w.counts(0, 0, 0)
	if got := w.proxy.Requests(); len(got) != 4 { // one more for the first nonce
		t.Errorf("requests: %q", got)
	}
	// Due: a third of its life is left, or five minutes.
	w.clock.add(54 * time.Minute)
	w.must(g)
	w.counts(0, 0, 0)
	w.clock.add(time.Minute)
	w.must(g)
	w.counts(1, 0, 0)
	row := w.row(g)
	if row.generation != 1 || row.refreshing != "" || !row.expires.Equal(w.clock.Now().Add(time.Hour)) {
		t.Errorf("row after a refresh: %+v", row)
	}
	w.server.set(func() { w.server.life = 30 * time.Second })
	w.clock.add(time.Hour)
	w.must(g)
	w.clock.add(19 * time.Second)
	w.must(g)
	w.counts(2, 0, 0)
	w.clock.add(time.Second)
	w.must(g)
	w.counts(3, 0, 0)
	// The server ends access tokens early.
	w.server.set(func() {
		for _, s := range w.server.sessions {
			s.expires = w.clock.Now()
		}
	})
	w.must(g)
	w.counts(4, 0, 0)
}

func TestBodiesThatCanBeSentOnce(t *testing.T) {
	w := newWorld(t)
	g := w.server.signIn(alice, w.Client)
	req := newRequest(t, "body")
	req.GetBody = nil
	if _, err := w.Do(t.Context(), g.id, req); err == nil || !strings.Contains(err.Error(), "GetBody") {
		t.Errorf("error is %v, want one that names GetBody", err)
	}
	if got := w.proxy.Requests(); len(got) != 0 {
		t.Errorf("it was sent: %q", got)
	}
	if _, err := w.Do(t.Context(), "oauth-"+strings.Repeat("0", 32), newRequest(t, "")); !errors.Is(err, ErrEnded) {
		t.Errorf("unknown grant: %v", err)
	}
}

func TestNoncesThatAlwaysChange(t *testing.T) {
	w := newWorld(t)
	g := w.server.signIn(alice, w.Client)
	w.server.set(func() { w.server.nonces = true })
	for range 5 {
		w.must(g)
	}
	w.clock.add(2 * time.Hour)
	w.must(g)
	w.counts(1, 0, 0)
	// Parallel requests spend each other's nonces, and each gets one more try at most: the server says no, nobody loops.
	w.proxy.Requests()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if err := do(t, w.Client, g); err != nil && !errors.Is(err, ErrUnavailable) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got := w.proxy.Requests(); len(got) > 16 {
		t.Errorf("%d requests for 8", len(got))
	}
	w.server.set(func() {
		w.server.answer = func(rw http.ResponseWriter, r *http.Request) bool { // asks for what it has been given
			rw.Header().Set("DPoP-Nonce", "the same")
			rw.Header().Set("WWW-Authenticate", `DPoP error="use_dpop_nonce"`)
			rw.WriteHeader(401)
			return true
		}
	})
	kindIs(t, do(t, w.Client, g), ErrUnavailable, "does not answer as it should")
}

func TestSixteenAtExpiry(t *testing.T) {
	w := newWorld(t)
	g := w.server.signIn(alice, w.Client)
	w.must(g)
	for round := 1; round <= 5; round++ {
		w.clock.add(2 * time.Hour)
		var wg sync.WaitGroup
		start := make(chan struct{})
		for range 16 {
			wg.Go(func() {
				<-start
				if err := do(t, w.Client, g); err != nil {
					t.Error(err)
				}
			})
		}
		close(start)
		wg.Wait()
		w.counts(round, 0, 0)
	}
}

// TestTwoProcesses has two clients on one database, as two processes have.
func TestTwoProcesses(t *testing.T) {
	w := newWorld(t)
	others := []*Client{w.Client, w.client(t.Context(), w.another()), w.client(t.Context(), w.another())}
	g := w.server.signIn(alice, w.Client)
	w.proxy.Inject(realtest.Fault{Kind: realtest.Delay, Path: "/token", Wait: 100 * time.Millisecond, Times: -1})
	for round := 1; round <= 3; round++ {
		w.clock.add(2 * time.Hour)
		var wg sync.WaitGroup
		start := make(chan struct{})
		for i := range 18 {
			wg.Go(func() {
				<-start
				if err := do(t, others[i%len(others)], g); err != nil {
					t.Error(err)
				}
			})
		}
		close(start)
		wg.Wait()
		w.counts(round, 0, 0)
	}
}

// another opens the database once more.
func (w *world) another() *sqldb.DB {
	w.t.Helper()
	db := realtest.OpenDatabase(w.t, w.database())
	w.t.Cleanup(func() {
		if err := db.Close(); err != nil {
			w.t.Error(err)
		}
	})
	return db
}

func (w *world) database() string { return filepath.Join(w.dir, "oauth.db") }

// TestFaultsOfRefresh has what can happen to a refresh, while the access token lives and after its end.
func TestFaultsOfRefresh(t *testing.T) {
	type want struct {
		kind  error // of the first request after the access token's end
		words string
		lost  bool
	}
	for name, c := range map[string]struct {
		fault realtest.Fault
		// alive is what the refresh does to a grant whose token lives: all requests succeed by it, whatever comes of the refresh.
		lost    bool // the row says so then
		want    want
		replays int
	}{
		"500":          {fault: realtest.Fault{Kind: realtest.Fail, Times: -1}, want: want{kind: ErrUnavailable, words: "does not answer as it should"}},
		"500 once":     {fault: realtest.Fault{Kind: realtest.Fail}, want: want{}},
		"503":          {fault: realtest.Fault{Kind: realtest.Fail, Status: 503, Times: -1}, want: want{kind: ErrUnavailable}},
		"404":          {fault: realtest.Fault{Kind: realtest.Fail, Status: 404, Times: -1}, want: want{kind: ErrUnavailable, words: "404"}},
		"429":          {fault: realtest.Fault{Kind: realtest.Fail, RetryAfter: 77 * time.Second, Times: -1}, want: want{kind: ErrTooManyRequests}},
		"reset":        {fault: realtest.Fault{Kind: realtest.Drop, Times: -1}, lost: true, want: want{kind: ErrUnavailable, lost: true}},
		"reset once":   {fault: realtest.Fault{Kind: realtest.Drop}, lost: true, want: want{}},
		"no JSON":      {fault: realtest.Fault{Kind: realtest.Fail, Status: 200, Body: "<html>", Times: -1}, lost: true, want: want{kind: ErrUnavailable, lost: true}},
		"empty tokens": {fault: realtest.Fault{Kind: realtest.Fail, Status: 200, Body: "{}", Times: -1}, lost: true, want: want{kind: ErrUnavailable, lost: true}},
		"1 GB": {fault: realtest.Fault{Kind: realtest.Fail, Status: 200, Body: strings.Repeat("x", 1<<20), Times: -1}, lost: true,
			want: want{kind: ErrUnavailable, lost: true}},
		"invalid_client": {fault: realtest.Fault{Kind: realtest.Fail, Status: 401, Body: `{"error":"invalid_client"}`, Times: -1},
			want: want{kind: ErrEnded, words: "key was lost, or its address has changed"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			g := w.server.signIn(alice, w.Client)
			c.fault.Path = "/token"
			injected := w.proxy.Inject(c.fault)
			w.clock.add(56 * time.Minute)
			for range 3 {
				w.must(g)
			}
			if injected.Fired() != 1 {
				t.Errorf("the server was asked %d times within a second", injected.Fired())
			}
			if row := w.row(g); row.lost != c.lost || row.refreshing != "" || row.ended != "" {
				t.Errorf("row: lost %v, mark %q, ended %q", row.lost, row.refreshing, row.ended)
			}
			w.clock.add(10 * time.Minute) // the token is over
			err := do(t, w.Client, g)
			switch {
			case c.want.kind == nil && err != nil:
				t.Errorf("%v", err)
			case c.want.kind != nil:
				kindIs(t, err, c.want.kind, c.want.words)
				var e *Error
				if errors.As(err, &e) && e.RetryAfter <= 0 {
					t.Errorf("no RetryAfter in %v", err)
				}
				if c.fault.RetryAfter > 0 && e.RetryAfter != c.fault.RetryAfter {
					t.Errorf("RetryAfter is %s", e.RetryAfter)
				}
				fired := injected.Fired()
				for range 5 { // nobody asks again at once
					kindIs(t, do(t, w.Client, g), c.want.kind, c.want.words)
				}
				if injected.Fired() != fired {
					t.Errorf("asked %d times more within a second", injected.Fired()-fired)
				}
			}
			w.proxy.Clear()
			w.clock.add(2 * time.Minute)
			w.must(g)
			if row := w.row(g); row.lost || row.refreshing != "" {
				t.Errorf("row at the end: lost %v, mark %q", row.lost, row.refreshing)
			}
			w.counts(1, 0, 0)
		})
	}
}

// TestLostAnswers: the server has renewed the tokens, and its answer does not arrive.
func TestLostAnswers(t *testing.T) {
	for name, c := range map[string]struct {
		fault realtest.Fault
		lost  bool
	}{
		"reset": {realtest.Fault{Kind: realtest.DropDone}, true},
		"cut":   {realtest.Fault{Kind: realtest.CutResponse, After: 20}, true},
		"500":   {realtest.Fault{Kind: realtest.FailDone}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			g := w.server.signIn(alice, w.Client)
			w.must(g)
			// The nonce is known, so that the fault is of the answer with the tokens.
			w.nonces(g)
			c.fault.Path = "/token"
			w.proxy.Inject(c.fault)
			w.clock.add(3 * time.Hour)
			err := do(t, w.Client, g)
			kindIs(t, err, ErrEnded, "was lost")
			kindIs(t, do(t, w.Client, g), ErrEnded, "was lost")
			w.counts(2, 1, 0)
			got, err := w.Grant(t.Context(), g.id)
			if err != nil || !strings.Contains(got.Ended, "was lost") {
				t.Errorf("%+v, %v", got, err)
			}
		})
	}
	t.Run("while the token lives", func(t *testing.T) {
		w := newWorld(t)
		g := w.server.signIn(alice, w.Client)
		w.nonces(g)
		// A server that takes the old access token for its life: as those do whose tokens are checked by their signature alone.
		w.server.set(func() {
			w.server.answer = func(rw http.ResponseWriter, r *http.Request) bool {
				if !strings.HasPrefix(r.URL.Path, "/xrpc/") {
					return false
				}
				b, _ := io.ReadAll(r.Body)
				json.NewEncoder(rw).Encode(map[string]string{"did": g.did, "path": r.URL.RequestURI(), "body": string(b)})
				return true
			}
		})
		w.proxy.Inject(realtest.Fault{Kind: realtest.DropDone, Path: "/token"})
		w.clock.add(56 * time.Minute)
		for range 3 {
			w.must(g)
			w.clock.add(time.Minute)
		}
		w.counts(1, 0, 0)
		if got, err := w.Grant(t.Context(), g.id); err != nil || !got.Lost || got.Ended != "" {
			t.Errorf("%+v, %v", got, err)
		}
		w.clock.add(time.Minute)
		kindIs(t, do(t, w.Client, g), ErrEnded, "was lost")
		w.counts(2, 1, 0)
	})
}

// nonces lets a client know the nonce of the server for a grant.
func (w *world) nonces(g *grant) {
	u, err := url.Parse(g.server)
	if err != nil {
		w.t.Fatal(err)
	}
	w.agent.nonces.saw(g.id, u, http.Header{"Dpop-Nonce": {"nonce-0"}})
}

// TestAnswersThatEnd: what a server says at a refresh that no grant survives.
func TestAnswersThatEnd(t *testing.T) {
	for name, c := range map[string]struct {
		change  func(map[string]any)
		words   string
		revoked int
	}{
		"another account": {func(m map[string]any) { m["sub"] = bob }, "for another account", 1},
		"less scope":      {func(m map[string]any) { m["scope"] = "atproto repo:io.atcr.tag" }, "repo:io.atcr.manifest, blob:*/*", 1},
		"no atproto":      {func(m map[string]any) { m["scope"] = "repo:*" }, "atproto", 1},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			g := w.server.signIn(alice, w.Client)
			w.server.set(func() { w.server.change = c.change })
			w.clock.add(56 * time.Minute)
			for range 2 {
				err := do(t, w.Client, g)
				kindIs(t, err, ErrEnded, c.words)
				kindIs(t, err, ErrEnded, "Sign in again at http://127.0.0.1:5000")
			}
			w.counts(1, 0, c.revoked)
			if row := w.row(g); row.secrets != (secrets{}) || row.ended == "" {
				t.Errorf("what is left: %+v", row)
			}
		})
	}
	t.Run("revoked", func(t *testing.T) {
		w := newWorld(t)
		g := w.server.signIn(alice, w.Client)
		w.must(g)
		w.server.set(func() {
			for _, s := range w.server.sessions {
				s.dead = true
			}
		})
		kindIs(t, do(t, w.Client, g), ErrEnded, "was revoked or has run out")
		all, err := w.Grants(t.Context(), g.did)
		if err != nil || len(all) != 1 || all[0].Ended == "" {
			t.Errorf("%+v, %v", all, err)
		}
		w.counts(1, 0, 0)
	})
}

func TestMoved(t *testing.T) {
	w := newWorld(t)
	g := w.server.signIn(alice, w.Client)
	w.must(g)
	w.proxy.Requests()
	w.dirs.Insert(accountAt(alice, "alice.test", "https://elsewhere.example.com"))
	kindIs(t, do(t, w.Client, g), ErrEnded, "is at another server (elsewhere.example.com)")
	// Back again, it works: nothing was lost.
	w.dirs.Insert(accountAt(alice, "alice.test", w.proxy.URL))
	w.must(g)
	// Nor is a refresh token shown to one that only says so.
	w.clock.add(3 * time.Hour)
	w.dirs.Insert(accountAt(alice, "alice.test", "http://localhost:1"))
	kindIs(t, do(t, w.Client, g), ErrEnded, "is at another server")
	w.counts(0, 0, 0)
}

func TestClientKeyLost(t *testing.T) {
	w := newWorld(t)
	g := w.server.signIn(alice, w.Client)
	if _, err := w.db.Write().ExecContext(t.Context(), `delete from oauth_grant`); err != nil {
		t.Fatal(err)
	}
	g.keyID = "gone"
	if err := w.store.insertGrant(t.Context(), g); err != nil {
		t.Fatal(err)
	}
	w.must(g)
	w.clock.add(2 * time.Hour)
	kindIs(t, do(t, w.Client, g), ErrEnded, "the key is lost")
	if row := w.row(g); row.ended != "" || row.refreshing != "" {
		t.Errorf("row: %+v", row)
	}
}

func TestBeyondScope(t *testing.T) {
	w := newWorld(t)
	g := w.server.signIn(alice, w.Client)
	for name, answer := range map[string]func(http.ResponseWriter){
		"name": func(rw http.ResponseWriter) { refuse(rw, 403, "ScopeMissingError") },
		"challenge": func(rw http.ResponseWriter) {
			rw.Header().Set("WWW-Authenticate", `DPoP error="insufficient_scope"`)
			refuse(rw, 403, "x")
		},
	} {
		w.server.set(func() {
			w.server.answer = func(rw http.ResponseWriter, _ *http.Request) bool { answer(rw); return true }
		})
		err := do(t, w.Client, g)
		kindIs(t, err, ErrDenied, "says the test")
		if t.Failed() {
			t.Fatal(name)
		}
	}
	w.server.set(func() {
		w.server.answer = func(rw http.ResponseWriter, _ *http.Request) bool { refuse(rw, 403, "Other"); return true }
	})
	if err := do(t, w.Client, g); err == nil || !strings.Contains(err.Error(), "403") {
		t.Errorf("another 403 is not the caller's: %v", err)
	}
}

func TestEnd(t *testing.T) {
	w := newWorld(t)
	g, other := w.server.signIn(alice, w.Client), w.server.signIn(alice, w.Client)
	if err := w.End(t.Context(), g.id); err != nil {
		t.Fatal(err)
	}
	w.counts(0, 0, 1)
	kindIs(t, do(t, w.Client, g), ErrEnded, "not known here any more")
	w.must(other)
	if err := w.End(t.Context(), g.id); err != nil {
		t.Errorf("once more: %v", err)
	}
	// A server that is down keeps nobody from ending it here.
	w.proxy.Inject(realtest.Fault{Kind: realtest.Fail, Path: "/revoke", Times: -1})
	if err := w.End(t.Context(), other.id); err != nil {
		t.Fatal(err)
	}
	if all, err := w.Grants(t.Context(), g.did); err != nil || len(all) != 0 {
		t.Errorf("left: %+v, %v", all, err)
	}
}

// TestEndBesideRefresh: what a refresh brings for a grant that was ended meanwhile is given back.
func TestEndBesideRefresh(t *testing.T) {
	w := newWorld(t)
	g := w.server.signIn(alice, w.Client)
	w.nonces(g)
	asked, goOn := make(chan struct{}), make(chan struct{})
	var once sync.Once
	w.server.set(func() {
		w.server.answer = func(_ http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path == "/token" {
				once.Do(func() { close(asked); <-goOn })
			}
			return false
		}
	})
	w.clock.add(2 * time.Hour)
	done := make(chan error, 1)
	go func() { done <- do(t, w.Client, g) }()
	<-asked
	if _, err := w.store.takeGrant(t.Context(), g.id); err != nil { // as End of another process does
		t.Fatal(err)
	}
	close(goOn)
	kindIs(t, <-done, ErrEnded, "not known here any more")
	w.counts(1, 0, 1)
}

// TestCallerGone: a refresh goes on when nobody waits for it.
func TestCallerGone(t *testing.T) {
	w := newWorld(t)
	g := w.server.signIn(alice, w.Client)
	w.nonces(g)
	asked, goOn := make(chan struct{}), make(chan struct{})
	var once sync.Once
	w.server.set(func() {
		w.server.answer = func(_ http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path == "/token" {
				once.Do(func() { close(asked); <-goOn })
			}
			return false
		}
	})
	w.clock.add(2 * time.Hour)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := w.Do(ctx, g.id, newRequest(t, "the body"))
		done <- err
	}()
	<-asked
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("the caller gets %v", err)
	}
	close(goOn)
	w.must(g)
	w.counts(1, 0, 0)
}

// TestSecretsAtRest greps the database for every token, and moves rows to other places.
func TestSecretsAtRest(t *testing.T) {
	w := newWorld(t)
	g, other := w.server.signIn(alice, w.Client), w.server.signIn(bob, w.Client)
	w.clock.add(2 * time.Hour)
	w.must(g)
	now := w.row(g)
	var dump bytes.Buffer
	rows, err := w.db.Read().QueryContext(t.Context(), `select * from oauth_grant`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		t.Fatal(err)
	}
	for rows.Next() {
		values := make([]sql.RawBytes, len(columns))
		to := make([]any, len(columns))
		for i := range values {
			to[i] = &values[i]
		}
		if err := rows.Scan(to...); err != nil {
			t.Fatal(err)
		}
		for _, v := range values {
			dump.Write(v)
		}
	}
	if !bytes.Contains(dump.Bytes(), []byte(g.id)) {
		t.Fatal("the dump holds no grants")
	}
	for _, s := range []secrets{g.secrets, other.secrets, now.secrets} {
		for _, secret := range []string{s.Access, s.Refresh, s.Key} {
			if bytes.Contains(dump.Bytes(), []byte(secret)) {
				t.Errorf("%.10s… can be read in the database", secret)
			}
		}
	}
	for _, column := range []string{"did", "server", "pds", "client_id", "key_id"} {
		before := w.row(other)
		if _, err := w.db.Write().ExecContext(t.Context(), `update oauth_grant set `+column+` = 'https://evil.example.com' where id = $1`,
			other.id); err != nil {
			t.Fatal(err)
		}
		kindIs(t, do(t, w.Client, other), ErrEnded, "can't be decrypted")
		old := map[string]string{"did": before.did, "server": before.server, "pds": before.pds, "client_id": before.clientID, "key_id": before.keyID}
		if _, err := w.db.Write().ExecContext(t.Context(), `update oauth_grant set `+column+` = $2 where id = $1`, other.id, old[column]); err != nil {
			t.Fatal(err)
		}
	}
	w.must(other)
	if _, err := w.db.Write().ExecContext(t.Context(), `update oauth_grant set sealed = (select sealed from oauth_grant where id = $1)
		where id = $2`, g.id, other.id); err != nil {
		t.Fatal(err)
	}
	kindIs(t, do(t, w.Client, other), ErrEnded, "can't be decrypted")
}

func TestKeep(t *testing.T) {
	w := newWorld(t)
	kept, not := w.server.signIn(alice, w.Client), w.server.signIn(alice, w.Client)
	if err := w.Keep(t.Context(), kept.id, true); err != nil {
		t.Fatal(err)
	}
	kindIs(t, w.Keep(t.Context(), "oauth-none", true), ErrEnded, "not known")
	if err := w.store.putRequest(t.Context(), "state", "browser", nil, w.clock.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	w.clock.add(5 * 24 * time.Hour)
	w.upkeep(t.Context())
	w.counts(0, 0, 0)
	if n, err := w.store.countRequests(t.Context(), time.Unix(0, 0)); n != 0 || err != nil {
		t.Errorf("%d sign-ins are left, %v", n, err)
	}
	w.clock.add(25 * time.Hour)
	w.upkeep(t.Context())
	w.upkeep(t.Context())
	w.counts(1, 0, 0)
	if row := w.row(kept); row.generation != 1 || !row.keep || !row.used.Equal(kept.used.Truncate(time.Second)) {
		t.Errorf("the kept one: %+v", row)
	}
	// A server that is gone is tried some times, and then once an hour.
	tried := w.proxy.Inject(realtest.Fault{Kind: realtest.Fail, Path: "/token", Status: 404, Times: -1})
	w.clock.add(7 * 24 * time.Hour)
	for range 120 {
		w.upkeep(t.Context())
		w.clock.add(time.Minute)
	}
	if n := tried.Fired(); n < 4 || n > 8 {
		t.Errorf("tried %d times in two hours", n)
	}
	w.proxy.Clear()
	w.clock.add(3 * time.Hour)
	w.upkeep(t.Context())
	w.counts(2, 0, 0)
	// Half a year later nobody has used the other one.
	w.clock.add(170 * 24 * time.Hour)
	w.upkeep(t.Context())
	if g, err := w.store.grant(t.Context(), not.id); g != nil || err != nil {
		t.Errorf("the other one: %+v, %v", g, err)
	}
	w.counts(3, 0, 1)
}

func TestEndedGrantsGo(t *testing.T) {
	w := newWorld(t)
	g := w.server.signIn(alice, w.Client)
	if err := w.end(t.Context(), g, result{reason: "for the test"}); !errors.Is(err, ErrEnded) {
		t.Fatal(err)
	}
	w.clock.add(29 * 24 * time.Hour)
	w.upkeep(t.Context())
	if got, err := w.Grant(t.Context(), g.id); err != nil || got.Ended != "for the test" {
		t.Errorf("%+v, %v", got, err)
	}
	w.clock.add(2 * 24 * time.Hour)
	w.upkeep(t.Context())
	if _, err := w.Grant(t.Context(), g.id); !errors.Is(err, ErrEnded) {
		t.Errorf("still there: %v", err)
	}
}

func TestGrants(t *testing.T) {
	w := newWorld(t)
	first := w.server.signIn(alice, w.Client)
	w.server.signIn(bob, w.Client)
	w.clock.add(time.Hour)
	second := w.server.signIn(alice, w.Client)
	all, err := w.Grants(t.Context(), alice.String())
	if err != nil || len(all) != 2 || all[0].ID != second.id || all[1].ID != first.id {
		t.Fatalf("%+v, %v", all, err)
	}
	if g := all[1]; g.DID != first.did || g.Server != w.proxy.URL || !slices.Equal(g.Scopes, testScopes) || len(g.Missing) != 0 ||
		!g.Created.Equal(first.created) {
		t.Errorf("%+v", g)
	}
	w.clock.add(2 * time.Hour)
	w.must(first)
	if g, err := w.Grant(t.Context(), first.id); err != nil || !g.Used.Equal(w.clock.Now()) {
		t.Errorf("used: %+v, %v", g, err)
	}
}

// TestSealKeyReplaced: the first key of several seals from the next start on, and then the others are needed no more.
func TestSealKeyReplaced(t *testing.T) {
	w := newWorld(t)
	var grants []*grant
	for range resealPage + 3 {
		grants = append(grants, w.server.signIn(alice, w.Client))
	}
	path := filepath.Join(w.dir, "seal.key")
	old, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	const fresh = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n"
	start := func(keys string) *Client {
		t.Helper()
		if err := os.WriteFile(path, []byte(keys), 0o600); err != nil {
			t.Fatal(err)
		}
		return w.client(t.Context(), w.db)
	}
	start(fresh + string(old))
	c := start(fresh)
	for _, g := range grants {
		if _, err := c.get(t.Context(), g.id); err != nil {
			t.Fatal(err)
		}
	}
	if err := do(t, c, grants[0]); err != nil {
		t.Error(err)
	}
	c = start(string(old)) // a mistake
	kindIs(t, do(t, c, grants[0]), ErrEnded, "can't be decrypted")
	if g, err := c.Grant(t.Context(), grants[0].id); err != nil || g.Ended == "" {
		t.Errorf("%+v, %v", g, err)
	}
	if err := do(t, start(fresh), grants[0]); err != nil { // mended
		t.Error(err)
	}
}

// TestAnswersThatLeaveOut: what an answer to a refresh leaves out is as it was.
func TestAnswersThatLeaveOut(t *testing.T) {
	w := newWorld(t)
	g := w.server.signIn(alice, w.Client)
	w.server.set(func() { w.server.change = func(m map[string]any) { delete(m, "scope"); delete(m, "expires_in") } })
	for range 2 {
		w.clock.add(2 * time.Hour)
		w.must(g)
	}
	w.counts(2, 0, 0)
	if row := w.row(g); !slices.Equal(row.scopes, testScopes) || !row.expires.Equal(w.clock.Now().Add(defaultLife)) {
		t.Errorf("%+v", row)
	}
	body := `{"access_token":"new","token_type":"DPoP","sub":"` + g.did + `"}`
	if r := w.judge(g, []byte(body)); r.tokens == nil || r.tokens.Refresh != g.secrets.Refresh {
		t.Errorf("%+v", r)
	}
}

// TestTooManyGrants: an account has so many; those go first that are of no use, then those that nobody needs for long.
func TestTooManyGrants(t *testing.T) {
	w := newWorld(t)
	var all []*grant
	for range 6 {
		all = append(all, w.server.signIn(alice, w.Client))
		w.clock.add(time.Minute)
	}
	other := w.server.signIn(bob, w.Client)
	if err := w.Keep(t.Context(), all[0].id, true); err != nil {
		t.Fatal(err)
	}
	if err := w.end(t.Context(), all[3], result{reason: "for the test"}); !errors.Is(err, ErrEnded) {
		t.Fatal(err)
	}
	for _, c := range []struct {
		most int
		left []int
	}{{6, []int{0, 1, 2, 3, 4, 5}}, {5, []int{0, 1, 2, 4, 5}}, {4, []int{0, 2, 4, 5}}, {2, []int{0, 5}}, {1, []int{5}}} {
		if err := w.trim(t.Context(), all[0].did, all[5].id, c.most); err != nil {
			t.Fatal(err)
		}
		var left []int
		for i, g := range all {
			if row, err := w.store.grant(t.Context(), g.id); err != nil {
				t.Fatal(err)
			} else if row != nil {
				left = append(left, i)
			}
		}
		if !slices.Equal(left, c.left) {
			t.Errorf("of at most %d, %v are left, want %v", c.most, left, c.left)
		}
	}
	w.must(other)
	w.counts(0, 0, 4)
	if err := w.trim(t.Context(), "", "", 1); err != nil {
		t.Fatal(err)
	}
	if n, err := w.store.countGrants(t.Context(), ""); n != 1 || err != nil {
		t.Errorf("%d grants are left of all, %v", n, err)
	}
}

// TestClose: a process that ends waits for the answer to a refresh.
func TestClose(t *testing.T) {
	w := newWorld(t)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	g := w.server.signIn(alice, w.Client)
	w.nonces(g)
	asked, goOn := make(chan struct{}), make(chan struct{})
	w.server.set(func() {
		w.server.answer = func(_ http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path == "/token" {
				close(asked)
				<-goOn
			}
			return false
		}
	})
	w.clock.add(2 * time.Hour)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { _, _ = w.Do(ctx, g.id, newRequest(t, "the body")) }()
	<-asked
	cancel()
	closed := make(chan error, 1)
	go func() { closed <- w.Close() }()
	select {
	case err := <-closed:
		t.Errorf("closed beside a refresh: %v", err)
	case <-time.After(50 * time.Millisecond): // it may only be late, then the test shows less
	}
	close(goOn)
	if err := <-closed; err != nil {
		t.Error(err)
	}
	if row := w.row(g); row.generation != 1 || row.refreshing != "" {
		t.Errorf("row: %+v", row)
	}
}
