package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"testing"

	"github.com/atcr-dev/atcr/identity"
	"github.com/atcr-dev/atcr/identity/oauth"
	"github.com/atcr-dev/atcr/internal/realtest"
	chromium "github.com/atcr-dev/atcr/internal/realtest/browser"
)

// application is a web application that signs people in: GET /login?account= sends the browser to the account's PDS, the callback shows
// what came of it.
type application struct {
	*oauth.Client
	URL      string
	finished chan finished
}

type finished struct {
	grant *oauth.Finished
	err   error
}

var oauthScopes = []string{"repo:io.atcr.tag", "blob:*/*", "rpc:io.atcr.hold.requestCrew?aud=*"}

// startApplication starts one with its database and keys in a folder of its own; change may be nil.
func startApplication(t *testing.T, n *realtest.Net, change func(*oauth.Config)) *application {
	t.Helper()
	dir := t.TempDir()
	mux := http.NewServeMux()
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	c := oauth.Config{
		Directory: identity.NewResolver(identity.ResolverOptions{PLCURL: n.PLC, HandleResolverURL: n.PDS[0], TestMode: true}),
		URL:       server.URL, Scopes: oauthScopes, TestMode: true, Name: "Test application",
		KeyPath: filepath.Join(dir, "client.key"), SealPath: filepath.Join(dir, "seal.key"),
	}
	if change != nil {
		change(&c)
	}
	if c.DB == nil {
		c.DB = realtest.OpenDatabase(t, filepath.Join(dir, "oauth.db"))
		t.Cleanup(func() { _ = c.DB.Close() })
	}
	a := &application{URL: server.URL, Client: must(oauth.New(t.Context(), c))(t), finished: make(chan finished, 1)}
	t.Cleanup(func() { _ = a.Close() }) // before the database
	const cookie = "sign-in"
	mux.HandleFunc("GET /login", func(w http.ResponseWriter, r *http.Request) {
		started, err := a.Begin(r.Context(), oauth.Begin{Account: r.FormValue("account"), Data: []byte("as it was")})
		if err != nil {
			a.finished <- finished{err: err}
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		http.SetCookie(w, &http.Cookie{Name: cookie, Value: started.Browser, Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode})
		http.Redirect(w, r, started.URL, http.StatusSeeOther)
	})
	mux.HandleFunc("GET /auth/oauth/callback", func(w http.ResponseWriter, r *http.Request) {
		var browser string
		if c, err := r.Cookie(cookie); err == nil {
			browser = c.Value
		}
		done, err := a.Finish(r.Context(), r.URL.Query(), browser)
		a.finished <- finished{done, err}
		w.Header().Set("Content-Type", "text/plain")
		if err != nil {
			fmt.Fprint(w, err)
			return
		}
		fmt.Fprintln(w, "Signed in:", done.Grant.DID)
	})
	return a
}

// signIn signs an account in by the PDS's own pages, and returns the id of the grant.
func (a *application) signIn(t *testing.T, page *chromium.Page, account realtest.Account) string {
	t.Helper()
	page.Open(a.URL + "/login?account=" + url.QueryEscape(account.Handle))
	page.SignIn(account)
	page.Shoot("consent")
	page.Consent()
	page.WaitText("Signed in: " + account.DID)
	done := <-a.finished
	if done.err != nil {
		t.Fatal(done.err)
	}
	if got := string(done.grant.Data); got != "as it was" {
		t.Errorf("what Begin was given came back as %q", got)
	}
	return done.grant.Grant.ID
}

// ask sends a request in a grant's name; an answer that is not 200 is an error.
func (a *application) ask(ctx context.Context, grant, method, path string, in, out any) error {
	var body io.Reader
	contentType := "application/json"
	switch in := in.(type) {
	case nil:
	case []byte:
		body, contentType = bytes.NewReader(in), "application/octet-stream"
	default:
		b, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, "/xrpc/"+path, body)
	if err != nil {
		return err
	}
	if body != nil {
		req.Header.Set("Content-Type", contentType)
	}
	resp, err := a.Do(ctx, grant, req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s: %s", path, resp.Status, b)
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(b, out)
}

// writeTag makes a record of the account's, in a collection that was granted, or in another.
func (a *application) writeTag(ctx context.Context, grant, did, collection, name string) error {
	return a.ask(ctx, grant, http.MethodPost, "com.atproto.repo.createRecord", map[string]any{
		"repo": did, "collection": collection, "rkey": name, "record": map[string]any{"$type": collection, "tag": name},
	}, nil)
}

// ended fails the test unless err says that the grant has ended, in those words.
func ended(t *testing.T, what string, err error, words string) {
	t.Helper()
	if !errors.Is(err, oauth.ErrEnded) || !strings.Contains(err.Error(), words) {
		t.Errorf("%s: %v, want %v because of %q", what, err, oauth.ErrEnded, words)
	}
}

// TestOAuthByBrowser signs alice in as people do, on the PDS's own pages in Chromium: what a grant can do and can't, that ending it here
// ends it there and the other way round, and that a refusal is one.
func TestOAuthByBrowser(t *testing.T) {
	t.Parallel()
	n := realtest.Network(t, realtest.NetworkOptions{Proxied: true})
	alice := n.Account("alice")
	app := startApplication(t, n, nil)
	page := chromium.New(t, chromium.Options{}).Page(t)
	ctx := t.Context()

	grant := app.signIn(t, page, alice)
	if err := app.writeTag(ctx, grant, alice.DID, "io.atcr.tag", "granted"); err != nil {
		t.Error(err)
	}
	if err := app.writeTag(ctx, grant, alice.DID, "io.atcr.other", "not-granted"); !errors.Is(err, oauth.ErrDenied) {
		t.Errorf("a record of another collection: %v, want %v", err, oauth.ErrDenied)
	}
	var blob struct{ Blob struct{ Size int } }
	err := app.ask(ctx, grant, http.MethodPost, "com.atproto.repo.uploadBlob", make([]byte, 300_000), &blob)
	if err != nil || blob.Blob.Size != 300_000 {
		t.Errorf("a blob of %d bytes arrived, %v", blob.Blob.Size, err)
	}
	var token struct{ Token string }
	const serviceAuth = "com.atproto.server.getServiceAuth?aud=did:web:hold.test&lxm="
	if err := app.ask(ctx, grant, http.MethodGet, serviceAuth+"io.atcr.hold.requestCrew", nil, &token); err != nil || token.Token == "" {
		t.Errorf("service token: %v", err)
	}
	if err := app.ask(ctx, grant, http.MethodGet, serviceAuth+"io.atcr.hold.other", nil, &token); !errors.Is(err, oauth.ErrDenied) {
		t.Errorf("a service token for another method: %v, want %v", err, oauth.ErrDenied)
	}
	if got := n.Records(t, "alice", "io.atcr.tag"); len(got) != 1 {
		t.Errorf("records %v", got)
	}

	if got := page.Apps(alice); got != 1 {
		t.Errorf("the PDS lists %d applications, want ours", got)
	}
	if err := app.End(ctx, grant); err != nil {
		t.Error(err)
	}
	ended(t, "ended here", app.writeTag(ctx, grant, alice.DID, "io.atcr.tag", "late"), "")
	if got := page.Apps(alice); got != 0 {
		t.Errorf("the PDS lists %d applications after the grant was ended", got)
	}

	grant = app.signIn(t, page, alice)
	page.RevokeApps(alice)
	ended(t, "revoked at the PDS", app.writeTag(ctx, grant, alice.DID, "io.atcr.tag", "revoked"), "revoked")

	page.Open(app.URL + "/login?account=alice.test")
	page.SignIn(alice)
	page.Deny()
	page.WaitText("nothing was granted")
	if done := <-app.finished; !errors.Is(done.err, oauth.ErrDenied) {
		t.Errorf("denied: %v, want %v", done.err, oauth.ErrDenied)
	}
	for _, g := range must(app.Grants(ctx, alice.DID))(t) {
		if g.Ended == "" {
			t.Errorf("a grant is left: %+v", g)
		}
	}
}
