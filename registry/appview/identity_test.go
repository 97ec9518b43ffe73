package appview_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/bluesky-social/indigo/atproto/atcrypto"

	"github.com/atcr-dev/atcr/identity"
	"github.com/atcr-dev/atcr/registry/appview"
)

// The AppView's document is that of its base URL, with a P-256 key that stays.
func TestIdentity(t *testing.T) {
	dir := t.TempDir()
	var keys []string
	for range 2 {
		app, err := appview.New(t.Context(), appview.Config{Dir: dir, BaseURL: "https://registry.example.com", DefaultHold: "did:web:hold.example.com"})
		if err != nil {
			t.Fatal(err)
		}
		if app.DID() != "did:web:registry.example.com" {
			t.Errorf("it is %s", app.DID())
		}
		w := httptest.NewRecorder()
		app.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "https://registry.example.com/.well-known/did.json", nil))
		body, err := io.ReadAll(w.Result().Body)
		if err != nil {
			t.Fatal(err)
		}
		who, err := identity.ParseDocument(body, "did:web:registry.example.com")
		if err != nil {
			t.Fatalf("%d %s: %v", w.Code, body, err)
		}
		pub, err := who.PublicKey()
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := pub.(*atcrypto.PublicKeyP256); !ok {
			t.Errorf("the key is a %T", pub)
		}
		keys = append(keys, pub.DIDKey())
		if err := app.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if keys[0] != keys[1] {
		t.Error("another key after a restart")
	}
	for _, url := range []string{"", "https://registry.example.com:8443"} {
		app, err := appview.New(t.Context(), appview.Config{Dir: t.TempDir(), BaseURL: url, DefaultHold: "did:web:hold.example.com"})
		if err != nil {
			t.Fatal(err)
		}
		if app.DID() != "" {
			t.Errorf("base URL %q makes %s", url, app.DID())
		}
		if err := app.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
