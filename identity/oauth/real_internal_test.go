package oauth

import (
	"errors"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/atcr-dev/atcr/identity"
	"github.com/atcr-dev/atcr/internal/realtest"
)

var testScopes = []string{
	"atproto", "repo:io.atcr.manifest", "repo:io.atcr.tag", "blob:*/*", "rpc:io.atcr.hold.initiateUpload?aud=*",
}

// realClient is a loopback client for a network.
func realClient(t *testing.T, network *realtest.Net, change func(*Config)) *Client {
	t.Helper()
	dir := t.TempDir()
	c := Config{
		DB:        realtest.OpenDatabase(t, filepath.Join(dir, "oauth.db")),
		Directory: identity.NewResolver(identity.ResolverOptions{PLCURL: network.PLC, HandleResolverURL: network.PDS[0], TestMode: true}),
		URL:       "http://127.0.0.1:5000", Scopes: testScopes, KeyPath: filepath.Join(dir, "oauth", "client.key"),
		SealPath: filepath.Join(dir, "oauth", "seal.key"), TestMode: true,
	}
	if change != nil {
		change(&c)
	}
	client, err := New(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

func kindIs(t *testing.T, err, kind error, words string) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) || !errors.Is(err, kind) || !strings.Contains(e.Message, words) {
		t.Errorf("error is %v, want %q in one of kind %q", err, words, kind)
	}
}

// TestReal signs in at the reference PDS, which judges every request of ours.
func TestReal(t *testing.T) {
	t.Parallel()
	network := realtest.Network(t, realtest.NetworkOptions{})
	t.Run("Discovery", func(t *testing.T) { testDiscovery(t, network) })
	t.Run("SignIn", func(t *testing.T) { testSignIn(t, network) })
	t.Run("Refused", func(t *testing.T) { testRefused(t, network) })
	t.Run("OtherAccount", func(t *testing.T) { testOtherAccount(t, network) })
	t.Run("Dropped", func(t *testing.T) { testDropped(t, network) })
	t.Run("PermissionSet", func(t *testing.T) { testPermissionSet(t, network) })
	t.Run("Callbacks", func(t *testing.T) { testCallbacks(t, network) })
}

func testSignIn(t *testing.T, network *realtest.Net) {
	c, alice := realClient(t, network, nil), network.Account("alice")
	for _, typed := range []string{"@alice.test ", "ALICE.test", alice.DID} {
		started, err := c.Begin(t.Context(), Begin{Account: typed, Keep: true, Data: []byte("/next")})
		if err != nil {
			t.Fatal(err)
		}
		finished, err := c.Finish(t.Context(), newPerson(t, alice).allows(started.URL), started.Browser)
		if err != nil {
			t.Fatal(err)
		}
		g := finished.Grant
		if g.DID != alice.DID || g.Server != network.PDS[0] || !g.Keep || string(finished.Data) != "/next" || len(g.Missing) > 0 ||
			!strings.HasPrefix(g.ID, "oauth-") {
			t.Errorf("%q: %+v, data %q", typed, g, finished.Data)
		}
		if missing := missingScopes(testScopes, g.Scopes); len(missing) > 0 {
			t.Errorf("missing are %q of %q", missing, g.Scopes)
		}
	}
}

func testRefused(t *testing.T, network *realtest.Net) {
	c, alice := realClient(t, network, nil), network.Account("alice")
	started, err := c.Begin(t.Context(), Begin{Account: "alice.test"})
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Finish(t.Context(), newPerson(t, alice).refuses(started.URL), started.Browser)
	kindIs(t, err, ErrDenied, "nothing was granted")
	for typed, words := range map[string]string{
		"": "no account", "not a handle": "neither", "nobody.test": "no account", "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa": "no account",
	} {
		_, err := c.Begin(t.Context(), Begin{Account: typed})
		kindIs(t, err, ErrAccount, words)
	}
	if _, err := c.Begin(t.Context(), Begin{Account: "alice.test", Data: make([]byte, maxData+1)}); err == nil {
		t.Error("too much data was taken")
	}
}

// testOtherAccount: bob signs in where alice was asked for.
func testOtherAccount(t *testing.T, network *realtest.Net) {
	c := realClient(t, network, nil)
	started, err := c.Begin(t.Context(), Begin{Account: "alice.test"})
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Finish(t.Context(), newPerson(t, network.Account("bob")).allows(started.URL), started.Browser)
	kindIs(t, err, ErrDenied, "another account")
}

// testDropped: a scope of a form that the server does not know is dropped silently.
func testDropped(t *testing.T, network *realtest.Net) {
	const bad = "rpc:*?aud=did:web:hold.test"
	c := realClient(t, network, func(c *Config) { c.Scopes = append(slices.Clone(testScopes), bad) })
	started, err := c.Begin(t.Context(), Begin{Account: "alice.test"})
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Finish(t.Context(), newPerson(t, network.Account("alice")).allows(started.URL), started.Browser)
	kindIs(t, err, ErrDenied, bad)
}

// testPermissionSet: one that the server can't find is left out, and what is asked beside it is granted.
func testPermissionSet(t *testing.T, network *realtest.Net) {
	c := realClient(t, network, func(c *Config) { c.Scopes = append(slices.Clone(testScopes), "include:io.atcr.authFullApp") })
	started, err := c.Begin(t.Context(), Begin{Account: "alice.test"})
	if err != nil {
		t.Fatal(err)
	}
	finished, err := c.Finish(t.Context(), newPerson(t, network.Account("alice")).allows(started.URL), started.Browser)
	if err != nil {
		t.Fatal(err)
	}
	if g := finished.Grant; len(g.Missing) > 0 || slices.Contains(g.Scopes, scopeTransition) {
		t.Errorf("%+v", g)
	}
}

// testCallbacks: each sign-in is finished once, in its browser, within ten minutes, by its own server's answer.
func testCallbacks(t *testing.T, network *realtest.Net) {
	var late time.Duration
	c := realClient(t, network, func(c *Config) { c.Clock = func() time.Time { return time.Now().Add(late) } })
	alice := network.Account("alice")
	begin := func() (*Started, url.Values) {
		t.Helper()
		started, err := c.Begin(t.Context(), Begin{Account: "alice.test"})
		if err != nil {
			t.Fatal(err)
		}
		return started, newPerson(t, alice).allows(started.URL)
	}

	started, back := begin()
	_, err := c.Finish(t.Context(), back, secret())
	kindIs(t, err, ErrState, "another browser")
	_, err = c.Finish(t.Context(), back, "")
	kindIs(t, err, ErrState, "another browser")
	if _, err := c.Finish(t.Context(), back, started.Browser); err != nil {
		t.Error("the browser itself, after others tried:", err)
	}
	_, err = c.Finish(t.Context(), back, started.Browser)
	kindIs(t, err, ErrState, "finished already")

	started, back = begin()
	wrong := url.Values{"state": back["state"], "code": back["code"], "iss": {"https://evil.example"}}
	_, err = c.Finish(t.Context(), wrong, started.Browser)
	kindIs(t, err, ErrState, "another server")
	_, err = c.Finish(t.Context(), back, started.Browser)
	kindIs(t, err, ErrState, "finished already")

	started, back = begin()
	wrong = url.Values{"state": back["state"], "code": {"cod-" + strings.Repeat("0", 64)}, "iss": back["iss"]}
	_, err = c.Finish(t.Context(), wrong, started.Browser)
	kindIs(t, err, ErrState, "begin again")

	started, back = begin()
	late = requestLife
	_, err = c.Finish(t.Context(), back, started.Browser)
	kindIs(t, err, ErrState, "ten minutes")
	late = 0

	// two tabs of one browser
	one, backOne := begin()
	two, err := c.Begin(t.Context(), Begin{Account: "alice.test", Browser: one.Browser})
	if err != nil {
		t.Fatal(err)
	}
	if two.Browser != one.Browser {
		t.Error("a browser's secret was replaced")
	}
	backTwo := newPerson(t, alice).allows(two.URL)
	for _, back := range []url.Values{backTwo, backOne} {
		if _, err := c.Finish(t.Context(), back, one.Browser); err != nil {
			t.Error(err)
		}
	}
	for _, bad := range []string{"", "short", strings.Repeat("a", 43) + "!"} {
		s, err := c.Begin(t.Context(), Begin{Account: "alice.test", Browser: bad})
		if err != nil || len(s.Browser) != 43 {
			t.Errorf("%q: %+v, %v", bad, s, err)
		}
	}
}
