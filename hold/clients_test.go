package hold_test

import (
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"github.com/atcr-dev/atcr/hold"
	"github.com/atcr-dev/atcr/identity/serviceauth"
)

// Anybody can put an issuer into a token that can't be looked up: that is no error of the hold's, and floods no log (A20).
func TestForgedTokensFloodNoLog(t *testing.T) {
	n := newNetwork(t)
	alice := n.user("alice")
	h := newHold(t, n, func(c *hold.Config) { c.Directory = talkative{n.dir} })
	for i := range 300 {
		token, err := serviceauth.Mint(alice.key, serviceauth.MintOptions{
			Issuer: "did:web:inner.example.com", Audience: h.DID(), Method: "io.atcr.hold.getQuota", Clock: n.clock,
		})
		must(t, err)
		if code, out := h.callWith("Bearer "+token, "GET", "io.atcr.hold.getQuota", "userDid="+alice.did, nil); code != 503 {
			t.Fatalf("%d: %d %v", i, code, out)
		}
	}
	log := h.log.String()
	if strings.Contains(log, "level=ERROR") {
		t.Errorf("it is an error of the hold's: %.300s", log)
	}
	if lines := strings.Count(log, "request refused"); lines == 0 || lines > 100 || !strings.Contains(log, "client=127.0.0.1") {
		t.Errorf("%d lines of 300 requests: %.300s", lines, log)
	}
}

// One client has 16 subscriptions and takes nobody else's places (A9). Behind a trusted proxy it is the proxy's client that counts.
func TestSubscribersOfClient(t *testing.T) {
	h := newHold(t, newNetwork(t), func(c *hold.Config) { c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")} })
	dial := func(client string) int {
		t.Helper()
		c, resp, err := websocket.Dial(t.Context(), "ws"+strings.TrimPrefix(h.url, "http")+"/xrpc/com.atproto.sync.subscribeRepos",
			&websocket.DialOptions{HTTPHeader: http.Header{"X-Forwarded-For": {client}}})
		if err == nil {
			t.Cleanup(func() { c.CloseNow() })
			return http.StatusSwitchingProtocols
		}
		return resp.StatusCode
	}
	for i := range 16 {
		if code := dial("203.0.113.1"); code != http.StatusSwitchingProtocols {
			t.Fatalf("subscription %d: %d", i+1, code)
		}
	}
	if code := dial("203.0.113.1"); code != http.StatusTooManyRequests {
		t.Errorf("the 17th: %d", code)
	}
	if code := dial("198.51.100.1, 203.0.113.1"); code != http.StatusTooManyRequests {
		t.Errorf("the 17th, with an address of its own in front: %d", code)
	}
	if code := dial("203.0.113.2"); code != http.StatusSwitchingProtocols {
		t.Errorf("another client: %d", code)
	}
}
