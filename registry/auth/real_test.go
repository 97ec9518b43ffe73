package auth_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/atcr-dev/atcr/identity"
	"github.com/atcr-dev/atcr/identity/serviceauth"
	"github.com/atcr-dev/atcr/internal/realtest"
	"github.com/atcr-dev/atcr/registry"
	"github.com/atcr-dev/atcr/registry/auth"
	"github.com/atcr-dev/atcr/sqldb/sqlite"
)

// realNet is the reference PDS and PLC directory, our resolver, and a token server.
type realNet struct {
	*realtest.Net
	t        *testing.T
	resolver *identity.Resolver
	opts     auth.Options
	auth     *auth.Auth
	late     time.Duration // how far our clock is ahead
}

// TestReal starts one network for all that needs a real one.
func TestReal(t *testing.T) {
	t.Parallel()
	network := realtest.Network(t, realtest.NetworkOptions{})
	t.Run("ReferencePDS", func(t *testing.T) { testReferencePDS(t, network) })
	t.Run("Clients", func(t *testing.T) { testClients(t, network) })
	t.Run("Docker", func(t *testing.T) { testDocker(t, network) })
	t.Run("PDSStops", func(t *testing.T) { testPDSStops(t, network) })
}

func newRealNet(t *testing.T, network *realtest.Net) *realNet {
	n := &realNet{Net: network, t: t}
	n.resolver = identity.NewResolver(identity.ResolverOptions{PLCURL: n.PLC, HandleResolverURL: n.PDS[0], TestMode: true})
	dir := t.TempDir()
	db, err := sqlite.Open(t.Context(), filepath.Join(dir, "auth.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	n.opts = auth.Options{
		DB: db, Directory: n.resolver, KeyPath: filepath.Join(dir, "auth", "private-key.pem"), TestMode: true,
		Clock: func() time.Time { return time.Now().Add(n.late) },
	}
	n.restart()
	return n
}

func (n *realNet) restart() {
	n.t.Helper()
	a, err := auth.New(n.t.Context(), n.opts)
	if err != nil {
		n.t.Fatal(err)
	}
	n.auth = a
}

func (n *realNet) signIn(user, password string, scopes ...string) (status int, body string) {
	r := httptest.NewRequest(http.MethodGet, "/auth/token?"+url.Values{"scope": scopes}.Encode(), nil)
	r.Host = "127.0.0.1:5000"
	r.SetBasicAuth(user, password)
	w := httptest.NewRecorder()
	n.auth.Handler().ServeHTTP(w, r)
	var out struct{ Token string }
	if json.Unmarshal(w.Body.Bytes(), &out) == nil && out.Token != "" {
		return w.Code, out.Token
	}
	return w.Code, w.Body.String()
}

func (n *realNet) authorize(token, name string, actions ...registry.Action) (registry.Actor, error) {
	r := httptest.NewRequest(http.MethodPost, "/v2/", nil)
	r.Host = "127.0.0.1:5000"
	r.Header.Set("Authorization", "Bearer "+token)
	return n.auth.Authorize(r, []registry.Access{{Repository: name, Actions: actions}})
}

// Everything that depends on what a PDS really does: passwords, scopes, refresh, revocation, service tokens.
func testReferencePDS(t *testing.T, network *realtest.Net) {
	n := newRealNet(t, network)
	alice := n.Account("alice")
	app := n.AppPassword(t, "alice")

	if code, body := n.signIn("alice.test", "not-the-password"); code != 401 {
		t.Fatal(code, body)
	}
	if code, body := n.signIn("nobody.test", app); code != 401 {
		t.Error(code, body)
	}
	if code, body := n.signIn("alice.test", alice.Password); code != 403 || !strings.Contains(body, "app password") {
		t.Error("main password:", code, body)
	}
	scope := "repository:alice.test/app:pull,push"
	var session string
	for user, password := range map[string]string{
		"alice.test": app, "did-plc-" + strings.TrimPrefix(alice.DID, "did:plc:"): app, "did": strings.TrimPrefix(alice.DID, "did:") + ":" + app,
	} {
		code, token := n.signIn(user, password, scope, "repository:bob.test/app:push")
		if code != 200 {
			t.Fatal(user, code, token)
		}
		actor, err := n.authorize(token, "alice.test/app", registry.Pull, registry.Push)
		if err != nil || actor.ID != alice.DID || session != "" && actor.Session != session {
			t.Fatal(actor, err)
		}
		session = actor.Session
		if _, err := n.authorize(token, "bob.test/app", registry.Push); !errors.Is(err, registry.ErrDenied) {
			t.Error(err)
		}
	}

	// The session writes a record, also after a restart, and after its token was refreshed.
	write := func() (int, error) {
		body := `{"repo":"` + alice.DID + `","collection":"io.atcr.sailor.star","rkey":"3jzfcijpj2z2a","record":{"$type":"io.atcr.sailor.star","subject":"at://x","createdAt":"2026-01-01T00:00:00Z"}}`
		req, _ := http.NewRequest(http.MethodPost, "/xrpc/com.atproto.repo.putRecord", strings.NewReader(body))
		req.Header.Set("Content-Type", "application/json")
		resp, err := n.auth.Sessions().Do(t.Context(), session, req)
		if err != nil {
			return 0, err
		}
		resp.Body.Close()
		return resp.StatusCode, nil
	}
	for range 3 {
		if code, err := write(); code != 200 || err != nil {
			t.Fatal(code, err)
		}
		n.late += 11 * time.Minute
		n.restart()
	}

	n.serviceTokens(alice, session)

	// An app password revoked at the PDS: the session ends at the next check, and the password no longer signs in.
	n.revoke(alice)
	n.late += 11 * time.Minute
	if _, err := write(); !errors.Is(err, registry.ErrUnauthorized) {
		t.Error("after the revocation:", err)
	}
	if code, body := n.signIn("alice.test", app, scope); code != 401 {
		t.Error("after the revocation:", code, body)
	}
}

// serviceTokens: what the reference PDS mints, our verifier takes, once.
func (n *realNet) serviceTokens(alice realtest.Account, session string) {
	t := n.t
	const lxm = "io.atcr.hold.initiateUpload"
	for _, hold := range []string{"did:web:localhost%3A8080", "did:web:hold.test", "did:web:hold.test#atcr_hold"} {
		v := serviceauth.NewVerifier(n.resolver.DIDs(), serviceauth.VerifierOptions{Audiences: []string{hold}, Clock: n.opts.Clock})
		token, err := n.auth.Sessions().ServiceToken(t.Context(), session, hold, lxm)
		if err != nil {
			t.Fatal(hold, err)
		}
		n.withClockOf(func() {
			claims, err := v.Verify(t.Context(), token, lxm)
			if err != nil || claims.Issuer.String() != alice.DID || claims.Legacy {
				t.Error(hold, claims, err)
			}
			if _, err := v.Verify(t.Context(), token, lxm); serviceauth.KindOf(err) != serviceauth.Replay {
				t.Error(hold, err)
			}
		})
	}
	if _, err := n.auth.Sessions().ServiceToken(t.Context(), session, "did:web:127.0.0.1%3A8080", lxm); !errors.Is(err, registry.ErrDenied) {
		t.Error(err)
	}
}

// withClockOf runs f with our clock where the PDS's is.
func (n *realNet) withClockOf(f func()) {
	late := n.late
	n.late = 0
	f()
	n.late = late
}

func (n *realNet) revoke(alice realtest.Account) {
	n.t.Helper()
	token := n.Session(n.t, "alice")
	var list struct {
		Passwords []struct{ Name string }
	}
	if err := n.Call(n.t.Context(), http.MethodGet, alice.PDS, "com.atproto.server.listAppPasswords", token, nil, &list); err != nil ||
		len(list.Passwords) == 0 {
		n.t.Fatal(list, err)
	}
	for _, p := range list.Passwords {
		in := map[string]any{"name": p.Name}
		if err := n.Call(n.t.Context(), http.MethodPost, alice.PDS, "com.atproto.server.revokeAppPassword", token, in, nil); err != nil &&
			!strings.Contains(err.Error(), "EOF") {
			n.t.Fatal(err)
		}
	}
}

// The resolver against the real PLC directory and PDS; then the PDS goes, and what is known goes on.
func testPDSStops(t *testing.T, network *realtest.Net) {
	n := newRealNet(t, network)
	app := n.AppPassword(t, "alice")
	who, err := n.resolver.LookupHandle(t.Context(), "alice.test")
	if err != nil || who.DID.String() != n.Account("alice").DID || who.PDSEndpoint() != n.Account("alice").PDS {
		t.Fatal(who, err)
	}
	if _, err := n.resolver.LookupHandle(t.Context(), "nobody.test"); !errors.Is(err, identity.ErrHandleNotFound) {
		t.Error(err)
	}
	pull, push := "repository:alice.test/app:pull", "repository:alice.test/app:push,pull"
	if code, body := n.signIn("alice.test", app, push); code != 200 {
		t.Fatal(code, body)
	}
	n.StopPDS(t, 0)
	for _, late := range []time.Duration{0, time.Hour} {
		n.late = late
		if code, body := n.signIn("alice.test", app, pull); code != 200 {
			t.Error(late, code, body)
		}
	}
	if code, body := n.signIn("alice.test", app, push); code != 503 || !strings.Contains(body, "localhost") {
		t.Error(code, body)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := n.resolver.LookupHandle(ctx, "alice.test"); err != nil {
		t.Error(err)
	}
	n.StartPDS(t, 0)
	if code, body := n.signIn("alice.test", app, push); code != 200 {
		t.Error(code, body)
	}
}
