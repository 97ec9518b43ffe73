package registry_test

import (
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/atcr-dev/atcr/registry"
)

// What can't be mounted is uploaded, also when what is asked for is nothing that could be here (distribution specification, "Mounting a
// blob from another repository").
func TestMountOutsideTheGrammar(t *testing.T) {
	t.Parallel()
	h := newHost(t, registry.Options{})
	d := h.pushBlob("app", "layer")
	for _, query := range []string{
		"mount=x", "mount=sha256:x", "mount=sha384:" + strings.Repeat("a", 96), "mount=SHA256:" + d.Encoded(), "mount=" + strings.ToUpper(d.String()),
		"mount=%00", "mount=" + strings.Repeat("a", 5000), "mount=x&from=app", "mount=" + d.String() + "&from=App", "mount=" + d.String() + "&from=../x",
		"mount=" + d.String() + "&from=" + strings.Repeat("a", 300), "mount=" + d.String() + "&from=%20", "mount=x&digest=y",
		"mount=x&digest=" + d.String(),
	} {
		a := h.must(202, "POST", "/v2/other/blobs/uploads/?"+query, "")
		loc := a.Header.Get("Location")
		h.must(202, "PATCH", loc, "layer")
		h.must(201, "PUT", loc+"?digest="+d.String(), "")
	}
	h.must(201, "POST", "/v2/another/blobs/uploads/?mount="+d.String()+"&from=app", "")
}

// A digest without a body begins an upload; the blob of no bytes is whole without one.
func TestDigestWithoutBody(t *testing.T) {
	t.Parallel()
	h := newHost(t, registry.Options{})
	for _, d := range []digest.Digest{digest.FromString("layer"), digest.SHA512.FromString("layer")} {
		loc := h.must(202, "POST", "/v2/app/blobs/uploads/?digest="+d.String(), "").Header.Get("Location")
		h.must(201, "PUT", loc+"?digest="+d.String(), "layer")
		h.must(200, "HEAD", "/v2/app/blobs/"+d.String(), "")
	}
	for _, d := range []digest.Digest{digest.FromString(""), digest.SHA512.FromString("")} {
		h.must(201, "POST", "/v2/app/blobs/uploads/?digest="+d.String(), "")
		h.must(200, "HEAD", "/v2/app/blobs/"+d.String(), "")
	}
}

// Parameters without a value count as absent.
func TestEmptyParameters(t *testing.T) {
	t.Parallel()
	h := newHost(t, registry.Options{})
	d := h.pushImage("app", "v1", "layer")
	for _, path := range []string{"/v2/app/tags/list?n=", "/v2/app/tags/list?last=", "/v2/app/tags/list?n=&last=", "/v2/_catalog?n=&last="} {
		if a := h.must(200, "GET", path, ""); !strings.Contains(a.body, `["v1"]`) && !strings.Contains(a.body, `["app"]`) {
			t.Errorf("%s: %s", path, a.body)
		}
	}
	h.must(200, "GET", "/v2/app/referrers/"+d.String()+"?n=&last=&artifactType=", "")
	h.must(202, "POST", "/v2/app/blobs/uploads/?digest=&mount=&from=&digest-algorithm=", "")
}

func TestRangesOfBlobs(t *testing.T) {
	t.Parallel()
	h := newHost(t, registry.Options{})
	for _, test := range []struct {
		content, header string
		status          int
		body            string
	}{
		{"layer", "lines=0-1", 200, "layer"}, {"layer", "Bytes=0-1", 206, "la"}, {"layer", "bytes=-2", 206, "er"}, {"layer", "bytes=5-", 416, ""},
		{"layer", "bytes=0-99999999999999999999", 206, "layer"}, {"layer", "bytes=-0,1-1", 206, "a"},
		{"", "bytes=0-", 200, ""}, {"", "bytes=-1", 200, ""}, {"", "bytes=3-", 416, ""},
	} {
		d := h.pushBlob("app", test.content)
		a := h.must(test.status, "GET", "/v2/app/blobs/"+d.String(), "", "Range", test.header)
		if test.status < 300 && a.body != test.body {
			t.Errorf("%q of %q: %q", test.header, test.content, a.body)
		}
	}
}

func (h *host) descriptor(mediaType, content string, size int) string {
	return fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":%d}`, mediaType, digest.FromString(content), size)
}

const (
	configType = "application/vnd.oci.image.config.v1+json"
	layerType  = "application/vnd.oci.image.layer.v1.tar"
)

// A descriptor that says another size than the blob or child has: every puller would stumble.
func TestSizesOfDescriptors(t *testing.T) {
	t.Parallel()
	h := newHost(t, registry.Options{})
	h.pushBlob("app", "{}")
	h.pushBlob("app", "layer")
	child, d := h.image("app", "layer")
	h.must(201, "PUT", "/v2/app/manifests/"+d.String(), child, "Content-Type", imageType)
	image := func(config, layer int, more string) string {
		return fmt.Sprintf(`{"schemaVersion":2,"config":%s,"layers":[%s%s]}`, h.descriptor(configType, "{}", config),
			h.descriptor(layerType, "layer", layer), more)
	}
	index := func(size int, more string) string {
		return fmt.Sprintf(`{"schemaVersion":2,"manifests":[%s%s]}`, h.descriptor(imageType, child, size), more)
	}
	for _, test := range []struct {
		mediaType, body string
		status          int
		text            string
	}{
		{imageType, image(2, 5, ""), 201, ""},
		{imageType, image(3, 5, ""), 400, "2 bytes, the manifest says 3"},
		{imageType, image(2, 4, ""), 400, "5 bytes, the manifest says 4"},
		{imageType, image(2, 0, ""), 400, "says 0"},
		{imageType, image(2, 5, ","+h.descriptor(layerType, "layer", 5)), 201, ""},
		{imageType, image(2, 5, ","+h.descriptor(layerType, "layer", 6)), 400, "with 5 and with 6 bytes"},
		{indexType, index(len(child), ""), 201, ""},
		{indexType, index(len(child)+1, ""), 400, "the manifest says"},
		{indexType, index(len(child), ","+h.descriptor(imageType, child, 1)), 400, "bytes"},
		{indexType, index(len(child), ","+h.descriptor(configType, "{}", 3)), 400, "2 bytes, the manifest says 3"}, // of a build cache
		{imageType, image(2, 5, `,{"mediaType":"`+layerType+`","digest":"`+digest.FromString("elsewhere").String()+
			`","size":99,"urls":["https://a.example"]}`), 201, ""},
	} {
		a := h.do("PUT", "/v2/app/manifests/x", test.body, "Content-Type", test.mediaType)
		if a.StatusCode != test.status || test.status == 400 && (a.code(t) != "MANIFEST_INVALID" || !strings.Contains(a.body, test.text)) {
			t.Errorf("%s: %d %s", test.body, a.StatusCode, a.body)
		}
	}
}

// The keys of a manifest of an unknown type are its own.
func TestUnknownManifestTypes(t *testing.T) {
	t.Parallel()
	h := newHost(t, registry.Options{})
	const other = "application/vnd.example.thing+json"
	for _, body := range []string{
		`{"config":"none","layers":7,"manifests":{"a":1},"subject":"x","annotations":[],"schemaVersion":"3","Layers":1}`,
		`{"schemaVersion":1}`, `{"manifests":[],"layers":[]}`, `{}`,
	} {
		h.must(201, "PUT", "/v2/app/manifests/thing", body, "Content-Type", other)
		if a := h.must(200, "GET", "/v2/app/manifests/thing", ""); a.body != body || a.Header.Get("Content-Type") != other {
			t.Errorf("%s came back as %s, %s", body, a.body, a.Header.Get("Content-Type"))
		}
	}
}

func TestSparseIndexes(t *testing.T) {
	t.Parallel()
	strict, sparse := newHost(t, registry.Options{}), newHost(t, registry.Options{SparseIndexes: true})
	body := fmt.Sprintf(`{"schemaVersion":2,"manifests":[%s]}`, strict.descriptor(imageType, "elsewhere", 9))
	if code := strict.must(404, "PUT", "/v2/app/manifests/v1", body, "Content-Type", indexType).code(t); code != "MANIFEST_BLOB_UNKNOWN" {
		t.Error(code)
	}
	sparse.must(201, "PUT", "/v2/app/manifests/v1", body, "Content-Type", indexType)
	sparse.must(200, "GET", "/v2/app/manifests/v1", "")
	// Blobs have to be there all the same.
	image := fmt.Sprintf(`{"schemaVersion":2,"config":%s}`, strict.descriptor(configType, "elsewhere", 9))
	sparse.must(404, "PUT", "/v2/app/manifests/v2", image, "Content-Type", imageType)
}

// Deleting a manifest that a tagged index names is done, with a warning.
func TestDeleteChildWarning(t *testing.T) {
	t.Parallel()
	h := newHost(t, registry.Options{})
	child, d := h.image("app", "layer")
	h.must(201, "PUT", "/v2/app/manifests/"+d.String(), child, "Content-Type", imageType)
	alone := h.pushImage("app", "alone", "another layer")
	index := fmt.Sprintf(`{"schemaVersion":2,"manifests":[%s]}`, h.descriptor(imageType, child, len(child)))
	id := digest.FromString(index)
	h.must(201, "PUT", "/v2/app/manifests/"+id.String()+"?tag=v1&tag=v2", index, "Content-Type", indexType)
	if a := h.must(202, "DELETE", "/v2/app/manifests/"+alone.String(), ""); a.Header.Get("Warning") != "" {
		t.Errorf("of another manifest: %q", a.Header.Get("Warning"))
	}
	a := h.must(202, "DELETE", "/v2/app/manifests/"+d.String(), "")
	if w := a.Header.Get("Warning"); !strings.HasPrefix(w, `299 - "`) || !strings.Contains(w, id.String()) || !strings.Contains(w, "v1") {
		t.Errorf("Warning %q", w)
	}
	h.must(404, "GET", "/v2/app/manifests/"+d.String(), "")
	h.must(200, "GET", "/v2/app/manifests/v1", "")
	if a := h.must(202, "DELETE", "/v2/app/manifests/"+id.String(), ""); a.Header.Get("Warning") != "" {
		t.Errorf("of the index: %q", a.Header.Get("Warning"))
	}
}

// What a client does wrong is its fault, and no ERROR.
func TestClientsFaultsAreNoErrors(t *testing.T) {
	t.Parallel()
	h := newHost(t, registry.Options{})
	d := h.pushImage("app", "v1", "layer")
	loc := h.start("app")
	for _, request := range []string{
		"PATCH " + loc + " HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n",       // no length of a chunk
		"PATCH " + loc + " HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcdef\r\n0\r\n\r\n", // a longer chunk
		"POST /v2/app/blobs/uploads/?digest=" + d.String() + " HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
		"PUT /v2/app/manifests/v2 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n",
	} {
		conn := h.raw(request)
		if err := conn.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if a := readAnswer(t, conn); a.StatusCode != 400 || a.code(t) != "SIZE_INVALID" {
			t.Errorf("%q: status %d: %s", request, a.StatusCode, a.body)
		}
	}
	if strings.Contains(h.log.String(), "level=ERROR") {
		t.Error(h.log)
	}
}

// A body over the limit of the program around the registry, as http.MaxBytesHandler sets it.
func TestMaxBytesHandler(t *testing.T) {
	t.Parallel()
	b := newHost(t, registry.Options{}).backend
	log := &strings.Builder{}
	h := serve(t, b, registry.Options{Log: slog.New(slog.NewTextHandler(log, nil))})
	limited := serveHandler(t, http.MaxBytesHandler(registry.NewHandler(b, &registry.Options{Log: slog.New(slog.NewTextHandler(log, nil))}), 4))
	loc := h.start("app")
	limited.log = h.log
	if a := limited.must(413, "PATCH", loc, "too long"); a.code(t) != "SIZE_INVALID" {
		t.Error(a.body)
	}
	if strings.Contains(log.String(), "level=ERROR") {
		t.Error(log)
	}
}
