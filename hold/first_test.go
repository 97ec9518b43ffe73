package hold_test

import (
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"

	"github.com/atcr-dev/atcr/hold"
	"github.com/atcr-dev/atcr/hold/internal/disk"
	"github.com/atcr-dev/atcr/identity"
	"github.com/atcr-dev/atcr/internal/realtest"
	"github.com/atcr-dev/atcr/repo"
	"github.com/atcr-dev/atcr/repo/memstore"
)

// recorder is a did:plc directory that takes nothing, and remembers what it was asked.
func recorder(t *testing.T) (url string, asked func() []string) {
	var mu sync.Mutex
	var all []string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		all = append(all, r.Method+" "+r.URL.Path)
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	t.Cleanup(s.Close)
	return s.URL, func() []string { mu.Lock(); defer mu.Unlock(); return all }
}

// repoOf is a repository of a DID in a store.
func repoOf(t *testing.T, store repo.Store, did string) *repo.Repo {
	t.Helper()
	key, err := atcrypto.GeneratePrivateKeyK256()
	must(t, err)
	r, err := repo.Open(t.Context(), store, repo.Options{DID: did, Key: key})
	must(t, err)
	return r
}

// TestNothingIsMadeInVain: whatever keeps a hold from starting is found before its did:plc is made: no directory hears of a DID, and
// the folder has none.
func TestNothingIsMadeInVain(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer taken.Close()
	garbage := []byte(strings.Repeat("this is no database. ", 1000))
	for name, c := range map[string]struct {
		spoil func(t *testing.T, cfg *hold.Config)
		want  string
	}{
		"port taken":   {func(_ *testing.T, c *hold.Config) { c.Addr = taken.Addr().String() }, "address already in use"},
		"no such port": {func(_ *testing.T, c *hold.Config) { c.Addr = "127.0.0.1:http0" }, "listen"},
		"hold.db": {func(t *testing.T, c *hold.Config) {
			must(t, os.WriteFile(filepath.Join(c.Dir, "hold.db"), garbage, 0o600))
		}, "database"},
		"repo.db": {func(t *testing.T, c *hold.Config) {
			must(t, os.WriteFile(filepath.Join(c.Dir, "repo.db"), garbage, 0o600))
		}, "repository"},
		"layers are a file": {func(t *testing.T, c *hold.Config) {
			must(t, os.WriteFile(filepath.Join(c.Dir, "blobs"), nil, 0o600))
		}, "blobs"},
		"layers elsewhere are a file": {func(t *testing.T, c *hold.Config) {
			c.StoragePath = filepath.Join(t.TempDir(), "layers")
			must(t, os.WriteFile(c.StoragePath, nil, 0o600))
		}, "layers"},
		"spool is a file": {func(t *testing.T, c *hold.Config) {
			must(t, os.WriteFile(filepath.Join(c.Dir, "spool"), nil, 0o600))
		}, "spool"},
		"link.key is short": {func(t *testing.T, c *hold.Config) {
			must(t, os.WriteFile(filepath.Join(c.Dir, "link.key"), []byte("short"), 0o600))
		}, "link.key"},
		"the database is another hold's": {func(t *testing.T, c *hold.Config) {
			store, done, err := (disk.Places{Dir: c.Dir}).OpenStore(t.Context(), 0)
			must(t, err)
			must(t, repoOf(t, store, "did:web:other.example.com").Close())
			must(t, done())
		}, "another hold"},
		"the given repository is another's": {func(t *testing.T, c *hold.Config) {
			c.Repo = repoOf(t, memstore.New(), "did:web:other.example.com")
			t.Cleanup(func() { c.Repo.Close() })
		}, "did:web:other.example.com"},
		"a rotation key that is none": {func(_ *testing.T, c *hold.Config) { c.Identity.RotationKey = "nonsense" }, "RotationKey"},
		"a restore was broken off": {func(t *testing.T, c *hold.Config) {
			must(t, (&disk.RestoreMark{From: "/backups"}).Write(c.Dir))
		}, "broken off"},
	} {
		t.Run(name, func(t *testing.T) {
			url, asked := recorder(t)
			cfg := hold.Config{
				Dir: t.TempDir(), PublicURL: "http://localhost:1", Addr: "127.0.0.1:0", OwnerDID: "did:web:owner.test", TestMode: true,
				PLCURL: url, Identity: identity.Config{Method: "plc"}, Log: slog.New(slog.DiscardHandler),
			}
			c.spoil(t, &cfg)
			h, err := hold.New(t.Context(), cfg)
			if err == nil {
				must(t, h.Close())
				t.Fatal("it started")
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("%q, want %q in it", err, c.want)
			}
			if got := asked(); len(got) > 0 {
				t.Errorf("the directory was asked: %v", got)
			}
			if left, _ := filepath.Glob(filepath.Join(cfg.Dir, "did.txt")); len(left) > 0 {
				t.Errorf("left %v", left)
			}
		})
	}
}

// TestServingIsSaidLast: who waits for the line finds the hold there; a hold that can't be bound never says it.
func TestServingIsSaidLast(t *testing.T) {
	log := &lockedBuffer{}
	cfg := hold.Config{
		Dir: t.TempDir(), PublicURL: "http://localhost:1", Addr: "127.0.0.1:0", OwnerDID: "did:web:owner.test", TestMode: true,
		Log: slog.New(slog.NewTextHandler(log, nil)),
	}
	h, err := hold.New(t.Context(), cfg)
	must(t, err)
	defer h.Close()
	if strings.Contains(log.String(), "msg=serving") {
		t.Errorf("before Run:\n%s", log)
	}
	go func() { _ = h.Run(t.Context()) }()
	addr := ""
	must(t, realtest.WaitFor(10*time.Second, func() error {
		_, rest, ok := strings.Cut(log.String(), "msg=serving addr=")
		if !ok {
			return fmt.Errorf("it does not say that it serves:\n%s", log)
		}
		addr, _, _ = strings.Cut(rest, " ")
		return nil
	}))
	resp, err := http.Get("http://" + addr + "/health")
	must(t, err)
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Error(resp.Status)
	}

	log2 := &lockedBuffer{}
	cfg.Dir, cfg.Addr, cfg.Log = t.TempDir(), addr, slog.New(slog.NewTextHandler(log2, nil))
	if h, err := hold.New(t.Context(), cfg); err == nil {
		h.Close()
		t.Error("two on one port")
	}
	if strings.Contains(log2.String(), "serving") || strings.Contains(log2.String(), "open") {
		t.Errorf("it never served:\n%s", log2)
	}
}
