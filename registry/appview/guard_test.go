package appview_test

import (
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	indigo "github.com/bluesky-social/indigo/atproto/identity"

	"github.com/atcr-dev/atcr/identity"
	"github.com/atcr-dev/atcr/registry/appview"
)

// A second AppView on one folder is refused with the first one's pid; the first goes on, and a third may follow it.
func TestFolderInUse(t *testing.T) {
	cfg := appview.Config{Dir: t.TempDir(), DefaultHold: "did:web:hold.example.com"}
	first, err := appview.New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if second, err := appview.New(t.Context(), cfg); !errors.Is(err, appview.ErrLocked) ||
		!strings.Contains(err.Error(), strconv.Itoa(os.Getpid())) {
		t.Errorf("%v, %v", second, err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	third, err := appview.New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := third.Close(); err != nil {
		t.Error(err)
	}
}

// The PDS that an untrusted document names is asked for nothing when it lies on a private address, in whatever spelling.
func TestPDSOnPrivateAddress(t *testing.T) {
	var hits atomic.Int64
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		hits.Add(1)
		w.WriteHeader(http.StatusNotFound)
	}))
	defer srv.Close()
	_, port, err := net.SplitHostPort(srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	const did = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"
	pull := func(pds string, allow ...netip.Prefix) int {
		dir := identity.NewMockDirectory()
		dir.Insert(identity.Account{DID: did, Handle: "alice.example.com", Services: map[string]indigo.ServiceEndpoint{
			"atproto_pds": {Type: "AtprotoPersonalDataServer", URL: pds},
		}})
		app, err := appview.New(t.Context(), appview.Config{
			Dir: t.TempDir(), BaseURL: "https://registry.example.com", DefaultHold: "did:web:hold.example.com",
			Directory: dir, AllowNetworks: allow, Log: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			t.Fatal(err)
		}
		defer app.Close() //nolint:errcheck // the test is over
		ask := func(path, token string) *httptest.ResponseRecorder {
			req := httptest.NewRequest(http.MethodGet, "https://registry.example.com"+path, nil)
			if token != "" {
				req.Header.Set("Authorization", "Bearer "+token)
			}
			w := httptest.NewRecorder()
			app.Handler().ServeHTTP(w, req)
			return w
		}
		var out struct{ Token string }
		w := ask("/auth/token?service=registry.example.com&scope=repository:"+did+"/app:pull", "")
		if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil || out.Token == "" {
			t.Fatalf("no anonymous token: %d %s", w.Code, w.Body)
		}
		return ask("/v2/"+did+"/app/manifests/v1", out.Token).Code
	}
	for _, host := range []string{"127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "2130706433", "0.0.0.0", "[64:ff9b::7f00:1]"} {
		if code := pull("http://" + host + ":" + port); hits.Load() != 0 || code != http.StatusForbidden && host != "2130706433" { // which may be no name at all
			t.Errorf("%s: answered %d, %d requests arrived", host, code, hits.Load())
		}
	}
	if pull("http://127.0.0.1:"+port, netip.MustParsePrefix("127.0.0.0/8")); hits.Load() == 0 {
		t.Error("nothing arrived at an address that the operator opened: this test shows nothing")
	}
}

// Close ends Run, with which it shares the database, and a Run that comes after it is refused.
func TestCloseEndsRun(t *testing.T) {
	t.Parallel()
	app, err := appview.New(t.Context(), appview.Config{Dir: t.TempDir(), DefaultHold: "did:web:hold.example.com", Addr: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- app.Run(t.Context()) }()
	if err := app.Close(); err != nil {
		t.Error(err)
	}
	// Whichever of the two came first.
	if err := <-ended; err != nil && !errors.Is(err, http.ErrServerClosed) {
		t.Error(err)
	}
	if err := app.Run(t.Context()); !errors.Is(err, http.ErrServerClosed) {
		t.Errorf("Run after Close: %v", err)
	}
	if err := app.Close(); err != nil {
		t.Error(err)
	}
}
