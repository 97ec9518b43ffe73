package hold_test

import (
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
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

// TestServersNeverAsked: a server of the configuration that the address guard never lets through is an error, where it would look like
// one that is down for ever; one that the operator opens is none.
func TestServersNeverAsked(t *testing.T) {
	base := hold.Config{
		PublicURL: "https://hold.example.com", OwnerDID: "did:plc:ewvi7nxzyoun6zhxrhs64oiz", Log: slog.New(slog.DiscardHandler),
	}
	for field, set := range map[string]func(*hold.Config, string){
		"PLCURL":            func(c *hold.Config, url string) { c.PLCURL = url },
		"HandleResolverURL": func(c *hold.Config, url string) { c.HandleResolverURL = url },
		"Relays[0]":         func(c *hold.Config, url string) { c.Relays = []string{url} },
	} {
		for _, url := range []string{"http://10.1.2.3", "https://localhost:1", "http://[fd00::1]:8080", "http://169.254.169.254", "http://0.0.0.0"} {
			cfg := base
			cfg.Dir = t.TempDir()
			set(&cfg, url)
			_, err := hold.New(t.Context(), cfg)
			if !errors.Is(err, httpx.ErrForbiddenAddress) || !strings.Contains(err.Error(), field+": ") {
				t.Errorf("%s %s: %v", field, url, err)
			}
			if left, _ := os.ReadDir(cfg.Dir); len(left) > 0 {
				t.Errorf("%s %s: left %v", field, url, left)
			}
		}
		cfg := base
		cfg.Dir, cfg.AllowNetworks = t.TempDir(), []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")}
		set(&cfg, "http://10.1.2.3")
		h, err := hold.New(t.Context(), cfg)
		if err != nil {
			t.Errorf("%s: opened by the operator: %v", field, err)
			continue
		}
		must(t, h.Close())
	}
}
