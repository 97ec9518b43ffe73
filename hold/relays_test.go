package hold_test

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/atcr-dev/atcr"
	"github.com/atcr-dev/atcr/hold"
)

// TestFirehose: who subscribes at the hold hears of a push; Run asks the relays to do so.
func TestFirehose(t *testing.T) {
	asked := make(chan string, 1)
	relay := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var in struct{ Hostname string }
		if json.NewDecoder(r.Body).Decode(&in) == nil && r.Method == http.MethodPost && r.URL.Path == "/xrpc/com.atproto.sync.requestCrawl" {
			asked <- in.Hostname
		}
	}))
	defer relay.Close()
	n := newNetwork(t)
	h := newHold(t, n, func(c *hold.Config) { c.Relays = []string{relay.URL, "https://relay.invalid"} })
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c, _, err := websocket.Dial(ctx, "ws"+strings.TrimPrefix(h.url, "http")+"/xrpc/com.atproto.sync.subscribeRepos?cursor=0", nil)
	must(t, err)
	defer c.CloseNow() //nolint:errcheck // it may be closed
	c.SetReadLimit(8 << 20)
	active := 0
	for {
		_, msg, err := c.Read(ctx)
		must(t, err)
		if bytes.Contains(msg[:min(len(msg), 20)], []byte("#account")) && bytes.HasSuffix(msg, []byte("factive\xf5")) {
			active++
		}
		if bytes.Contains(msg, []byte(atcr.NSIDCaptain)) {
			break
		}
	}
	if active != 1 {
		t.Errorf("%d events say that the new account is active", active)
	}
	must(t, c.Close(websocket.StatusNormalClosure, ""))
	h.stop()
	h.start() // nobody follows
	running, stop := context.WithCancel(ctx)
	done := make(chan error)
	go func() { done <- h.Run(running) }()
	select {
	case host := <-asked:
		if "http://"+host != h.cfg.PublicURL {
			t.Errorf("the relay was told %q, the hold is at %s", host, h.cfg.PublicURL)
		}
	case <-ctx.Done():
		t.Error("no relay was asked")
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// A password in a relay's address is refused without being shown, and so never comes into a log.
func TestRelayAddresses(t *testing.T) {
	base := newHold(t, newNetwork(t)).cfg
	for _, relay := range []string{"https://me:hunter2@relay.example.com", "https://hunter2@relay.example.com",
		"https://me:hunter2%@relay.example.com", "ftp://hunter2.example.com", "hunter2"} {
		cfg := base
		cfg.Dir, cfg.Relays = t.TempDir(), []string{"https://relay.example.com", relay}
		if _, err := hold.New(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "Relays[1]") ||
			strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", relay, err)
		}
	}
}
