package hold_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/atcr-dev/atcr"
	"github.com/atcr-dev/atcr/hold"
)

// ask asks as a page of another origin does.
func (h *testHold) ask(verb, path string) *http.Response {
	h.t.Helper()
	req, err := http.NewRequestWithContext(h.t.Context(), verb, h.url+path, nil)
	must(h.t, err)
	req.Header.Set("Origin", "https://tool.example")
	if verb == http.MethodOptions {
		req.Header.Set("Access-Control-Request-Method", "GET")
		req.Header.Set("Access-Control-Request-Headers", "atproto-accept-labelers")
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	must(h.t, err)
	h.t.Cleanup(func() { resp.Body.Close() })
	return resp
}

// Pages of other origins read what is public, errors included, and nothing else.
func TestAnyOrigin(t *testing.T) {
	for _, public := range []bool{true, false} {
		h := newHold(t, newNetwork(t), func(c *hold.Config) { c.Public = public })
		d := h.push(h.owner, data(1, 100))
		did := "did=" + h.DID()
		for _, tt := range []struct {
			path string
			code int
			open bool // to other origins
		}{
			{"com.atproto.repo.listRecords?repo=" + h.DID() + "&collection=" + atcr.NSIDCrew, 200, true},
			{"com.atproto.repo.describeRepo?repo=" + h.DID(), 200, true},
			{"com.atproto.repo.getRecord?repo=" + h.DID() + "&collection=" + atcr.NSIDCrew + "&rkey=none", 400, true},
			{"com.atproto.sync.getLatestCommit?" + did, 200, true},
			{"com.atproto.sync.getRepo?" + did, 200, true},
			{"com.atproto.sync.getBlocks?" + did, 400, true},
			{"com.atproto.sync.listRepos", 200, true},
			{"com.atproto.server.describeServer", 200, true},
			{"app.bsky.actor.getProfile?actor=" + h.DID(), 200, true},
			{"io.atcr.hold.listTiers", 200, true},
			{"_health", 200, true},
			{"com.atproto.sync.getBlob?" + did + "&cid=" + d.String(), map[bool]int{true: 307, false: 401}[public], public},
			{"io.atcr.hold.getQuota?userDid=" + h.owner.did, 401, false},
			{"io.atcr.hold.exportUserData", 401, false},
			{"io.atcr.hold.getUpload?uploadId=x", 400, false},
			{"io.atcr.hold.requestCrew", 405, false},
			{"com.atproto.repo.deleteRecord", 405, false},
			{"io.atcr.hold.nothing", 501, false},
		} {
			resp := h.ask(http.MethodGet, "/xrpc/"+tt.path)
			if got := resp.Header.Get("Access-Control-Allow-Origin"); resp.StatusCode != tt.code || (got == "*") != tt.open ||
				resp.Header.Get("Access-Control-Allow-Credentials") != "" {
				t.Errorf("public %v: GET %s: %d, origin %q", public, tt.path, resp.StatusCode, got)
			}
			resp = h.ask(http.MethodOptions, "/xrpc/"+tt.path)
			head := resp.Header
			if !tt.open {
				if head.Get("Access-Control-Allow-Origin") != "" || resp.StatusCode < 400 {
					t.Errorf("public %v: OPTIONS %s: %d %v", public, tt.path, resp.StatusCode, head)
				}
				continue
			}
			if resp.StatusCode != 204 || head.Get("Access-Control-Allow-Origin") != "*" || head.Get("Access-Control-Allow-Headers") != "*" ||
				strings.Contains(head.Get("Access-Control-Allow-Methods"), "POST") {
				t.Errorf("public %v: OPTIONS %s: %d %v", public, tt.path, resp.StatusCode, head)
			}
		}
		if got := h.ask(http.MethodGet, "/.well-known/did.json").Header.Get("Access-Control-Allow-Origin"); got != "*" {
			t.Errorf("did.json: origin %q", got)
		}
		if !public {
			continue
		}
		link := h.ask(http.MethodGet, "/xrpc/com.atproto.sync.getBlob?"+did+"&cid="+d.String()).Header.Get("Location")
		_, path, _ := strings.Cut(link, "/blobs/")
		if resp := h.ask(http.MethodGet, "/blobs/"+path); resp.StatusCode != 200 || resp.Header.Get("Access-Control-Allow-Origin") != "*" {
			t.Errorf("%s: %d %v", link, resp.StatusCode, resp.Header)
		}
		none := fmt.Sprintf("/xrpc/com.atproto.sync.getBlob?%s&cid=%s", did, digest.FromString("none"))
		if resp := h.ask(http.MethodGet, none); resp.StatusCode != 404 || resp.Header.Get("Access-Control-Allow-Origin") != "*" {
			t.Errorf("no such blob: %d %v", resp.StatusCode, resp.Header)
		}
	}
}
