package auth

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/atcr-dev/atcr/internal/durable"
	"github.com/atcr-dev/atcr/registry"
)

// published are the ids of the keys in the JWKS.
func (f *fixture) published() (kids []string) {
	f.t.Helper()
	w := f.serve(httptest.NewRequest(http.MethodGet, "/auth/jwks.json", nil))
	var set struct {
		Keys []struct {
			Kid string
			X5c []string
		}
	}
	if err := json.Unmarshal(w.Body.Bytes(), &set); err != nil {
		f.t.Fatal(err)
	}
	for _, k := range set.Keys {
		if len(k.X5c) != 1 {
			f.t.Errorf("key %s has no certificate", k.Kid)
		}
		kids = append(kids, k.Kid)
	}
	return kids
}

func kidOf(t *testing.T, token string) string {
	t.Helper()
	parsed, _, err := jwt.NewParser().ParseUnverified(token, &claims{})
	if err != nil {
		t.Fatal(err)
	}
	kid, _ := parsed.Header["kid"].(string)
	return kid
}

// Through a rotation every token is signed by a key that was published before for longer than a JWKS is cached, and every token is taken
// for as long as an upload may need it.
func TestRotateKey(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	const scope = "repository:alice.test/app:pull,push"
	upload := registry.Access{Repository: "alice.test/app", Actions: []registry.Action{registry.Push}, Upload: "u"}
	type minted struct {
		token string
		at    time.Time
	}
	var tokens []minted
	var cached [][]string // JWKS minute by minute
	first := f.published()
	var second *Rotation
	for minute := range 27 * 60 {
		if minute%5 == 0 {
			if minute == 30 {
				var err error
				if second, err = RotateKey(f.opts.KeyPath, f.clock(), false); err != nil {
					t.Fatal(err)
				}
				f.lookAtKeys()
			}
			if minute == 35 {
				f.restart() // the same, as far as others can see
			}
			tokens = append(tokens, minted{f.token("alice.test", app, scope), f.clock()})
			kid := kidOf(t, tokens[len(tokens)-1].token)
			if old := cached[max(0, len(cached)-5):]; len(old) > 0 && !strings.Contains(strings.Join(old[0], " "), kid) {
				t.Fatalf("minute %d: %s signs, and was not published five minutes ago: %s", minute, kid, old[0])
			}
		}
		cached = append(cached, f.published())
		if minute%60 == 0 {
			for _, m := range tokens {
				age := f.clock().Sub(m.at)
				_, e := ask(f, m.token, upload)
				if good := age < tokenLife+uploadLife; good != (e == nil) && !(age < tokenLife+uploadLife+Leeway) {
					t.Fatalf("minute %d: a token %s old: %v", minute, age, e)
				}
			}
		}
		f.pass(time.Minute)
	}
	if kid := kidOf(t, tokens[len(tokens)-1].token); kid != second.ID || kid == first[0] {
		t.Errorf("%s signs, after %s came %s", kid, first, second.ID)
	}
	if got := f.published(); len(got) != 1 || got[0] != second.ID || len(cached[31]) != 2 {
		t.Errorf("published at last: %s, in between: %s", got, cached[31])
	}
	// The next rotation takes the oldest out of the file.
	if _, err := RotateKey(f.opts.KeyPath, f.clock(), false); err != nil {
		t.Fatal(err)
	}
	b, err := durable.ReadSecret(f.opts.KeyPath)
	if err != nil || strings.Count(string(b), "BEGIN PRIVATE KEY") != 2 {
		t.Errorf("%v\n%s", err, b)
	}
}

// A key that somebody may have seen is dropped: what it signed is refused at once, though it was checked before.
func TestRotateLeakedKey(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	token := f.token("alice.test", app, "repository:alice.test/app:pull")
	pull := want("alice.test/app", registry.Pull)
	if _, e := ask(f, token, pull); e != nil {
		t.Fatal(e)
	}
	r, err := RotateKey(f.opts.KeyPath, f.clock(), true)
	if err != nil || !r.OldUntil.IsZero() {
		t.Fatal(r, err)
	}
	f.lookAtKeys()
	if _, e := ask(f, token, pull); e == nil || e.Status != 401 {
		t.Error("a token of the dropped key is taken: ", e)
	}
	token = f.token("alice.test", app, "repository:alice.test/app:pull")
	if _, e := ask(f, token, pull); e != nil || kidOf(t, token) != r.ID || len(f.published()) != 1 {
		t.Error(e, f.published())
	}
}

// A file that can't be used changes nothing; too many rotations say until when.
func TestRotateKeyMistakes(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	if _, err := RotateKey(f.opts.KeyPath+".none", f.clock(), false); err == nil || !strings.Contains(err.Error(), "at its first start") {
		t.Error(err)
	}
	good, err := os.ReadFile(f.opts.KeyPath)
	if err != nil {
		t.Fatal(err)
	}
	kids := f.published()
	for _, bad := range []string{"", "x", "# made yesterday\n" + string(good)} {
		if err := durable.ReplaceSecret(f.opts.KeyPath, []byte(bad)); err != nil {
			t.Fatal(err)
		}
		f.lookAtKeys()
		if got := f.published(); len(got) != 1 || got[0] != kids[0] {
			t.Errorf("%.20q: %s", bad, got)
		}
		if _, err := RotateKey(f.opts.KeyPath, f.clock(), false); err == nil {
			t.Errorf("%.20q was rotated", bad)
		}
	}
	if err := durable.ReplaceSecret(f.opts.KeyPath, good); err != nil {
		t.Fatal(err)
	}
	var failed error
	for range maxSigningKeys {
		f.pass(time.Minute)
		_, failed = RotateKey(f.opts.KeyPath, f.clock(), false)
		f.lookAtKeys()
	}
	if failed == nil || !strings.Contains(failed.Error(), "still in use: the oldest until 2027-01-16T08:") {
		t.Error(failed)
	}
	if got := f.published(); len(got) != maxSigningKeys {
		t.Errorf("%d keys", len(got))
	}
	if st, err := os.Stat(f.opts.KeyPath); err != nil || st.Mode().Perm() != 0o600 {
		t.Error(st.Mode(), err)
	}
}
