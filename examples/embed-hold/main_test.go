package main

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
)

func TestRun(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() {
		done <- run(ctx, []string{
			"--addr", "127.0.0.1:0", "--data", t.TempDir(), "--owner", "did:web:captain.test", "--public", "--test-mode",
		}, w)
	}()
	line, err := bufio.NewReader(r).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(line)
	url := fields[len(fields)-1]
	var doc struct{ ID string }
	get(t, url+"/.well-known/did.json", &doc)
	if doc.ID != "did:web:localhost%3A8080" || doc.ID != fields[1] {
		t.Errorf("did.json has %q, the program said %q", doc.ID, fields[1])
	}
	var health struct{ Status string }
	if get(t, url+"/xrpc/_health", &health); health.Status != "ok" {
		t.Errorf("health: %+v", health)
	}
	resp, err := http.Get(url + "/hello")
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("/hello: %s", resp.Status)
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestMissingOwner(t *testing.T) {
	err := run(t.Context(), []string{"--data", t.TempDir(), "--test-mode"}, io.Discard)
	if err == nil || !strings.Contains(err.Error(), "OwnerDID") {
		t.Errorf("got %v", err)
	}
}

func get(t *testing.T, url string, v any) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(v); err != nil {
		t.Fatalf("%s: %v", url, err)
	}
}
