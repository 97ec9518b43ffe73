package registry_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/atcr-dev/atcr/registry"
	"github.com/atcr-dev/atcr/registry/local"
)

const (
	imageType = "application/vnd.oci.image.manifest.v1+json"
	indexType = "application/vnd.oci.image.index.v1+json"
)

// host is a registry on a free port, over registry/local in a folder of the test.
type host struct {
	t       *testing.T
	url     string
	backend *local.Backend
	log     *bytes.Buffer
}

func newHost(t *testing.T, opts registry.Options) *host {
	t.Helper()
	b, err := local.OpenWith(context.Background(), t.TempDir(), &local.Options{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	h := serve(t, b, opts)
	h.backend = b
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

// serve returns for any backend. The server is stopped before what was registered earlier.
func serve(t *testing.T, b registry.Backend, opts registry.Options) *host {
	t.Helper()
	h := &host{t: t, log: &bytes.Buffer{}}
	if opts.Log == nil {
		opts.Log = slog.New(slog.NewTextHandler(h.log, nil))
	}
	srv := httptest.NewServer(registry.NewHandler(b, &opts))
	h.url = srv.URL
	t.Cleanup(srv.Close)
	return h
}

// serveHandler is serve for a handler that is made already.
func serveHandler(t *testing.T, handler http.Handler) *host {
	t.Helper()
	srv := httptest.NewServer(handler)
	t.Cleanup(srv.Close)
	return &host{t: t, url: srv.URL, log: &bytes.Buffer{}}
}

// answer is a response, read to its end.
type answer struct {
	*http.Response
	body string
}

// code is the first error code of the body, which must be OCI error JSON.
func (a answer) code(t *testing.T) string {
	t.Helper()
	var e struct {
		Errors []struct{ Code, Message string }
	}
	if err := json.Unmarshal([]byte(a.body), &e); err != nil || len(e.Errors) == 0 || e.Errors[0].Message == "" {
		t.Fatalf("status %d: body %q is no OCI error: %v", a.StatusCode, a.body, err)
	}
	if ct := a.Header.Get("Content-Type"); ct != "application/json" {
		t.Errorf("Content-Type of an error is %q", ct)
	}
	return e.Errors[0].Code
}

// do sends a request; header is pairs. Redirects are not followed. The path goes out as it is.
func (h *host) do(method, path, body string, header ...string) answer {
	h.t.Helper()
	r, err := http.NewRequest(method, h.url+path, strings.NewReader(body))
	if err != nil {
		h.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	return h.send(r)
}

func (h *host) send(r *http.Request) answer {
	h.t.Helper()
	res, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		h.t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		h.t.Fatal(err)
	}
	return answer{res, string(b)}
}

// must is do, and the status has to be that.
func (h *host) must(status int, method, path, body string, header ...string) answer {
	h.t.Helper()
	a := h.do(method, path, body, header...)
	if a.StatusCode != status {
		h.t.Fatalf("%s %s: status %d, want %d: %s", method, path, a.StatusCode, status, a.body)
	}
	return a
}

func (h *host) pushBlob(repo, content string) digest.Digest {
	h.t.Helper()
	d := digest.FromString(content)
	h.must(201, "POST", "/v2/"+repo+"/blobs/uploads/?digest="+d.String(), content)
	return d
}

// image is an image manifest of one layer, whose blobs are pushed.
func (h *host) image(repo, content string, more ...string) (string, digest.Digest) {
	h.t.Helper()
	config, layer := h.pushBlob(repo, "{}"), h.pushBlob(repo, content)
	m := fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":%q,"size":2},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":%q,"size":%d}]%s}`,
		imageType, config, layer, len(content), strings.Join(more, ""))
	return m, digest.FromString(m)
}

func (h *host) pushImage(repo, tag, content string, more ...string) digest.Digest {
	h.t.Helper()
	m, d := h.image(repo, content, more...)
	h.must(201, "PUT", "/v2/"+repo+"/manifests/"+tag, m, "Content-Type", imageType)
	return d
}
