package auth

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"github.com/atcr-dev/atcr/identity"
	"github.com/atcr-dev/atcr/internal/realtest"
	"github.com/atcr-dev/atcr/registry"
)

// failing is a directory that can't be reached.
type failing struct{ *identity.MockDirectory }

func (failing) Lookup(context.Context, syntax.AtIdentifier) (*identity.Account, error) {
	return nil, identity.ErrHandleResolutionFailed
}

func (failing) LookupDID(context.Context, syntax.DID) (*identity.Account, error) {
	return nil, identity.ErrDIDResolutionFailed
}

// What registry/pds asks of sessions.
var _ interface {
	Do(ctx context.Context, session string, req *http.Request) (*http.Response, error)
	ServiceToken(ctx context.Context, session, aud, lxm string) (string, error)
} = (*Sessions)(nil)

func signedIn(t *testing.T, f *fixture) (session string) {
	t.Helper()
	c, err := f.verify(f.token("alice.test", app), 0)
	if err != nil {
		t.Fatal(err)
	}
	return c.Session
}

func do(f *fixture, session, body string) (string, error) {
	req, err := http.NewRequest(http.MethodPost, "/xrpc/test.echo", strings.NewReader(body))
	if err != nil {
		return "", err
	}
	resp, err := f.Sessions().Do(f.t.Context(), session, req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return fmt.Sprint(resp.StatusCode, " ", string(b)), err
}

func TestSessionDo(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	id := signedIn(t, f)
	expect := func(want string) {
		t.Helper()
		if got, err := do(f, id, "hello"); err != nil || got != want {
			t.Fatalf("%q %v, want %q", got, err, want)
		}
	}
	refreshes := func(want int) {
		t.Helper()
		if n := f.pds.count("com.atproto.server.refreshSession"); n != want {
			t.Fatalf("%d refreshes, want %d", n, want)
		}
	}
	expect("200 POST hello")
	refreshes(0)
	f.pds.set(func() { f.pds.access = "ended" }) // the PDS takes our token no longer, for reasons of its own
	expect("200 POST hello")
	refreshes(1)
	f.pass(checkEvery)
	expect("200 POST hello")
	refreshes(2) // ten minutes of use
	f.pds.set(func() { f.pds.life = time.Minute })
	f.pass(checkEvery)
	expect("200 POST hello")
	refreshes(3)
	f.pass(31 * time.Second)
	expect("200 POST hello") // refreshed before its end, not after a failure
	refreshes(4)
	if n := f.pds.count("test.echo"); n != 6 {
		t.Errorf("%d requests for 5 calls, one of which was sent twice", n)
	}
	f.restart()
	expect("200 POST hello")

	req, _ := http.NewRequest(http.MethodGet, "/xrpc/test.redirect", nil)
	resp, err := f.Sessions().Do(t.Context(), id, req)
	if err != nil || resp.StatusCode != http.StatusFound {
		t.Fatal(resp, err)
	}
	resp.Body.Close()
	if req.Header.Get("Authorization") != "" {
		t.Error("the caller's request was given the token")
	}
}

func TestSessionEnds(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	if _, err := do(f, "", ""); !errors.Is(err, registry.ErrUnauthorized) {
		t.Error(err)
	}
	if _, err := do(f, "unknown", ""); !errors.Is(err, registry.ErrUnauthorized) {
		t.Error(err)
	}
	id := signedIn(t, f)
	f.pds.set(func() { f.pds.refuse = true })
	f.pass(checkEvery)
	if _, err := do(f, id, ""); !errors.Is(err, registry.ErrUnauthorized) {
		t.Error(err)
	}
	if e, err := f.sessions.store.byID(t.Context(), id); e != nil || err != nil {
		t.Error("a refused session was kept", err)
	}
	f.pds.set(func() { f.pds.refuse = false })
	if again := signedIn(t, f); again == id {
		t.Error("the same session")
	}
}

// A revoked app password stops working at the token endpoint within ten minutes.
func TestRevokedPassword(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	signedIn(t, f)
	f.insert(alice, "alice.test", f.pds.URL)
	f.pds.set(func() { f.pds.refuse = true })
	f.pass(checkEvery)
	before := f.pds.count("com.atproto.server.createSession")
	f.token("alice.test", app) // the PDS still takes the password itself: a new session
	if f.pds.count("com.atproto.server.createSession") != before+1 {
		t.Error("the PDS did not decide")
	}
}

func TestSessionTrouble(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	id := signedIn(t, f)
	f.pass(checkEvery)
	f.pds.set(func() { f.pds.status, f.pds.retry = 429, "9" })
	var e *registry.Error
	if _, err := do(f, id, ""); !errors.As(err, &e) || e.Status != 429 || e.RetryAfter != 9*time.Second {
		t.Error(err)
	}
	f.pds.set(func() { f.pds.status = 500 })
	if _, err := do(f, id, ""); !errors.Is(err, registry.ErrUnavailable) {
		t.Error(err)
	}
	f.pds.set(func() { f.pds.status = 0 })
	if _, err := do(f, id, ""); err != nil {
		t.Error("the session did not outlive the trouble:", err)
	}
	f.pds.Close()
	if _, err := do(f, id, ""); !errors.Is(err, registry.ErrUnavailable) {
		t.Error(err)
	}
}

// Many users of one session refresh it once.
func TestRefreshOnce(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	id := signedIn(t, f)
	f.pass(checkEvery)
	f.pds.set(func() { f.pds.entered, f.pds.leave = make(chan struct{}, 1), make(chan struct{}) })
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			if got, err := do(f, id, "x"); err != nil || got != "200 POST x" {
				t.Error(got, err)
			}
		})
	}
	<-f.pds.entered
	close(f.pds.leave)
	wg.Wait()
	if n := f.pds.count("com.atproto.server.refreshSession"); n != 1 {
		t.Errorf("%d refreshes", n)
	}
	for _, key := range []string{alice, "add " + alice} {
		if _, ok := f.sessions.locks.Try(key); !ok {
			t.Error("a lock is left:", key)
		}
	}
}

// A caller who goes away in mid-refresh does not lose the new tokens.
func TestRefreshOutlivesCaller(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	id := signedIn(t, f)
	f.pass(checkEvery)
	f.pds.set(func() { f.pds.entered, f.pds.leave = make(chan struct{}, 1), make(chan struct{}) })
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = f.Sessions().ServiceToken(ctx, id, "did:web:hold.example.com", "io.atcr.hold.getQuota")
	}()
	<-f.pds.entered
	cancel()
	close(f.pds.leave)
	<-done
	e, err := f.sessions.store.byID(t.Context(), id)
	if err != nil || e == nil || e.tokens.Refresh != f.pds.refresh {
		t.Fatal("the new tokens were lost", err)
	}
}

func TestServiceToken(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	id := signedIn(t, f)
	tok, err := f.Sessions().ServiceToken(t.Context(), id, "did:web:hold.example.com#atcr_hold", "io.atcr.hold.getQuota")
	if err != nil || tok != "did:web:hold.example.com#atcr_hold io.atcr.hold.getQuota" {
		t.Fatal(tok, err)
	}
	if _, err := f.Sessions().ServiceToken(t.Context(), id, "did:web:127.0.0.1%3A8080", "x"); !errors.Is(err, registry.ErrDenied) {
		t.Error(err)
	}
	if _, err := f.Sessions().ServiceToken(t.Context(), "none", "did:web:h", "x"); !errors.Is(err, registry.ErrUnauthorized) {
		t.Error(err)
	}
}

func TestUnusedSessionsGo(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	id := signedIn(t, f)
	f.pass(29 * 24 * time.Hour)
	if _, err := do(f, id, ""); err != nil {
		t.Fatal(err)
	}
	f.pass(29 * 24 * time.Hour)
	if _, err := do(f, id, ""); err != nil {
		t.Fatal("the last use was not noted:", err)
	}
	f.pass(keepUnused + time.Second)
	if _, err := do(f, id, ""); !errors.Is(err, registry.ErrUnauthorized) {
		t.Error(err)
	}
	f.restart()
	if e, err := f.sessions.store.byID(t.Context(), id); e != nil || err != nil {
		t.Error("not dropped", err)
	}
}

// Neither passwords nor tokens are to be read in the database's files.
func TestNothingInTheClear(t *testing.T) {
	realtest.OnlySQLite(t)
	t.Parallel()
	f := newFixture(t, nil)
	id := signedIn(t, f)
	access, refresh := f.pds.access, f.pds.refresh
	found := false
	folder := filepath.Dir(filepath.Dir(f.opts.KeyPath))
	files, _ := filepath.Glob(filepath.Join(folder, "auth.db*"))
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		found = found || bytes.Contains(b, []byte(id))
		for _, secret := range []string{app, access, refresh} {
			if bytes.Contains(b, []byte(secret)) {
				t.Errorf("%s holds a secret", filepath.Base(name))
			}
		}
	}
	if !found {
		t.Error("the session is not in these files: the test looks at the wrong ones")
	}
	// A row moved to another account does not open, nor one under another key.
	if _, err := f.db.Write().Exec("update auth_session set did = $1", bob); err != nil {
		t.Fatal(err)
	}
	if e, err := f.sessions.store.byID(t.Context(), id); e != nil || err != nil {
		t.Error("opened under another account", err)
	}
	if err := os.Remove(filepath.Join(filepath.Dir(f.opts.KeyPath), "session.key")); err != nil {
		t.Fatal(err)
	}
	f.restart()
	signedIn(t, f)
}

func TestAccountMovedToAnotherPDS(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	first := signedIn(t, f)
	other := newFixture(t, nil)
	f.insert(alice, "alice.test", other.pds.URL)
	if again := signedIn(t, f); again != first {
		t.Error("another id: an intent could not be settled")
	}
	if e, err := f.sessions.store.byID(t.Context(), first); err != nil || e.pds != other.pds.URL {
		t.Error("the session stayed at the old server", err)
	}
}
