package appview_test

import (
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"

	"github.com/atcr-dev/atcr/hold"
	"github.com/atcr-dev/atcr/hold/holdclient"
	"github.com/atcr-dev/atcr/identity"
	"github.com/atcr-dev/atcr/registry/appview"
)

// The AppView's document is that of its base URL, with a P-256 key that stays.
func TestIdentity(t *testing.T) {
	dir := t.TempDir()
	var keys []string
	for range 2 {
		app, err := appview.New(t.Context(), appview.Config{Dir: dir, BaseURL: "https://registry.example.com",
			DefaultHold: "did:web:hold.example.com"})
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

// late is a server on loopback whose handler comes after its address is known.
func late(t *testing.T) (url string, set func(http.Handler)) {
	var h atomic.Pointer[http.Handler]
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { (*h.Load()).ServeHTTP(w, r) }))
	t.Cleanup(srv.Close)
	return srv.URL, func(handler http.Handler) { h.Store(&handler) }
}

// An AppView sets tiers at the hold that names it, and at no other.
func TestUpdateCrewTier(t *testing.T) {
	const alice = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"
	appURL, setApp := late(t)
	quiet := slog.New(slog.DiscardHandler)
	app, err := appview.New(t.Context(), appview.Config{Dir: t.TempDir(), BaseURL: appURL, TestMode: true,
		DefaultHold: "did:web:hold.example.com", Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	defer app.Close()
	setApp(app.Handler())
	var holds []syntax.DID
	for _, trusted := range []string{app.DID(), "did:web:other.example.com"} {
		holdURL, setHold := late(t)
		h, err := hold.New(t.Context(), hold.Config{
			Dir: t.TempDir(), PublicURL: holdURL, OwnerDID: "did:plc:ssssssssssssssssssssssss", TestMode: true, Log: quiet,
			Crew: []hold.CrewMember{{Member: alice}}, AppViewDID: trusted, Tiers: []hold.Tier{{Name: "deckhand"}, {Name: "bosun"}},
		})
		if err != nil {
			t.Fatal(err)
		}
		defer h.Close()
		setHold(h.Handler())
		holds = append(holds, syntax.DID(h.DID()))
	}
	if name, err := app.UpdateCrewTier(t.Context(), holds[0], alice, 1); err != nil || name != "bosun" {
		t.Errorf("%q %v", name, err)
	}
	for _, c := range []struct {
		hold, user syntax.DID
		rank       int
		kind       error
	}{
		{holds[0], alice, 2, holdclient.ErrInvalid},
		{holds[0], "did:plc:bbbbbbbbbbbbbbbbbbbbbbbb", 1, holdclient.ErrNotFound},
		{holds[1], alice, 1, holdclient.ErrUnauthorized},
	} {
		if _, err := app.UpdateCrewTier(t.Context(), c.hold, c.user, c.rank); !errors.Is(err, c.kind) {
			t.Errorf("%+v: %v", c, err)
		}
	}
	nobody, err := appview.New(t.Context(), appview.Config{Dir: t.TempDir(), DefaultHold: "did:web:hold.example.com", Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	defer nobody.Close()
	if _, err := nobody.UpdateCrewTier(t.Context(), holds[0], alice, 1); !errors.Is(err, appview.ErrNoIdentity) {
		t.Errorf("without an identity: %v", err)
	}
}
