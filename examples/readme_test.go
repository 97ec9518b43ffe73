// Package examples has no code of its own. Its test carries the code of the README.
package examples

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/atcr-dev/atcr/hold"
	"github.com/atcr-dev/atcr/identity"
	"github.com/atcr-dev/atcr/registry"
	"github.com/atcr-dev/atcr/registry/local"
	"github.com/atcr-dev/atcr/repo"
	"github.com/atcr-dev/atcr/repo/sqlstore"
)

// The bodies of these three functions are in the README, word for word.

func embedRegistry(ctx context.Context, listener net.Listener, mux *http.ServeMux) error {
	backend, err := local.Open(ctx, "data")
	if err != nil {
		return err
	}
	defer backend.Close()
	return http.Serve(listener, registry.NewHandler(backend, nil).WithFallback(mux))
}

func embedHold(ctx context.Context, listener net.Listener) error {
	h, err := hold.New(ctx, hold.Config{
		Dir:       "hold-data",
		PublicURL: "https://hold.example.com",
		OwnerDID:  "did:plc:ewvi7nxzyoun6zhxrhs64oiz", // the captain
		Public:    true,                               // anyone reads; crew pushes
	})
	if err != nil {
		return err
	}
	defer h.Close()
	go h.Run(ctx) // expiry, backups, upkeep of the identity, until ctx ends
	return http.Serve(listener, h.Handler())
}

func identityAndRepository(ctx context.Context) error {
	id, err := identity.LoadOrCreateDID(ctx, identity.Config{Dir: "data", PublicURL: "https://service.example.com"})
	if err != nil {
		return err
	}
	store, err := sqlstore.Open(ctx, "data/repo.db")
	if err != nil {
		return err
	}
	defer store.Close()
	r, err := repo.Open(ctx, store, repo.Options{DID: id.DID.String(), Key: id.Key})
	if err != nil {
		return err
	}
	defer r.Close()
	record, err := repo.RecordFromJSON([]byte(`{"$type":"com.example.note","text":"hello"}`))
	if err != nil {
		return err
	}
	_, err = r.Apply(ctx, []repo.Write{{Action: repo.Create, Collection: "com.example.note", RKey: "first", Record: record}})
	return err
}

func TestReadmeCode(t *testing.T) {
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile("readme_test.go")
	if err != nil {
		t.Fatal(err)
	}
	code := strings.ReplaceAll("\n"+string(source), "\n\t", "\n")
	blocks := strings.Split(string(readme), "```go\n")[1:]
	for i, block := range blocks {
		block, _, _ = strings.Cut(block, "```")
		if !strings.Contains(code, block) {
			t.Errorf("block %d of the README is not in this file:\n%s", i+1, block)
		}
	}
	if len(blocks) != 3 {
		t.Errorf("%d blocks of Go in the README, want the three embeds", len(blocks))
	}
}

func TestReadmeRegistry(t *testing.T) {
	t.Chdir(t.TempDir())
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "mine") })
	url := serve(t, func(ln net.Listener) error { return embedRegistry(t.Context(), ln, mux) })
	if got := get(t, url+"/v2/"); got != "{}" {
		t.Errorf("/v2/: %q", got)
	}
	if got := get(t, url+"/"); got != "mine" {
		t.Errorf("/: %q", got)
	}
}

func TestReadmeHold(t *testing.T) {
	t.Chdir(t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	url := serve(t, func(ln net.Listener) error { return embedHold(ctx, ln) })
	if got := get(t, url+"/.well-known/did.json"); !strings.Contains(got, "did:web:hold.example.com") {
		t.Errorf("its DID document: %q", got)
	}
}

func TestReadmeIdentity(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	if err := identityAndRepository(t.Context()); err != nil {
		t.Fatal(err)
	}
	if did, err := os.ReadFile("data/did.txt"); err != nil || strings.TrimSpace(string(did)) != "did:web:service.example.com" {
		t.Errorf("did.txt: %q, %v", did, err)
	}
	if err := identityAndRepository(t.Context()); !errors.Is(err, repo.ErrExists) { // the same service again
		t.Errorf("the second start: %v", err)
	}
}

// serve runs f with a listener until the test ends, and returns its address.
func serve(t *testing.T, f func(net.Listener) error) string {
	t.Helper()
	s := httptest.NewUnstartedServer(nil) // its listener alone
	ended := make(chan struct{})
	go func() { defer close(ended); _ = f(s.Listener) }()
	t.Cleanup(func() { s.Listener.Close(); <-ended })
	return "http://" + s.Listener.Addr().String()
}

func get(t *testing.T, url string) string {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}
