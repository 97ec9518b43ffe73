package hold_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/atcr-dev/atcr"
	"github.com/atcr-dev/atcr/hold"
	"github.com/atcr-dev/atcr/repo"
)

func (h *testHold) get(path string, header ...string) (*http.Response, []byte) {
	h.t.Helper()
	req, err := http.NewRequestWithContext(h.t.Context(), http.MethodGet, h.url+path, nil)
	must(h.t, err)
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(req)
	must(h.t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	must(h.t, err)
	return resp, b
}

func (h *testHold) blobPath(cid string) string {
	return "/xrpc/com.atproto.sync.getBlob?" + url.Values{"did": {h.DID()}, "cid": {cid}}.Encode()
}

func hardened(t *testing.T, what string, header http.Header) {
	t.Helper()
	for k, v := range map[string]string{
		"X-Content-Type-Options": "nosniff", "Content-Disposition": "attachment", "Content-Security-Policy": "default-src 'none'; sandbox",
	} {
		if header.Get(k) != v {
			t.Errorf("%s: %s is %q, want %q", what, k, header.Get(k), v)
		}
	}
}

func TestGetBlob(t *testing.T) {
	n := newNetwork(t)
	for _, direct := range []bool{false, true} {
		h := newHold(t, n, func(c *hold.Config) { c.Public = true; c.NoRedirect = direct })
		blob := data(6, 5000)
		d := h.push(h.owner, blob)
		// Tokens are not looked at on a public hold, whatever they are.
		resp, body := h.get(h.blobPath(d.String()), "Authorization", "Bearer nonsense")
		hardened(t, "getBlob", resp.Header)
		path := h.blobPath(d.String())
		if !direct {
			if resp.StatusCode != http.StatusTemporaryRedirect || resp.Header.Get("Cache-Control") != "private, no-store" {
				t.Fatalf("getBlob: %s %v", resp.Status, resp.Header)
			}
			path = strings.TrimPrefix(resp.Header.Get("Location"), h.cfg.PublicURL)
			resp, body = h.get(path, "Authorization", "DPoP nonsense")
		}
		if resp.StatusCode != http.StatusOK || !bytes.Equal(body, blob) || resp.Header.Get("Content-Type") != "application/octet-stream" {
			t.Errorf("bytes: %s %v", resp.Status, resp.Header)
		}
		hardened(t, "bytes", resp.Header)
		resp, body = h.get(path, "Range", "bytes=-10")
		if resp.StatusCode != http.StatusPartialContent || !bytes.Equal(body, blob[4990:]) {
			t.Errorf("suffix: %s", resp.Status)
		}
		resp, body = h.get(path, "Range", "bytes=9000-")
		if resp.StatusCode != http.StatusRequestedRangeNotSatisfiable || !bytes.Contains(body, []byte("InvalidRange")) {
			t.Errorf("beyond the end: %s %s", resp.Status, body)
		}
	}
}

func TestBadBlobRequests(t *testing.T) {
	n := newNetwork(t)
	h := newHold(t, n, func(c *hold.Config) { c.Public = true })
	d := h.push(h.owner, data(6, 10))
	cid := repo.BlobCID(data(6, 10)).String() // layers are reachable by digest alone
	resp, _ := h.get(h.blobPath(d.String()))
	link := strings.TrimPrefix(resp.Header.Get("Location"), h.cfg.PublicURL)
	other := digest.FromString("other")
	for _, tt := range []struct {
		name, path string
		code       int
		want       string
	}{
		{"missing", h.blobPath(other.String()), 404, "BlobNotFound"},
		{"upper case", h.blobPath("sha256:" + strings.ToUpper(d.Encoded())), 400, "InvalidDigest"},
		{"path characters", h.blobPath("sha256:../../../etc/passwd"), 400, "InvalidDigest"},
		{"md5", h.blobPath("md5:d41d8cd98f00b204e9800998ecf8427e"), 400, "InvalidDigest"},
		{"a layer by CID", h.blobPath(cid), 404, "BlobNotFound"},
		{"no CID", h.blobPath("x"), 400, "InvalidRequest"},
		{"no did", "/xrpc/com.atproto.sync.getBlob?cid=" + d.String(), 400, "InvalidRequest"},
		{"did that is none", "/xrpc/com.atproto.sync.getBlob?did=alice&cid=" + d.String(), 400, "InvalidRequest"},
		{"link without signature", "/blobs/" + d.String(), 403, "Forbidden"},
		{"link for another digest", strings.Replace(link, d.String(), other.String(), 1), 403, "Forbidden"},
		{"link with a later end", strings.Replace(link, "?t=", "?t=9", 1), 403, "Forbidden"},
		{"link to no digest", "/blobs/x?t=1.x", 400, "InvalidDigest"},
	} {
		resp, body := h.get(tt.path)
		if resp.StatusCode != tt.code || !bytes.Contains(body, []byte(tt.want)) {
			t.Errorf("%s: %s %s, want %d %s", tt.name, resp.Status, body, tt.code, tt.want)
		}
	}
	h.net.now.Store(16 * 60)
	if resp, _ := h.get(link); resp.StatusCode != 403 {
		t.Errorf("a link after its quarter of an hour: %s", resp.Status)
	}
}

// A link holds across a restart: a client that is cut off goes on with the same one.
func TestLinkAcrossRestart(t *testing.T) {
	n := newNetwork(t)
	h := newHold(t, n, func(c *hold.Config) { c.Public = true })
	resp, _ := h.get(h.blobPath(h.push(h.owner, data(6, 10)).String()))
	link := strings.TrimPrefix(resp.Header.Get("Location"), h.cfg.PublicURL)
	h.stop()
	h.start()
	if resp, body := h.get(link); resp.StatusCode != 200 || len(body) != 10 {
		t.Errorf("%s", resp.Status)
	}
}

// Record blobs are served by CID once a record names them.
func TestRecordBlob(t *testing.T) {
	n := newNetwork(t)
	h := newHold(t, n, func(c *hold.Config) { c.Public = true })
	svg := []byte("<svg onload=alert(1)>")
	code, out := h.call(h.owner, "POST", "com.atproto.repo.uploadBlob", "", svg)
	if code != 200 {
		t.Fatalf("%d %v", code, out)
	}
	cid := repo.BlobCID(svg).String()
	if got := out["blob"].(map[string]any)["ref"].(map[string]any)["$link"]; got != cid {
		t.Errorf("blob: %v", out)
	}
	if resp, _ := h.get(h.blobPath(cid)); resp.StatusCode != 404 {
		t.Errorf("a blob that no record names: %s", resp.Status)
	}
}

// Under test mode both spellings of loopback are this hold.
func TestNames(t *testing.T) {
	n := newNetwork(t)
	h := newHold(t, n, func(c *hold.Config) { c.Public = true })
	port := h.url[strings.LastIndex(h.url, ":")+1:]
	if want := "did:web:localhost%3A" + port; h.DID() != want {
		t.Fatalf("DID %s, want %s", h.DID(), want)
	}
	for _, did := range []string{h.DID(), "did:web:127.0.0.1%3A" + port} {
		resp, body := h.get("/xrpc/com.atproto.repo.getRecord?" +
			url.Values{"repo": {did}, "collection": {atcr.NSIDCaptain}, "rkey": {"self"}}.Encode())
		if resp.StatusCode != 200 {
			t.Errorf("%s: %s %s", did, resp.Status, body)
		}
		token, err := h.owner.token(t.Context(), did, "io.atcr.hold.getQuota")
		must(t, err)
		if code, out := h.callWith("Bearer "+token, "GET", "io.atcr.hold.getQuota", "userDid="+h.owner.did, nil); code != 200 {
			t.Errorf("a token for %s: %d %v", did, code, out)
		}
	}
	var doc struct {
		ID      string
		Service []struct{ ID, ServiceEndpoint string }
	}
	_, body := h.get("/.well-known/did.json")
	must(t, json.Unmarshal(body, &doc))
	if doc.ID != h.DID() || len(doc.Service) != 2 || doc.Service[0].ServiceEndpoint != h.cfg.PublicURL {
		t.Errorf("did.json: %s", body)
	}
	if _, body := h.get("/.well-known/atproto-did"); strings.TrimSpace(string(body)) != h.DID() {
		t.Errorf("atproto-did: %s", body)
	}
	for path, want := range map[string]string{
		"/xrpc/_health": `"status":"ok"`,
		"/xrpc/com.atproto.server.describeServer":                           h.DID(),
		"/xrpc/io.atcr.hold.listTiers":                                      `"tiers":[]`,
		"/xrpc/com.atproto.sync.listRepos":                                  h.DID(),
		"/xrpc/com.atproto.repo.describeRepo?repo=" + h.DID():               atcr.NSIDCaptain,
		"/xrpc/com.atproto.sync.getLatestCommit?did=" + h.DID():             `"rev"`,
		"/xrpc/com.atproto.identity.resolveHandle?handle=localhost:" + port: h.DID(),
	} {
		if resp, body := h.get(path); resp.StatusCode != 200 || !strings.Contains(string(body), want) {
			t.Errorf("%s: %s %s", path, resp.Status, body)
		}
	}
}

// Configuration wins over records; what it doesn't name survives.
func TestConfigurationWins(t *testing.T) {
	n := newNetwork(t)
	a, b := n.user("a"), n.user("b")
	h := newHold(t, n, func(c *hold.Config) {
		c.AllowAllCrew = true
		c.Crew = []hold.CrewMember{{Member: a.did, Permissions: []string{"blob:read"}, Tier: "bosun"}}
	})
	if code, _ := h.call(b, "POST", "io.atcr.hold.requestCrew", "", nil); code != 200 {
		t.Fatal(code)
	}
	must(t, h.PutForTest(t.Context(), atcr.NSIDCaptain, "self", map[string]any{
		"owner": b.did, "public": true, "allowAllCrew": true, "enableBlueskyPosts": false, "deployedAt": "2020-01-01T00:00:00Z", "x": "kept", "provider": "old",
	}))
	must(t, h.PutForTest(t.Context(), atcr.NSIDCrew, atcr.CrewRKey(a.did), map[string]any{
		"member": a.did, "role": "member", "permissions": []string{"crew:admin"}, "addedAt": "2020-01-01T00:00:00Z", "y": 7,
	}))
	h.stop()
	h.start()
	var captain struct{ Value map[string]any }
	h.getJSON(fmt.Sprintf("/xrpc/com.atproto.repo.getRecord?repo=%s&collection=%s&rkey=self", h.DID(), atcr.NSIDCaptain), &captain)
	v := captain.Value
	if v["owner"] != h.owner.did || v["public"] != false || v["x"] != "kept" || v["provider"] != "old" ||
		v["deployedAt"] != "2020-01-01T00:00:00Z" {
		t.Errorf("captain: %v", v)
	}
	var crew struct{ Value map[string]any }
	h.getJSON(fmt.Sprintf("/xrpc/com.atproto.repo.getRecord?repo=%s&collection=%s&rkey=%s", h.DID(), atcr.NSIDCrew,
		atcr.CrewRKey(a.did)), &crew)
	if v := crew.Value; fmt.Sprint(v["permissions"]) != "[blob:read]" || v["y"] != 7.0 || v["tier"] != "bosun" {
		t.Errorf("crew: %v", v)
	}
	if m, err := h.client(nil).Member(t.Context(), b.did); err != nil || len(m.Permissions) != 2 {
		t.Errorf("a member that the configuration doesn't name: %+v, %v", m, err)
	}
	if log := h.log.String(); !strings.Contains(log, "captain record differed") || !strings.Contains(log, "owner public") {
		t.Errorf("the log doesn't say what changed: %s", log)
	}
	h.stop()
	h.start() // a third start changes nothing
	before := h.log.String()
	if strings.Count(before, "differed") != 2 {
		t.Errorf("log: %s", before)
	}
}

func TestBadConfiguration(t *testing.T) {
	good := hold.Config{Dir: t.TempDir(), PublicURL: "https://hold.test", OwnerDID: "did:web:o.test"}
	for _, tt := range []struct {
		want   string
		change func(*hold.Config)
	}{
		{"Dir", func(c *hold.Config) { c.Dir = "" }},
		{"PublicURL", func(c *hold.Config) { c.PublicURL = "" }},
		{"PublicURL", func(c *hold.Config) { c.PublicURL = "hold.test" }},
		{"https", func(c *hold.Config) { c.PublicURL = "http://hold.test" }},
		{"PublicURL", func(c *hold.Config) { c.PublicURL = "https://hold.test/path" }},
		{"OwnerDID", func(c *hold.Config) { c.OwnerDID = "alice.test" }},
		{"Crew[0]", func(c *hold.Config) { c.Crew = []hold.CrewMember{{Member: "!"}} }},
		{"permission", func(c *hold.Config) {
			c.Crew = []hold.CrewMember{{Member: "did:web:a.test", Permissions: []string{"root"}}}
		}},
		{"Successor", func(c *hold.Config) { c.Successor = "x" }},
	} {
		c := good
		tt.change(&c)
		if h, err := hold.New(t.Context(), c); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", tt.want, err)
			if h != nil {
				_ = h.Close()
			}
		}
	}
}

func TestTestModeIsKeptAtHome(t *testing.T) {
	for url, ok := range map[string]bool{
		"http://localhost:1": true, "http://127.0.0.1:1": true, "http://10.0.0.1:1": true, "http://hold.test": true,
		"https://hold.example.com": false, "http://hold.example.com": false, "http://8.8.8.8": false, "https://localhost": false,
	} {
		_, err := hold.New(t.Context(), hold.Config{Dir: "/dev/null/x", PublicURL: url, OwnerDID: "did:web:o.test", TestMode: true})
		if got := !strings.Contains(err.Error(), "PublicURL"); got != ok {
			t.Errorf("%s: %v", url, err)
		}
	}
}
