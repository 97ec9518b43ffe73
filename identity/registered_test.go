package identity_test

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/atcr-dev/atcr/identity"
	"github.com/atcr-dev/atcr/internal/devnet"
	"github.com/atcr-dev/atcr/internal/httpx"
)

// directory is a did:plc directory in memory.
func directory(t *testing.T) *httptest.Server {
	t.Helper()
	plc, err := devnet.OpenDirectory(t.Context(), "", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = plc.Close() })
	s := httptest.NewServer(plc)
	t.Cleanup(s.Close)
	return s
}

func plcConfig(t *testing.T, url string) identity.Config {
	t.Helper()
	return identity.Config{Dir: t.TempDir(), PublicURL: "https://hold.example.com", Method: "plc", PLCURL: url, TestMode: true}
}

// A did:plc is registered once the directory has shown it; a start without the directory knows.
func TestRegistered(t *testing.T) {
	up := directory(t)
	cfg := plcConfig(t, "http://127.0.0.1:1")
	id, err := identity.LoadOrCreateDID(t.Context(), cfg)
	if err != nil || id.Registered {
		t.Fatalf("with the directory down: %+v, %v", id, err)
	}
	if again, err := identity.Load(cfg); err != nil || again.Registered {
		t.Errorf("loaded: %+v, %v", again, err)
	}
	cfg.PLCURL = up.URL
	if _, err := identity.EnsurePLCCurrent(t.Context(), id, cfg); err != nil {
		t.Fatal(err)
	}
	cfg.PLCURL = "http://127.0.0.1:1"
	for name, load := range map[string]func() (*identity.Identity, error){
		"loaded":  func() (*identity.Identity, error) { return identity.Load(cfg) },
		"started": func() (*identity.Identity, error) { return identity.LoadOrCreateDID(t.Context(), cfg) },
	} {
		if again, err := load(); err != nil || !again.Registered || again.DID != id.DID {
			t.Errorf("%s: %+v, %v", name, again, err)
		}
	}

	if id, err = identity.LoadOrCreateDID(t.Context(), plcConfig(t, up.URL)); err != nil || !id.Registered {
		t.Errorf("made while the directory is up: %+v, %v", id, err)
	}
	adopt := plcConfig(t, up.URL)
	adopt.DID, adopt.RotationKey = id.DID.String(), id.Rotation.Multibase()
	if id, err = identity.LoadOrCreateDID(t.Context(), adopt); err != nil || !id.Registered {
		t.Errorf("adopted: %+v, %v", id, err)
	}
	web := plcConfig(t, "http://127.0.0.1:1")
	web.Method = "web"
	if id, err = identity.LoadOrCreateDID(t.Context(), web); err != nil || !id.Registered {
		t.Errorf("a did:web: %+v, %v", id, err)
	}
}

// A directory that the address guard refuses is no outage: the start fails, names the field and the remedy, and leaves
// nothing when the address could be seen in the configuration.
func TestForbiddenDirectory(t *testing.T) {
	up := directory(t)
	guarded := httpx.NewClient(httpx.ClientOptions{})
	for name, c := range map[string]struct {
		url  string
		http *http.Client
	}{
		"loopback": {up.URL, nil}, "localhost": {"http://localhost:1", nil}, "private": {"https://10.0.0.1", nil},
		"link-local": {"http://169.254.169.254", nil}, "a client of the caller's": {up.URL, guarded},
	} {
		cfg := plcConfig(t, c.url)
		cfg.TestMode, cfg.HTTP = false, c.http
		_, err := identity.LoadOrCreateDID(t.Context(), cfg)
		var field *identity.ConfigError
		if !errors.Is(err, identity.ErrPLCForbidden) || errors.Is(err, identity.ErrPLCUnavailable) || !errors.As(err, &field) ||
			field.Field != "PLCURL" {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for _, part := range []string{c.url, "address of a public one", "test mode"} {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%s: %q lacks %q", name, err, part)
			}
		}
		if left, _ := os.ReadDir(cfg.Dir); len(left) != 0 {
			t.Errorf("%s: a refused start left %v", name, left)
		}
	}

	// A client of the caller's that allows the address is used.
	cfg := plcConfig(t, up.URL)
	cfg.TestMode, cfg.HTTP = false, up.Client()
	if id, err := identity.LoadOrCreateDID(t.Context(), cfg); err != nil || !id.Registered {
		t.Errorf("allowed by the caller: %+v, %v", id, err)
	}

	// A name that leads to a forbidden address is seen when it is asked for: keys are there, and the next start goes on with them.
	cfg = plcConfig(t, "http://directory.example.com")
	cfg.HTTP = &http.Client{Transport: roundTripper(func(*http.Request) (*http.Response, error) {
		return nil, httpx.ErrForbiddenAddress
	})}
	if _, err := identity.LoadOrCreateDID(t.Context(), cfg); !errors.Is(err, identity.ErrPLCForbidden) {
		t.Errorf("a name: %v", err)
	}
	did, err := os.ReadFile(filepath.Join(cfg.Dir, "did.txt"))
	if err != nil {
		t.Fatal(err)
	}
	id, err := identity.LoadOrCreateDID(t.Context(), cfg)
	if err != nil || id.Registered {
		t.Fatalf("%+v, %v", id, err)
	}
	if _, err := identity.EnsurePLCCurrent(t.Context(), id, cfg); !errors.Is(err, identity.ErrPLCForbidden) {
		t.Errorf("EnsurePLCCurrent: %v", err)
	}
	cfg.PLCURL, cfg.HTTP = up.URL, nil
	if _, err = identity.EnsurePLCCurrent(t.Context(), id, cfg); err != nil || id.DID.String() != strings.TrimSpace(string(did)) {
		t.Errorf("after the remedy: %s, %v", id.DID, err)
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// An error about the configuration names the field, and nothing is made.
func TestConfigErrors(t *testing.T) {
	for field, alter := range map[string]func(*identity.Config){
		"Dir":            func(c *identity.Config) { c.Dir = "" },
		"PublicURL":      func(c *identity.Config) { c.Method, c.PublicURL = "web", "https://hold.example.com/path" },
		"Method":         func(c *identity.Config) { c.Method = "key" },
		"DID":            func(c *identity.Config) { c.DID = "did:nonsense" },
		"KeyType":        func(c *identity.Config) { c.KeyType = "ed25519" },
		"PLCURL":         func(c *identity.Config) { c.PLCURL = "plc.directory" },
		"RecoveryDIDKey": func(c *identity.Config) { c.RecoveryDIDKey = "did:key:nonsense" },
		"RotationKey":    func(c *identity.Config) { c.RotationKey = "nonsense" },
	} {
		cfg := plcConfig(t, "https://plc.example.com")
		cfg.HTTP = &http.Client{Transport: roundTripper(func(*http.Request) (*http.Response, error) {
			t.Errorf("%s: the directory was asked", field)
			return nil, context.Canceled
		})}
		dir := cfg.Dir
		alter(&cfg)
		_, err := identity.LoadOrCreateDID(t.Context(), cfg)
		var got *identity.ConfigError
		if !errors.As(err, &got) || got.Field != field || !strings.Contains(err.Error(), "identity.Config."+field+": ") {
			t.Errorf("%s: %v", field, err)
		}
		if _, err := os.Stat(filepath.Join(dir, "did.txt")); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: a DID was made", field)
		}
	}
	cfg := plcConfig(t, "")
	if err := os.WriteFile(filepath.Join(cfg.Dir, "did.txt"), []byte("did:web:hold.example.com\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg.DID = "did:web:other.example.com"
	var got *identity.ConfigError
	if _, err := identity.LoadOrCreateDID(t.Context(), cfg); !errors.As(err, &got) || got.Field != "DID" ||
		!errors.Is(err, identity.ErrContradiction) {
		t.Errorf("a contradiction: %v", err)
	}
}

// Check says what a start would do, and does nothing.
func TestCheck(t *testing.T) {
	cfg := identity.Config{Dir: t.TempDir(), PublicURL: "http://hold.test:8080", DID: "did:web:hold.test%3A8080", TestMode: true}
	did, warnings, err := identity.Check(cfg)
	if err != nil || did != "did:web:hold.test%3A8080" || len(warnings) != 1 {
		t.Errorf("%s, %q, %v", did, warnings, err)
	}
	if did, warnings, err = identity.Check(plcConfig(t, "")); err != nil || did != "" || len(warnings) != 0 {
		t.Errorf("%s, %q, %v", did, warnings, err)
	}
	if left, _ := os.ReadDir(cfg.Dir); len(left) != 0 {
		t.Errorf("left %v", left)
	}
}
