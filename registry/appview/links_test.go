package appview_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	indigo "github.com/bluesky-social/indigo/atproto/identity"
	"github.com/opencontainers/go-digest"

	"github.com/atcr-dev/atcr/identity"
	"github.com/atcr-dev/atcr/registry/appview"
	"github.com/atcr-dev/atcr/registry/pds"
)

const (
	linkOwner = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"
	linkHold  = "did:plc:hhhhhhhhhhhhhhhhhhhhhhhh"
)

// pointing is an owner's PDS and a hold in one, whose layers are links: the layer of a link hashes to it.
type pointing struct {
	links   map[string]string // by digest
	older   bool              // {"url"} instead of a redirect
	askedOf atomic.Int64
}

func (p *pointing) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	const cid = "bafyreidykglsfhoixmivffc5uwhcgshx4j465xwqntbmu43nb2dzqwfvae"
	answer := func(v any) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(v)
	}
	switch q := r.URL.Query(); strings.TrimPrefix(r.URL.Path, "/xrpc/") {
	case "com.atproto.sync.getLatestCommit":
		answer(map[string]any{"cid": cid, "rev": "3kaaaaaaaaaaa"})
	case "com.atproto.repo.getRecord":
		answer(map[string]any{"uri": "at://x/y/z", "cid": cid, "value": map[string]any{
			"$type": "io.atcr.hold.captain", "owner": linkOwner, "public": true, "allowAllCrew": true, "deployedAt": "2026-01-01T00:00:00Z",
		}})
	case "com.atproto.repo.listRecords":
		var records []any
		if strings.HasSuffix(q.Get("collection"), "manifest") {
			var layers []any
			for d := range p.links {
				layers = append(layers, map[string]any{"mediaType": "a/b", "size": 9, "digest": d})
			}
			d := digest.FromString("manifest")
			records = append(records, map[string]any{
				"uri": "at://" + linkOwner + "/io.atcr.manifest/" + d.Encoded(), "cid": cid, "value": map[string]any{
					"$type": "io.atcr.manifest", "repository": "app", "digest": d, "mediaType": "application/vnd.oci.image.manifest.v1+json",
					"schemaVersion": 2, "holdDid": linkHold, "createdAt": "2026-01-01T00:00:00Z", "layers": layers,
				}})
		}
		answer(map[string]any{"records": records})
	case "com.atproto.sync.getBlob":
		p.askedOf.Add(1)
		link := p.links[q.Get("cid")]
		if p.older {
			answer(map[string]string{"url": link})
			return
		}
		w.Header().Set("Location", link)
		w.WriteHeader(http.StatusTemporaryRedirect)
	default:
		w.WriteHeader(http.StatusNotImplemented)
		answer(map[string]string{"error": "MethodNotImplemented"})
	}
}

// A hold of untrusted people sends nobody inwards through a registry, neither clients nor the registry itself, and nobody without a
// token anywhere.
func TestLinksOfHolds(t *testing.T) {
	t.Parallel()
	links := map[string]bool{ // whether it is passed on; the hold is on loopback
		"http://169.254.169.254/latest/meta-data/": false, "http://10.0.0.1/": false, "http://192.168.1.1/": false, "http://[fe80::1]/": false,
		"http://[::ffff:10.0.0.1]/": false, "http://0.0.0.0:22/": false, "http://2852039166/latest/": false, "//172.17.0.1:2375/": false,
		"http://nowhere.invalid/login": false, "javascript:alert(1)": false, "file:///etc/passwd": false,
		"http://127.0.0.1:9000/bucket?signature=1": true, "https://8.8.8.8/bucket?signature=1": true,
	}
	for _, older := range []bool{false, true} {
		for _, redirect := range []pds.Redirect{pds.RedirectAuto, pds.RedirectNever} {
			t.Run(fmt.Sprintf("older=%v/%s", older, redirect), func(t *testing.T) {
				t.Parallel()
				p := &pointing{links: map[string]string{}, older: older}
				for link := range links {
					p.links[digest.FromString(link).String()] = link
				}
				srv := httptest.NewServer(p)
				t.Cleanup(srv.Close)
				testLinks(t, p, srv.URL, redirect, links)
			})
		}
	}
}

func testLinks(t *testing.T, p *pointing, url string, redirect pds.Redirect, links map[string]bool) {
	dir := identity.NewMockDirectory()
	dir.Insert(identity.Account{DID: linkOwner, Handle: "alice.example.com", Services: map[string]indigo.ServiceEndpoint{
		"atproto_pds": {Type: "AtprotoPersonalDataServer", URL: url},
	}})
	dir.Insert(identity.Account{DID: linkHold, Handle: "handle.invalid", Services: map[string]indigo.ServiceEndpoint{
		"atcr_hold": {Type: "AtcrHoldService", URL: url},
	}})
	app, err := appview.New(t.Context(), appview.Config{
		Dir: t.TempDir(), BaseURL: "http://127.0.0.1:5000", DefaultHold: linkHold, Directory: dir, TestMode: true, Verify: pds.VerifyNever,
		Redirect: redirect, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { app.Close() })
	ask := func(method, path, token string) *httptest.ResponseRecorder {
		req := httptest.NewRequest(method, "http://127.0.0.1:5000"+path, nil)
		if token != "" {
			req.Header.Set("Authorization", "Bearer "+token)
		}
		w := httptest.NewRecorder()
		app.Handler().ServeHTTP(w, req)
		return w
	}
	blobs := "/v2/" + linkOwner + "/app/blobs/"
	for d := range p.links {
		w := ask(http.MethodGet, blobs+d, "")
		if w.Code != http.StatusUnauthorized || w.Header().Get("Location") != "" ||
			!strings.Contains(w.Header().Get("WWW-Authenticate"), `/app:pull"`) {
			t.Fatalf("without a token: %d %v", w.Code, w.Header())
		}
	}
	if p.askedOf.Load() != 0 {
		t.Error("the hold was asked for somebody without a token")
	}
	var anonymous struct{ Token string }
	w := ask(http.MethodGet, "/auth/token?scope=repository:"+linkOwner+"/app:pull", "")
	if err := json.Unmarshal(w.Body.Bytes(), &anonymous); err != nil || anonymous.Token == "" {
		t.Fatalf("no anonymous token: %d %s", w.Code, w.Body)
	}
	for link, taken := range links {
		d := digest.FromString(link).String()
		for _, method := range []string{http.MethodGet, http.MethodHead} {
			if taken && (redirect == pds.RedirectNever || method == http.MethodHead) {
				continue // nobody is there
			}
			w := ask(method, blobs+d, anonymous.Token)
			switch {
			case taken:
				if w.Code != http.StatusTemporaryRedirect || w.Header().Get("Location") != link {
					t.Errorf("%s: %d %q", link, w.Code, w.Header().Get("Location"))
				}
			case redirect == pds.RedirectNever && method == http.MethodHead: // answered from the record, without the hold
			case w.Code != http.StatusForbidden || method == http.MethodGet && !strings.Contains(w.Body.String(), linkHold):
				t.Errorf("%s %s: %d %s %v", method, link, w.Code, w.Body, w.Header())
			}
		}
	}
}
