package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/atcr-dev/atcr/internal/devnet"
)

// The same DID at the second start, known to the directory.
func TestRun(t *testing.T) {
	plc, err := devnet.OpenDirectory(t.Context(), "", nil)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(plc)
	defer server.Close()
	dir := t.TempDir()
	var first, second strings.Builder
	for _, out := range []*strings.Builder{&first, &second} {
		if err := run(t.Context(), dir, "https://service.example.com", server.URL, out); err != nil {
			t.Fatal(err)
		}
	}
	did := strings.TrimSpace(first.String())
	if !strings.HasPrefix(did, "did:plc:") || first.String() != second.String() {
		t.Errorf("%s, then %s", &first, &second)
	}
	resp, err := http.Get(server.URL + "/" + did)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("the directory answers %s", resp.Status)
	}
}
