package auth

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/atcr-dev/atcr/internal/durable"
	"github.com/atcr-dev/atcr/internal/seal"
	"github.com/atcr-dev/atcr/registry"
)

func (f *fixture) sessionKey() string {
	return filepath.Join(filepath.Dir(f.opts.KeyPath), "session.key")
}

// exec changes the database as somebody would who may write to it, and nothing else.
func (f *fixture) exec(query string, args ...any) {
	f.t.Helper()
	if _, err := f.db.Write().Exec(query, args...); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) sealed(id string) (b []byte) {
	f.t.Helper()
	if err := f.db.Read().QueryRow("select sealed from auth_session where id = $1", id).Scan(&b); err != nil {
		f.t.Fatal(err)
	}
	return b
}

// thief is a server that should be asked nothing.
func thief(t *testing.T) (url string, asked *atomic.Int64) {
	asked = new(atomic.Int64)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { asked.Add(1) }))
	t.Cleanup(s.Close)
	return s.URL, asked
}

// Whoever may write to the database sends no token anywhere by it.
func TestTokensStayWithTheirPDS(t *testing.T) {
	t.Parallel()
	for what, change := range map[string]func(f *fixture, id, other, to string){
		"another PDS": func(f *fixture, id, _, to string) {
			f.exec("update auth_session set pds = $1 where id = $2", to, id)
		},
		"another PDS, to be checked": func(f *fixture, id, _, to string) {
			f.exec("update auth_session set pds = $1, checked_at = 0 where id = $2", to, id)
		},
		"another account": func(f *fixture, id, _, _ string) {
			f.exec("update auth_session set did = $1 where id = $2", bob, id)
		},
		"another account and its PDS": func(f *fixture, id, _, to string) {
			f.exec("update auth_session set did = $1, pds = $2 where id = $3", bob, to, id)
		},
		"another session's tokens": func(f *fixture, id, other, _ string) {
			f.exec("update auth_session set sealed = $1 where id = $2", f.sealed(other), id)
		},
		"another session's id": func(f *fixture, id, other, _ string) {
			f.exec("delete from auth_session where id = $1", id)
			f.exec("update auth_session set id = $1 where id = $2", id, other)
		},
		"two columns run together": func(f *fixture, id, _, to string) {
			f.exec("update auth_session set did = $1, pds = $2 where id = $3", alice+"/"+f.pds.URL, to, id)
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, nil)
			url, asked := thief(t)
			f.insert(bob, "bob.test", url)
			id := f.sessionFor(1)
			other := f.sessionFor(2)
			change(f, id, other, url)
			before := f.pds.count("com.atproto.server.refreshSession")
			if _, err := do(f, id, ""); !errors.Is(err, registry.ErrUnauthorized) {
				t.Error(err)
			}
			f.pass(checkEvery)
			if _, err := f.Sessions().ServiceToken(t.Context(), id, "did:web:h", "x"); !errors.Is(err, registry.ErrUnauthorized) {
				t.Error(err)
			}
			f.restart()
			if _, err := do(f, id, ""); !errors.Is(err, registry.ErrUnauthorized) {
				t.Error("after a restart:", err)
			}
			if asked.Load() != 0 || f.pds.count("com.atproto.server.refreshSession") != before {
				t.Errorf("the other server was asked %d times", asked.Load())
			}
		})
	}
}

// A refresh token goes to the server that the account's document names now, or nowhere.
func TestRefreshAsksTheDocumentFirst(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	id := signedIn(t, f)
	url, asked := thief(t)
	f.pass(checkEvery)
	expect := func(kind *registry.Error) {
		t.Helper()
		if _, err := do(f, id, ""); !errors.Is(err, kind) {
			t.Errorf("%v, want %v", err, kind)
		}
		if n := f.pds.count("com.atproto.server.refreshSession"); n != 0 || asked.Load() != 0 {
			t.Errorf("%d refreshes at the old server, %d at the new", n, asked.Load())
		}
	}
	f.insert(alice, "alice.test", url)
	expect(registry.ErrUnauthorized)
	f.insert(alice, "alice.test", "")
	expect(registry.ErrUnauthorized)
	f.sessions.directory = failing{f.dir}
	expect(registry.ErrUnavailable)
	f.sessions.directory = f.dir
	f.insert(alice, "alice.test", f.pds.URL)
	if _, err := do(f, id, ""); err != nil {
		t.Error("back at its server:", err)
	}
}

// sealedBefore makes a row as versions did that did not bind the PDS.
func (f *fixture) sealedBefore(id string) {
	f.t.Helper()
	e, err := f.sessions.store.byID(f.t.Context(), id)
	if err != nil || e == nil {
		f.t.Fatal(err)
	}
	b, err := json.Marshal(e.tokens)
	if err != nil {
		f.t.Fatal(err)
	}
	sealed := f.sessions.store.sealer.keys.Seal([]byte(e.id+"\x00"+e.did), b)
	f.exec("update auth_session set sealed = $1 where id = $2", sealed, id)
}

// Rows of before are sealed anew at the first start, all of them, and after that their form is refused.
func TestRowsOfBefore(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	id := signedIn(t, f)
	for i := range resealPage + 3 { // more than a page
		if _, err := f.sessions.store.put(t.Context(), bob, string(rune('a'+i)), f.pds.URL, tokens{"a", "b"}, f.clock(), nil); err != nil {
			t.Fatal(err)
		}
	}
	for _, other := range f.sessionsOf("") {
		f.sealedBefore(other)
	}
	old := f.sealed(id)
	bound := f.sessionKey() + boundSuffix
	if err := os.Remove(bound); err != nil { // which that version didn't write
		t.Fatal(err)
	}
	f.restart()
	if st, err := os.Stat(bound); err != nil || st.Mode().Perm() != 0o600 {
		t.Fatal(st, err)
	}
	for _, other := range f.sessionsOf("") {
		if e, err := f.sessions.store.byID(t.Context(), other); e == nil || err != nil {
			t.Fatal("a row of before was lost", err)
		}
	}
	if got, err := do(f, id, "x"); err != nil || got != "200 POST x" {
		t.Fatal(got, err)
	}
	// Somebody puts the old form back, from a copy of the database.
	url, asked := thief(t)
	f.insert(alice, "alice.test", url)
	f.exec("update auth_session set sealed = $1, pds = $2, checked_at = 0 where id = $3", old, url, id)
	f.restart()
	if _, err := do(f, id, ""); !errors.Is(err, registry.ErrUnauthorized) || asked.Load() != 0 {
		t.Errorf("%v, the other server was asked %d times", err, asked.Load())
	}
}

// A key file that others can read stops the start; so do lines that are no keys.
func TestSessionKeyFile(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	good, err := os.ReadFile(f.sessionKey())
	if err != nil {
		t.Fatal(err)
	}
	for _, mode := range []os.FileMode{0o644, 0o640, 0o604, 0o660} {
		if err := os.Chmod(f.sessionKey(), mode); err != nil {
			t.Fatal(err)
		}
		if _, err := New(t.Context(), f.opts); !errors.Is(err, durable.ErrPermissions) || !strings.Contains(err.Error(), "chmod 600") {
			t.Errorf("mode %#o: %v", mode, err)
		}
	}
	for text, ok := range map[string]bool{
		"": false, "\n": false, "# none\n": false, "AAAA\n": false, string(good) + "x\n": false,
		strings.Repeat(string(good), seal.MaxKeys+1): false, string(good): true, "# mine\n\n  " + string(good): true, strings.TrimSpace(string(good)): true, string(good) + string(good): true,
		strings.ReplaceAll(string(good), "\n", "\r\n"): true,
	} {
		if err := durable.ReplaceSecret(f.sessionKey(), []byte(text)); err != nil {
			t.Fatal(err)
		}
		_, err := New(t.Context(), f.opts)
		if (err == nil) != ok || err != nil && !strings.Contains(err.Error(), f.sessionKey()) {
			t.Errorf("%.40q: %v", text, err)
		}
	}
}

// The first key seals. What the others sealed is sealed anew at the start, so that they can go; passwords stay known.
func TestSessionKeyRotation(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	id := signedIn(t, f)
	old, err := os.ReadFile(f.sessionKey())
	if err != nil {
		t.Fatal(err)
	}
	var b [32]byte
	_, _ = rand.Read(b[:])
	fresh := base64.StdEncoding.EncodeToString(b[:]) + "\n"
	start := func(keys string) {
		t.Helper()
		if err := durable.ReplaceSecret(f.sessionKey(), []byte(keys)); err != nil {
			t.Fatal(err)
		}
		f.restart()
	}
	asked := f.pds.count("com.atproto.server.createSession")
	start(fresh + string(old))
	if again := signedIn(t, f); again != id {
		t.Error("the password is not known under the older key")
	}
	start(fresh)
	if again := signedIn(t, f); again != id {
		t.Error("the password is not known under the new key")
	}
	if _, err := do(f, id, ""); err != nil {
		t.Error("not sealed anew:", err)
	}
	if n := f.pds.count("com.atproto.server.createSession"); n != asked {
		t.Errorf("the PDS was asked %d times", n-asked)
	}
	start(string(old)) // a mistake
	if _, err := do(f, id, ""); !errors.Is(err, registry.ErrUnauthorized) {
		t.Error(err)
	}
	start(fresh) // mended
	if _, err := do(f, id, ""); err != nil {
		t.Error(err)
	}
}
