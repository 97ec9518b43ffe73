package auth

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/atcr-dev/atcr/registry"
)

// sessionsOf returns the sessions of an account, the least used first.
func (f *fixture) sessionsOf(did string) (ids []string) {
	f.t.Helper()
	all, err := f.sessions.store.leastUsed(f.t.Context(), did, 10_000)
	if err != nil {
		f.t.Fatal(err)
	}
	for _, p := range all {
		ids = append(ids, p.id)
	}
	return ids
}

// sessionFor signs alice in by one more password.
func (f *fixture) sessionFor(n int) string {
	f.t.Helper()
	f.pass(time.Hour)
	c, err := f.verify(f.token("alice.test", app+strconv.Itoa(n)), 0)
	if err != nil {
		f.t.Fatal(err)
	}
	return c.Session
}

// An account has a bounded number of sessions; those that uploads and intents act by stay, the least used of the others go.
func TestSessionsOfAnAccountAreBounded(t *testing.T) {
	t.Parallel()
	var inUse []string
	f := newFixture(t, func(o *Options) {
		o.InUse = func(_ context.Context, did string) ([]string, error) {
			if did != alice {
				t.Error("asked for", did)
			}
			return inUse, nil
		}
	})
	var made []string
	for i := range maxSessions {
		made = append(made, f.sessionFor(i))
	}
	inUse = []string{made[0], made[2]}
	for i := range 3 {
		made = append(made, f.sessionFor(maxSessions+i))
	}
	left := f.sessionsOf(alice)
	if len(left) != maxSessions {
		t.Fatalf("%d sessions", len(left))
	}
	for i, id := range made {
		if gone := i == 1 || i == 3 || i == 4; gone == slices.Contains(left, id) {
			t.Errorf("session %d is gone: %v, want %v", i, !gone, gone)
		}
	}
	before := f.pds.count("com.atproto.server.createSession")
	f.token("alice.test", app+strconv.Itoa(maxSessions+2)) // a known password makes none
	if f.pds.count("com.atproto.server.createSession") != before || len(f.sessionsOf(alice)) != maxSessions {
		t.Error("a known password made a session")
	}

	// Nothing may go: then nothing comes, and the PDS's session is ended.
	f.pass(time.Hour)
	inUse = f.sessionsOf(alice)
	ended := f.pds.count("com.atproto.server.deleteSession")
	w := f.get("alice.test", app+"-one-more")
	if w.Code != 429 || w.Header().Get("Retry-After") == "" || !strings.Contains(w.Body.String(), "open uploads or pushes") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if len(f.sessionsOf(alice)) != maxSessions || f.pds.count("com.atproto.server.deleteSession") != ended+1 {
		t.Error("a session was dropped that is in use, or one was left at the PDS")
	}

	// What was there before there was a limit goes with the next.
	for i := range 7 {
		if _, err := f.sessions.store.put(t.Context(), alice, "old"+strconv.Itoa(i), f.pds.URL, tokens{"a", "b"}, f.clock(), nil); err != nil {
			t.Fatal(err)
		}
	}
	inUse = nil
	f.sessionFor(100)
	if n := len(f.sessionsOf(alice)); n != maxSessions {
		t.Errorf("%d sessions", n)
	}
}

// There is a bound on everybody's sessions, too.
func TestAllSessionsAreBounded(t *testing.T) {
	t.Parallel()
	kept := ""
	f := newFixture(t, func(o *Options) {
		o.InUse = func(context.Context, string) ([]string, error) { return []string{kept}, nil }
	})
	f.sessions.max = 5
	for i := range 9 {
		f.pass(time.Minute)
		did := "did:plc:" + strings.Repeat(string(rune('a'+i)), 24)
		id, err := f.sessions.add(t.Context(), did, "password", "https://pds.example.com", tokens{"a", "b"})
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			kept = id
		}
	}
	if err := f.sessions.prune(t.Context()); err != nil {
		t.Fatal(err)
	}
	left := f.sessionsOf("")
	if len(left) != 5 || left[0] != kept {
		t.Errorf("%d sessions, the one in use is kept: %v", len(left), left[0] == kept)
	}
}

// A PDS whose tokens are longer than tokens are is refused for good, wherever it gives them.
func TestLongTokens(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	id := signedIn(t, f)
	f.pds.set(func() { f.pds.pad = maxPDSToken })
	_, err := f.Sessions().ServiceToken(t.Context(), id, "did:web:hold.example.com", "io.atcr.hold.getQuota")
	if !errors.Is(err, registry.ErrDenied) {
		t.Errorf("service token: %v", err)
	}
	f.pass(checkEvery)
	if _, err := do(f, id, ""); !errors.Is(err, registry.ErrDenied) {
		t.Errorf("refresh: %v", err)
	}
	w := f.get("alice.test", app+"-2")
	if w.Code != 403 || code(t, w) != "DENIED" || !strings.Contains(w.Body.String(), strings.TrimPrefix(f.pds.URL, "http://")) {
		t.Errorf("sign-in: %d %s", w.Code, w.Body)
	}
	if n := len(f.sessionsOf(alice)); n != 1 {
		t.Errorf("%d sessions", n)
	}
	f.pds.set(func() { f.pds.pad = maxPDSToken / 2 })
	f.pass(time.Hour)
	f.token("alice.test", app+"-3")
}
