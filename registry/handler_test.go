package registry_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/atcr-dev/atcr/registry"
)

func TestBadRequests(t *testing.T) {
	t.Parallel()
	h := newHost(t, registry.Options{})
	h.pushImage("app", "v1", "layer")
	hex := strings.Repeat("a", 64)
	for _, test := range []struct {
		method, path string
		status       int
		code         string
	}{
		// names
		{"GET", "/v2/../manifests/v1", 400, "NAME_INVALID"},
		{"GET", "/v2/a/../b/manifests/v1", 400, "NAME_INVALID"},
		{"GET", "/v2/%2e%2e/%2e%2e/manifests/v1", 400, "NAME_INVALID"},
		{"GET", "/v2/a%2f..%2fb/manifests/v1", 400, "NAME_INVALID"},
		{"GET", "/v2/a%00b/manifests/v1", 400, "NAME_INVALID"},
		{"GET", "/v2/a//b/manifests/v1", 400, "NAME_INVALID"},
		{"GET", "/v2//manifests/v1", 400, "NAME_INVALID"},
		{"GET", "/v2//", 400, "NAME_INVALID"},
		{"GET", "/v2/..", 400, "NAME_INVALID"},
		{"GET", "/v2/App/manifests/v1", 400, "NAME_INVALID"},
		{"GET", "/v2/" + strings.Repeat("a", 256) + "/manifests/v1", 400, "NAME_INVALID"},
		{"GET", "/v2/-a/tags/list", 400, "NAME_INVALID"},
		{"POST", "/v2/a%20b/blobs/uploads/", 400, "NAME_INVALID"},
		// digests
		{"GET", "/v2/app/blobs/sha256:" + hex[1:], 400, "DIGEST_INVALID"},
		{"GET", "/v2/app/blobs/sha256:" + strings.ToUpper(hex), 400, "DIGEST_INVALID"},
		{"GET", "/v2/app/blobs/md5:" + hex[:32], 400, "DIGEST_INVALID"},
		{"GET", "/v2/app/blobs/sha384:" + hex + hex[:32], 400, "DIGEST_INVALID"},
		{"GET", "/v2/app/blobs/sha256:..%2f..%2f" + hex[6:], 400, "NAME_INVALID"}, // more slashes than a digest has
		{"GET", "/v2/app/blobs/", 400, "DIGEST_INVALID"},
		{"GET", "/v2/app/manifests/sha256:" + hex[1:], 400, "DIGEST_INVALID"},
		{"GET", "/v2/app/referrers/v1", 400, "DIGEST_INVALID"},
		{"GET", "/v2/app/referrers/sha256:" + hex + "?last=x", 400, "DIGEST_INVALID"},
		{"POST", "/v2/app/blobs/uploads/?digest=sha256:x", 400, "DIGEST_INVALID"},
		{"POST", "/v2/app/blobs/uploads/?digest-algorithm=md5", 400, "DIGEST_INVALID"},
		{"PUT", "/v2/app/blobs/uploads/x", 400, "DIGEST_INVALID"},
		// tags
		{"GET", "/v2/app/manifests/.v1", 400, "TAG_INVALID"},
		{"GET", "/v2/app/manifests/" + strings.Repeat("v", 129), 400, "TAG_INVALID"},
		{"GET", "/v2/app/manifests/", 400, "TAG_INVALID"},
		{"PUT", "/v2/app/manifests/sha256:" + hex + "?tag=-x", 400, "TAG_INVALID"},
		{"PUT", "/v2/app/manifests/v1?tag=v2", 400, "TAG_INVALID"},
		// lists
		{"GET", "/v2/app/tags/list?n=-1", 400, "PAGINATION_NUMBER_INVALID"},
		{"GET", "/v2/app/tags/list?n=abc", 400, "PAGINATION_NUMBER_INVALID"},
		{"GET", "/v2/_catalog?n=-1", 400, "PAGINATION_NUMBER_INVALID"},
		{"GET", "/v2/_catalog?n=1e3", 400, "PAGINATION_NUMBER_INVALID"},
		{"GET", "/v2/_catalog?last=" + strings.Repeat("a", 600), 400, "PAGINATION_NUMBER_INVALID"},
		{"GET", "/v2/app/tags/list?n=%zz", 400, "UNSUPPORTED"},
		{"GET", "/v2/app/tags/list?last=" + strings.Repeat("a", 40000), 414, "UNSUPPORTED"},
		// not there
		{"GET", "/v2/other/tags/list", 404, "NAME_UNKNOWN"},
		{"GET", "/v2/other/tags/list?n=0", 404, "NAME_UNKNOWN"},
		{"GET", "/v2/other/manifests/v1", 404, "NAME_UNKNOWN"},
		{"GET", "/v2/app/manifests/v2", 404, "MANIFEST_UNKNOWN"},
		{"GET", "/v2/app/manifests/sha256:" + hex, 404, "MANIFEST_UNKNOWN"},
		{"GET", "/v2/app/blobs/sha256:" + hex, 404, "BLOB_UNKNOWN"},
		{"DELETE", "/v2/app/blobs/sha256:" + hex, 404, "BLOB_UNKNOWN"},
		{"DELETE", "/v2/app/manifests/sha256:" + hex, 404, "MANIFEST_UNKNOWN"},
		{"DELETE", "/v2/app/manifests/v9", 404, "MANIFEST_UNKNOWN"},
		{"GET", "/v2/app/blobs/uploads/nosuch", 404, "BLOB_UPLOAD_UNKNOWN"},
		{"PATCH", "/v2/app/blobs/uploads/%2e%2e", 404, "BLOB_UPLOAD_UNKNOWN"},
		{"PATCH", "/v2/app/blobs/uploads/" + strings.Repeat("a", 600), 404, "BLOB_UPLOAD_UNKNOWN"},
		{"GET", "/v2/app", 404, "UNSUPPORTED"},
		{"GET", "/v2/app/other/v1", 404, "UNSUPPORTED"},
		// methods
		{"POST", "/v2/", 405, "UNSUPPORTED"},
		{"POST", "/v2/_catalog", 405, "UNSUPPORTED"},
		{"POST", "/v2/app/manifests/v1", 405, "UNSUPPORTED"},
		{"PUT", "/v2/app/blobs/sha256:" + hex, 405, "UNSUPPORTED"},
		{"GET", "/v2/app/blobs/uploads/", 405, "UNSUPPORTED"},
		{"POST", "/v2/app/blobs/uploads/x", 405, "UNSUPPORTED"},
		{"DELETE", "/v2/app/tags/list", 405, "UNSUPPORTED"},
		{"PUT", "/v2/app/referrers/sha256:" + hex, 405, "UNSUPPORTED"},
	} {
		a := h.do(test.method, test.path, "")
		if a.StatusCode != test.status {
			t.Errorf("%s %s: status %d, want %d: %s", test.method, test.path, a.StatusCode, test.status, a.body)
		} else if code := a.code(t); code != test.code {
			t.Errorf("%s %s: code %s, want %s", test.method, test.path, code, test.code)
		}
		if test.status == 405 && a.Header.Get("Allow") == "" {
			t.Errorf("%s %s: no Allow", test.method, test.path)
		}
	}
}

// Every answer carries the headers that keep a browser from running what an untrusted user stored.
func TestHeadersOfEveryAnswer(t *testing.T) {
	t.Parallel()
	h := newHost(t, registry.Options{})
	d := h.pushImage("app", "v1", "layer")
	blob := digest.FromString("layer")
	for _, path := range []string{"/v2/", "/v2", "/v2/_catalog", "/v2/app/tags/list", "/v2/app/manifests/v1", "/v2/app/manifests/" +
		d.String(),
		"/v2/app/blobs/" + blob.String(), "/v2/app/referrers/" + d.String(), "/v2/none/manifests/v1", "/v2/x"} {
		for _, method := range []string{"GET", "HEAD", "TRACE"} {
			a := h.do(method, path, "")
			for name, want := range map[string]string{
				"X-Content-Type-Options": "nosniff", "Content-Disposition": "attachment",
				"Content-Security-Policy": "default-src 'none'; sandbox", "Docker-Distribution-API-Version": "registry/2.0",
			} {
				if got := a.Header.Get(name); got != want {
					t.Errorf("%s %s: %s is %q", method, path, name, got)
				}
			}
		}
	}
}

func TestPing(t *testing.T) {
	t.Parallel()
	h := newHost(t, registry.Options{})
	for _, path := range []string{"/v2/", "/v2"} {
		if a := h.must(200, "GET", path, ""); a.body != "{}" {
			t.Errorf("body %q", a.body)
		}
	}
}

func TestWithFallback(t *testing.T) {
	t.Parallel()
	b := newHost(t, registry.Options{}).backend
	mux := http.NewServeMux()
	mux.HandleFunc("/{$}", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "page") })
	handler := registry.NewHandler(b, nil)
	for name, route := range map[string]http.Handler{"WithFallback": handler.WithFallback(mux),
		"mux": func() http.Handler { mux.Handle("/v2/", handler); return mux }()} {
		srv := httptest.NewServer(route)
		h := &host{t: t, url: srv.URL}
		if a := h.must(200, "GET", "/", ""); a.body != "page" {
			t.Errorf("%s: %q", name, a.body)
		}
		h.must(200, "GET", "/v2/", "")
		h.must(404, "GET", "/v3/", "")
		if name == "WithFallback" {
			h.must(400, "GET", "/v2/a//b/tags/list", "") // a mux alone would redirect
			h.must(400, "GET", "/v2/a/../b/tags/list", "")
			h.must(200, "GET", "/v2", "")
		}
		srv.Close()
	}
}

// Spellings that the grammar refuses become names; answers repeat the spelling.
func TestNameIsRewritten(t *testing.T) {
	t.Parallel()
	h := newHost(t, registry.Options{Name: func(name string) (string, error) {
		if name == "secret" {
			return "", fmt.Errorf("an internal reason")
		}
		if name == "gone" {
			return "", registry.ErrNameUnknown.With("nobody has the name")
		}
		return strings.Replace(name, "did:plc:", "did-plc-", 1), nil
	}})
	d := h.pushImage("did:plc:abc/app", "v1", "layer")
	h.must(200, "GET", "/v2/did-plc-abc/app/manifests/v1", "")
	h.must(200, "GET", "/v2/did%3Aplc%3Aabc/app/manifests/v1", "")
	if a := h.must(200, "GET", "/v2/did:plc:abc/app/tags/list", ""); !strings.Contains(a.body, `"name":"did:plc:abc/app"`) {
		t.Error(a.body)
	}
	m, _ := h.image("did:plc:abc/app", "layer")
	a := h.must(201, "PUT", "/v2/did:plc:abc/app/manifests/v2", m)
	if got := a.Header.Get("Location"); got != "/v2/did:plc:abc/app/manifests/"+d.String() {
		t.Errorf("Location %q", got)
	}
	a = h.must(400, "GET", "/v2/secret/tags/list", "")
	if strings.Contains(a.body, "internal") {
		t.Error("the reason was shown")
	}
	h.must(404, "GET", "/v2/gone/tags/list", "")
	// A mount's source is a name as well.
	blob := digest.FromString("layer")
	h.must(201, "POST", "/v2/x/blobs/uploads/?mount="+blob.String()+"&from=did:plc:abc/app", "")
}

func TestEveryoneIsLoggedOnce(t *testing.T) {
	t.Parallel()
	h := newHost(t, registry.Options{})
	h.must(200, "GET", "/v2/", "")
	h.must(200, "GET", "/v2/", "")
	if n := strings.Count(h.log.String(), "no Authorizer"); n != 1 {
		t.Errorf("logged %d times", n)
	}
}
