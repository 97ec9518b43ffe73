package registry_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/atcr-dev/atcr/registry"
)

// start begins an upload and returns its path.
func (h *host) start(repo string) string {
	h.t.Helper()
	a := h.must(202, "POST", "/v2/"+repo+"/blobs/uploads/", "")
	loc := a.Header.Get("Location")
	if !strings.HasPrefix(loc, "/v2/"+repo+"/blobs/uploads/") {
		h.t.Fatalf("Location %q is not relative to the host", loc)
	}
	if a.Header.Get("Range") != "0-0" || a.Header.Get("Docker-Upload-UUID") == "" {
		h.t.Fatalf("headers %v", a.Header)
	}
	return loc
}

func TestChunks(t *testing.T) {
	t.Parallel()
	h := newHost(t, registry.Options{})
	loc := h.start("app")
	d := digest.FromString("hello, world")
	steps := []struct {
		method, path, body, contentRange string
		status                           int
		upTo                             string
	}{
		{"GET", loc, "", "", 204, "0-0"},
		{"PATCH", loc, "lo", "3-4", 416, "0-0"}, // a gap
		{"PATCH", loc, "hello", "0-4", 202, "0-4"},
		{"PATCH", loc, "hello", "0-4", 416, "0-4"}, // again
		{"PATCH", loc, "o, wo", "4-8", 416, "0-4"}, // overlapping
		{"PATCH", loc, ", wo", "5-99", 400, "0-4"}, // range and length differ
		{"PATCH", loc, ", wo", "five", 400, "0-4"},
		{"GET", loc, "", "", 204, "0-4"},
		{"PATCH", loc, ", wo", "bytes 5-8/*", 202, "0-8"},
		{"PUT", loc + "?digest=" + d.String(), "ld", "10-11", 416, "0-8"},
		{"PUT", loc + "?digest=" + digest.FromString("x").String(), "", "", 400, ""}, // other bytes: the upload is kept
		{"GET", loc, "", "", 204, "0-8"},
		{"PUT", loc + "?digest=" + d.String(), "rld", "9-11", 201, ""},
		{"GET", loc, "", "", 404, ""},
	}
	for i, s := range steps {
		var header []string
		if s.contentRange != "" {
			header = []string{"Content-Range", s.contentRange}
		}
		a := h.must(s.status, s.method, s.path, s.body, header...)
		if s.upTo != "" && (a.Header.Get("Range") != s.upTo || a.Header.Get("Location") != loc) {
			t.Errorf("step %d: Range %q, Location %q; want %q", i, a.Header.Get("Range"), a.Header.Get("Location"), s.upTo)
		}
		if s.status >= 400 && s.method != "GET" {
			a.code(t)
		}
		if s.status == 201 && (a.Header.Get("Docker-Content-Digest") != d.String() || a.Header.Get("Location") != "/v2/app/blobs/"+d.String()) {
			t.Errorf("step %d: headers %v", i, a.Header)
		}
	}
	if a := h.must(200, "GET", "/v2/app/blobs/"+d.String(), ""); a.body != "hello, world" {
		t.Errorf("blob %q", a.body)
	}
}

func TestStreamedPatch(t *testing.T) {
	t.Parallel()
	h := newHost(t, registry.Options{})
	loc := h.start("app")
	r, err := http.NewRequest("PATCH", h.url+loc, io.MultiReader(strings.NewReader("some"), strings.NewReader(" bytes")))
	if err != nil {
		t.Fatal(err)
	}
	r.ContentLength = -1
	if a := h.send(r); a.StatusCode != 202 || a.Header.Get("Range") != "0-9" {
		t.Fatalf("status %d, Range %q", a.StatusCode, a.Header.Get("Range"))
	}
	h.must(201, "PUT", loc+"?digest="+digest.FromString("some bytes").String(), "")
}

func TestMonolithic(t *testing.T) {
	t.Parallel()
	h := newHost(t, registry.Options{})
	for _, content := range []string{"", "x", strings.Repeat("layer", 1<<18)} {
		for _, d := range []digest.Digest{digest.FromString(content), digest.SHA512.FromString(content)} {
			a := h.must(201, "POST", "/v2/app/blobs/uploads/?digest="+d.String(), content)
			if a.Header.Get("Docker-Content-Digest") != d.String() {
				t.Errorf("headers %v", a.Header)
			}
			if got := h.must(200, "GET", a.Header.Get("Location"), ""); got.body != content {
				t.Errorf("%d bytes came back of %d", len(got.body), len(content))
			}
		}
	}
	wrong := digest.FromString("another")
	if code := h.must(400, "POST", "/v2/app/blobs/uploads/?digest="+wrong.String(), "x").code(t); code != "DIGEST_INVALID" {
		t.Error(code)
	}
	h.must(404, "GET", "/v2/app/blobs/"+wrong.String(), "")
}

func TestCancel(t *testing.T) {
	t.Parallel()
	h := newHost(t, registry.Options{})
	loc := h.start("app")
	h.must(202, "PATCH", loc, "bytes")
	h.must(204, "DELETE", loc, "")
	h.must(404, "GET", loc, "")
	h.must(404, "DELETE", loc, "")
	h.must(404, "PATCH", loc, "bytes")
}

func TestBlobLimit(t *testing.T) {
	t.Parallel()
	h := newHost(t, registry.Options{MaxBlobBytes: 10})
	loc := h.start("app")
	h.must(202, "PATCH", loc, "12345")
	h.must(413, "PATCH", loc, "678901").code(t)
	h.must(202, "PATCH", loc, "67890")
	h.must(201, "PUT", loc+"?digest="+digest.FromString("1234567890").String(), "")
}

// raw sends text on a connection of its own and leaves the writing half open or not.
func (h *host) raw(text string) *net.TCPConn {
	h.t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(h.url, "http://"))
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { conn.Close() })
	if _, err := io.WriteString(conn, text); err != nil {
		h.t.Fatal(err)
	}
	return conn.(*net.TCPConn)
}

func readAnswer(t *testing.T, conn net.Conn) answer {
	t.Helper()
	if err := conn.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, _ := io.ReadAll(res.Body)
	return answer{res, string(b)}
}

func TestBodyShorterThanContentLength(t *testing.T) {
	t.Parallel()
	h := newHost(t, registry.Options{})
	loc := h.start("app")
	conn := h.raw("PATCH " + loc + " HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhello")
	if err := conn.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	a := readAnswer(t, conn)
	if a.StatusCode != 400 || a.code(t) != "SIZE_INVALID" {
		t.Errorf("status %d: %s", a.StatusCode, a.body)
	}
	// What came is kept, and the upload goes on from there.
	if a := h.must(204, "GET", loc, ""); a.Header.Get("Range") != "0-4" {
		t.Errorf("Range %q", a.Header.Get("Range"))
	}
	h.must(202, "PATCH", loc, ", world", "Content-Range", "5-11")
	h.must(201, "PUT", loc+"?digest="+digest.FromString("hello, world").String(), "")

	// A blob in one request that ends early leaves nothing.
	d := digest.FromString("hello")
	conn = h.raw("POST /v2/app/blobs/uploads/?digest=" + d.String() + " HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhello")
	if err := conn.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if a := readAnswer(t, conn); a.StatusCode != 400 || a.code(t) != "SIZE_INVALID" {
		t.Errorf("status %d: %s", a.StatusCode, a.body)
	}
	h.must(404, "GET", "/v2/app/blobs/"+d.String(), "")
}

func TestSlowBodies(t *testing.T) {
	t.Parallel()
	h := newHost(t, registry.Options{BodyGrace: 50 * time.Millisecond, BodyRate: 1 << 20})
	loc := h.start("app")
	for _, request := range []string{"PATCH " + loc, "PUT /v2/app/manifests/v1"} {
		conn := h.raw(request + " HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nabc") // and no more
		if a := readAnswer(t, conn); a.StatusCode != http.StatusRequestTimeout || a.code(t) != "SIZE_INVALID" {
			t.Errorf("%s: status %d: %s", request, a.StatusCode, a.body)
		}
	}
	if a := h.must(204, "GET", loc, ""); a.Header.Get("Range") != "0-2" {
		t.Errorf("Range %q", a.Header.Get("Range"))
	}
}

// Of two writers one wins, the other is told, and bytes never mix.
func TestTwoPatchesAtOnce(t *testing.T) {
	t.Parallel()
	h := newHost(t, registry.Options{})
	loc := h.start("app")
	first := h.raw("PATCH " + loc + " HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\n\r\naaa")
	deadline := time.Now().Add(time.Minute)
	for { // until the first one has the upload
		a := h.do("GET", loc, "")
		if a.StatusCode == 409 {
			a.code(t)
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the first PATCH never held the upload")
		}
	}
	a := h.must(409, "PATCH", loc, "bbb")
	if a.code(t) != "BLOB_UPLOAD_INVALID" {
		t.Error(a.body)
	}
	h.must(409, "PUT", loc+"?digest="+digest.FromString("bbb").String(), "bbb")
	if _, err := io.WriteString(first, "aaa"); err != nil {
		t.Fatal(err)
	}
	if a := readAnswer(t, first); a.StatusCode != 202 || a.Header.Get("Range") != "0-5" {
		t.Errorf("status %d, %v", a.StatusCode, a.Header)
	}
	h.must(201, "PUT", loc+"?digest="+digest.FromString("aaaaaa").String(), "")
}

func TestMount(t *testing.T) {
	t.Parallel()
	h := newHost(t, registry.Options{})
	d := h.pushBlob("a", "layer")
	none := digest.FromString("none")
	h.must(404, "GET", "/v2/b/blobs/"+d.String(), "") // not there by itself
	a := h.must(201, "POST", "/v2/b/blobs/uploads/?mount="+d.String()+"&from=a", "")
	if a.Header.Get("Location") != "/v2/b/blobs/"+d.String() || a.Header.Get("Docker-Content-Digest") != d.String() {
		t.Errorf("headers %v", a.Header)
	}
	h.must(200, "GET", "/v2/b/blobs/"+d.String(), "")
	h.must(201, "POST", "/v2/c/blobs/uploads/?mount="+d.String(), "") // from anywhere
	for _, query := range []string{"?mount=" + none.String() + "&from=a", "?mount=" + none.String(), "?mount=" + d.String() + "&from=x"} {
		a := h.must(202, "POST", "/v2/d/blobs/uploads/"+query, "")
		h.must(204, "DELETE", a.Header.Get("Location"), "")
	}
	h.must(404, "GET", "/v2/d/blobs/"+d.String(), "")
}

func TestManifestsAreLimited(t *testing.T) {
	t.Parallel()
	h := newHost(t, registry.Options{MaxManifestBytes: 2000})
	m, d := h.image("app", "layer")
	for _, test := range []struct {
		name, body, contentType string
		status                  int
		code                    string
	}{
		{"good", m, imageType, 201, ""},
		{"parameters are ignored", m, imageType + "; charset=utf-8", 201, ""},
		{"too long", strings.Replace(m, "{", "{"+strings.Repeat(" ", 2000), 1), imageType, 413, "MANIFEST_INVALID"},
		{"not JSON", "hello", imageType, 400, "MANIFEST_INVALID"},
		{"nothing", "", imageType, 400, "MANIFEST_INVALID"},
		{"deep", `{"schemaVersion":2,"x":` + strings.Repeat("[", 100) + strings.Repeat("]", 100) + `}`, "application/x+json", 400,
			"MANIFEST_INVALID"},
		{"duplicate keys", strings.Replace(m, "{", `{"schemaVersion":2,`, 1), imageType, 400, "MANIFEST_INVALID"},
		{"image and index", strings.Replace(m, "{", `{"manifests":[],`, 1), imageType, 400, "MANIFEST_INVALID"},
		{"another type", m, indexType, 400, "MANIFEST_INVALID"},
		{"html", "<html>", "text/html", 400, "MANIFEST_INVALID"},
		{"svg", `{}`, "image/svg+xml", 400, "MANIFEST_INVALID"},
	} {
		a := h.do("PUT", "/v2/app/manifests/v1", test.body, "Content-Type", test.contentType)
		if a.StatusCode != test.status {
			t.Errorf("%s: status %d: %s", test.name, a.StatusCode, a.body)
		} else if test.code != "" && a.code(t) != test.code {
			t.Errorf("%s: %s", test.name, a.body)
		}
	}
	// Length unknown.
	r, _ := http.NewRequest("PUT", h.url+"/v2/app/manifests/v1", io.MultiReader(strings.NewReader(strings.Repeat(" ", 5000))))
	r.ContentLength = -1
	if a := h.send(r); a.StatusCode != 413 {
		t.Errorf("status %d", a.StatusCode)
	}
	h.must(201, "PUT", "/v2/app/manifests/"+d.String(), m)
	if code := h.must(400, "PUT", "/v2/app/manifests/"+digest.FromString("x").String(), m).code(t); code != "DIGEST_INVALID" {
		t.Error(code)
	}
	d512 := digest.SHA512.FromString(m)
	if a := h.must(201, "PUT", "/v2/app/manifests/"+d512.String(), m); a.Header.Get("Docker-Content-Digest") != d512.String() {
		t.Errorf("headers %v", a.Header)
	}
	h.must(200, "GET", "/v2/app/manifests/"+d512.String(), "")
	for i, path := range []string{"?tag=a&tag=b&tag=a", "?" + strings.Repeat("tag=x&", 99) + "tag=y"} {
		a := h.must(201, "PUT", "/v2/app/manifests/"+d.String()+path, m)
		if got := fmt.Sprint(a.Header.Values("OCI-Tag")); got != []string{"[a b]", "[x y]"}[i] {
			t.Errorf("OCI-Tag %s", got)
		}
	}
	var many strings.Builder
	for i := range 101 {
		fmt.Fprintf(&many, "&tag=t%d", i)
	}
	h.must(414, "PUT", "/v2/app/manifests/"+d.String()+"?"+many.String()[1:], m).code(t)
	h.must(404, "GET", "/v2/app/manifests/t1", "")
}
