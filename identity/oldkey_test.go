package identity_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/atcr-dev/atcr/identity"
	"github.com/atcr-dev/atcr/identity/plc"
	"github.com/atcr-dev/atcr/internal/durable"
)

// TestOldKeyPutBack: a signing key that a newer one has followed stops a start, without a word to the directory, until it is accepted;
// a running process does not take it over; one that was never seen is taken.
func TestOldKeyPutBack(t *testing.T) {
	up := directory(t)
	var asked atomic.Int32
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		up.Config.Handler.ServeHTTP(w, r)
	}))
	t.Cleanup(front.Close)
	for _, method := range []string{"web", "plc"} {
		t.Run(method, func(t *testing.T) {
			cfg := plcConfig(t, front.URL)
			cfg.Method, cfg.Services = method, identity.HoldServices()
			path := filepath.Join(cfg.Dir, "keys", "signing.key")
			id := start(t, cfg)
			oldest, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			m := manager(t, id, cfg)
			if _, err := m.Rotate(t.Context(), plc.RotateOptions{}); err != nil {
				t.Fatal(err)
			}
			newest, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			start(t, cfg)

			put(t, path, oldest)
			asked.Store(0)
			if _, err := identity.LoadOrCreateDID(t.Context(), cfg); !errors.Is(err, identity.ErrKeyReplaced) {
				t.Fatalf("a start: %v", err)
			}
			if _, err := identity.Load(cfg); !errors.Is(err, identity.ErrKeyReplaced) {
				t.Errorf("loaded: %v", err)
			}
			if n := asked.Load(); n > 0 {
				t.Errorf("the directory was asked %d times", n)
			}
			running := m.Identity()
			if err := m.CompleteRotations(t.Context()); err == nil || m.Identity() != running {
				t.Errorf("beside a running process: %v", err)
			}
			put(t, path, newest)
			start(t, cfg)
			if err := m.CompleteRotations(t.Context()); err != nil {
				t.Errorf("the right one is back: %v", err)
			}

			put(t, path, oldest)
			accept := cfg
			accept.AcceptKey = true
			if id = start(t, accept); id.Key.Multibase() != strings.TrimSpace(string(oldest)) {
				t.Error("another key")
			}
			start(t, cfg)
			put(t, path, newest)
			if _, err := identity.LoadOrCreateDID(t.Context(), cfg); !errors.Is(err, identity.ErrKeyReplaced) {
				t.Errorf("the one that was newest before: %v", err)
			}
			if err := os.Remove(filepath.Join(cfg.Dir, "keys", "history")); err != nil {
				t.Fatal(err)
			}
			if err := os.Remove(path + ".old"); err != nil {
				t.Fatal(err)
			}
			if id = start(t, cfg); id.Key.Multibase() != strings.TrimSpace(string(newest)) {
				t.Error("unknown: another key")
			}
		})
	}
}

func put(t *testing.T, path string, secret []byte) {
	t.Helper()
	if err := durable.ReplaceSecret(path, secret); err != nil {
		t.Fatal(err)
	}
}

func start(t *testing.T, cfg identity.Config) *identity.Identity {
	t.Helper()
	id, err := identity.LoadOrCreateDID(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := identity.EnsurePLCCurrent(t.Context(), id, cfg); err != nil {
		t.Fatal(err)
	}
	return id
}

func manager(t *testing.T, id *identity.Identity, cfg identity.Config) *plc.Manager {
	t.Helper()
	m, err := plc.NewManager(id, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return m
}
