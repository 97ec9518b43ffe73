package hold_test

import (
	"errors"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/atcr-dev/atcr/hold"
	"github.com/atcr-dev/atcr/identity"
	"github.com/atcr-dev/atcr/internal/httpx"
)

// TestForbiddenDirectory: a new did:plc whose directory the address guard refuses does not start, now or later.
func TestForbiddenDirectory(t *testing.T) {
	cfg := hold.Config{
		Dir: t.TempDir(), PublicURL: "https://hold.example.com", OwnerDID: "did:plc:ewvi7nxzyoun6zhxrhs64oiz",
		PLCURL: "http://127.0.0.1:1", Identity: identity.Config{Method: "plc"}, Log: slog.New(slog.DiscardHandler),
	}
	if _, err := hold.New(t.Context(), cfg); !errors.Is(err, identity.ErrPLCForbidden) {
		t.Fatalf("an address in the configuration: %v", err)
	}
	if _, err := os.Stat(filepath.Join(cfg.Dir, "did.txt")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a DID was made: %v", err)
	}
	cfg.PLCURL = "https://directory.example.com"
	cfg.Identity.HTTP = &http.Client{Transport: refuses{}}
	for range 2 { // the second finds what the first has made
		if _, err := hold.New(t.Context(), cfg); !errors.Is(err, identity.ErrPLCForbidden) {
			t.Fatalf("a name that leads to one: %v", err)
		}
	}
}

type refuses struct{}

func (refuses) RoundTrip(*http.Request) (*http.Response, error) {
	return nil, httpx.ErrForbiddenAddress
}
