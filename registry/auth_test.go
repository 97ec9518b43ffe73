package registry_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/atcr-dev/atcr/registry"
)

const challenge = `Bearer realm="http://127.0.0.1/auth/token",service="127.0.0.1"`

// gate lets a user do what its table says, and notes what was asked.
type gate struct {
	allow map[string]bool // "user repository action"
	asked []string
}

func (g *gate) Authorize(r *http.Request, wanted []registry.Access) (registry.Actor, error) {
	user := r.Header.Get("User")
	actor := registry.Actor{ID: user, Challenge: challenge}
	for _, w := range wanted {
		g.asked = append(g.asked, fmt.Sprintf("%s %v %t", w.Repository, w.Actions, w.Upload != ""))
		if user == "" {
			return actor, registry.ErrUnauthorized.With("sign in").WithChallenge(challenge)
		}
		for _, a := range w.Actions {
			if !g.allow[user+" "+w.Repository+" "+string(a)] {
				return actor, registry.ErrDenied
			}
		}
	}
	return actor, nil
}

func TestAuthorizer(t *testing.T) {
	t.Parallel()
	g := &gate{allow: map[string]bool{"alice app pull": true, "alice app push": true, "alice app delete": true, "bob b push": true,
		"bob b pull": true, "alice b push": true}}
	h := newHost(t, registry.Options{Authorizer: g})
	a := h.must(401, "GET", "/v2/", "")
	if a.body != "{}" || a.Header.Get("WWW-Authenticate") != challenge {
		t.Errorf("body %q, headers %v", a.body, a.Header)
	}
	if a := h.must(200, "GET", "/v2/", "", "User", "bob"); a.body != "{}" {
		t.Errorf("body %q", a.body)
	}
	a = h.must(401, "GET", "/v2/app/manifests/v1", "")
	if a.code(t) != "UNAUTHORIZED" || a.Header.Get("WWW-Authenticate") != challenge {
		t.Errorf("headers %v", a.Header)
	}
	d := digest.FromString("layer")
	path := "/v2/app/blobs/" + d.String()
	h.must(201, "POST", "/v2/app/blobs/uploads/?digest="+d.String(), "layer", "User", "alice")
	g.asked = nil
	for _, test := range []struct {
		method, path string
		asked        string
	}{
		{"GET", path, "app [pull] false"},
		{"HEAD", path, "app [pull] false"},
		{"DELETE", path, "app [delete] false"},
		{"PUT", "/v2/app/manifests/v1", "app [push] false"},
		{"DELETE", "/v2/app/manifests/v1", "app [delete] false"},
		{"GET", "/v2/app/tags/list", "app [pull] false"},
		{"GET", "/v2/app/referrers/" + d.String(), "app [pull] false"},
		{"POST", "/v2/app/blobs/uploads/", "app [push] false"},
		{"GET", "/v2/app/blobs/uploads/x", "app [push] true"},
		{"PATCH", "/v2/app/blobs/uploads/x", "app [push] true"},
		{"PUT", "/v2/app/blobs/uploads/x?digest=" + d.String(), "app [push] true"},
		{"DELETE", "/v2/app/blobs/uploads/x", "app [push] true"},
		{"GET", "/v2/_catalog", " [pull] false"},
	} {
		g.asked = nil
		if a := h.must(403, test.method, test.path, "", "User", "bob"); test.method != "HEAD" && a.code(t) != "DENIED" {
			t.Errorf("%s %s: %s", test.method, test.path, a.body)
		}
		if len(g.asked) != 1 || g.asked[0] != test.asked {
			t.Errorf("%s %s: asked %q, want %q", test.method, test.path, g.asked, test.asked)
		}
	}
	// A mount from where one may not read is an upload, whether the blob is there or not.
	for _, content := range []string{"layer", "nothing"} {
		a := h.must(202, "POST", "/v2/b/blobs/uploads/?mount="+digest.FromString(content).String()+"&from=app", "", "User", "bob")
		if a.Header.Get("Docker-Upload-UUID") == "" {
			t.Error("no upload")
		}
	}
	h.must(404, "GET", "/v2/b/blobs/"+d.String(), "", "User", "bob")
	h.must(201, "POST", "/v2/b/blobs/uploads/?mount="+d.String()+"&from=app", "", "User", "alice")
}

// failing returns one error to everything.
type failing struct {
	registry.UnimplementedBackend
	registry.Unimplemented
	err error
}

func (f failing) Repository(context.Context, registry.Actor, string) (registry.Repository, error) {
	return f, nil
}

func (f failing) Manifest(context.Context, registry.Ref) (registry.Manifest, error) {
	return registry.Manifest{}, f.err
}

func TestErrorsOnTheWire(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		err    error
		status int
		code   string
		header string
		text   string // must stand in the body
	}{
		{registry.ErrManifestUnknown, 404, "MANIFEST_UNKNOWN", "", ""},
		{fmt.Errorf("look: %w", registry.ErrManifestUnknown), 404, "MANIFEST_UNKNOWN", "", ""},
		{registry.ErrDenied.With("hold %s says no", "did:web:x"), 403, "DENIED", "", "did:web:x"},
		{registry.ErrManifestBlobUnknown.WithDetail(map[string]string{"digest": "sha256:x"}), 404, "MANIFEST_BLOB_UNKNOWN", "",
			`"detail":{"digest":"sha256:x"}`},
		{registry.ErrDenied.WithDetail(func() {}), 403, "DENIED", "", ""}, // a detail that has no JSON is left out
		{&registry.Error{Code: "TOOMANYREQUESTS", Status: 429, Message: "slower", RetryAfter: 1500 * time.Millisecond}, 429,
			"TOOMANYREQUESTS", "Retry-After: 2", ""},
		{registry.ErrUnavailable, 503, "UNAVAILABLE", "", ""},
		{registry.ErrNoSpace, 507, "UNKNOWN", "", "storage is full"},
		{registry.ErrNoSpace.Wrap(registry.ErrUnavailable), 507, "UNKNOWN", "", "storage is full"}, // another server's
		{registry.ErrUnauthorized, 401, "UNAUTHORIZED", "Www-Authenticate: " + challenge, ""},
		{registry.ErrUnsupported, 405, "UNSUPPORTED", "", ""},
		{io.ErrUnexpectedEOF, 400, "SIZE_INVALID", "", ""},
		{errors.New("password is hunter2"), 500, "UNKNOWN", "", "internal error"},
		{registry.ErrUnavailable.Wrap(errors.New("password is hunter2")), 503, "UNAVAILABLE", "", ""},
	} {
		h := serve(t, failing{err: test.err}, registry.Options{Authorizer: everyone{}})
		a := h.must(test.status, "GET", "/v2/app/manifests/v1", "")
		if a.code(t) != test.code || !strings.Contains(a.body, test.text) {
			t.Errorf("%v: %s", test.err, a.body)
		}
		if strings.Contains(a.body, "hunter2") {
			t.Errorf("the cause was sent: %s", a.body)
		}
		// What others do wrong is no error of ours, or anybody could fill the log with them (A20).
		ours := test.status >= 500 && !errors.Is(test.err, registry.ErrUnavailable)
		if logged := strings.Contains(h.log.String(), "level=ERROR"); logged != ours {
			t.Errorf("%v: logged as error: %t", test.err, logged)
		}
		if warned := strings.Contains(h.log.String(), "level=WARN"); warned != (test.status >= 500 && !ours) {
			t.Errorf("%v: logged as a warning: %t", test.err, warned)
		}
		if name, value, ok := strings.Cut(test.header, ": "); ok && a.Header.Get(name) != value {
			t.Errorf("%v: %s is %q", test.err, name, a.Header.Get(name))
		}
		if a := h.do("HEAD", "/v2/app/manifests/v1", ""); a.StatusCode != test.status || a.body != "" {
			t.Errorf("HEAD: %d %q", a.StatusCode, a.body)
		}
	}
}

type everyone struct{}

func (everyone) Authorize(*http.Request, []registry.Access) (registry.Actor, error) {
	return registry.Actor{Challenge: challenge}, nil
}

func TestErrorKinds(t *testing.T) {
	t.Parallel()
	err := fmt.Errorf("pull: %w", registry.ErrBlobUnknown.With("not here").Wrap(io.EOF))
	if !errors.Is(err, registry.ErrBlobUnknown) || !errors.Is(err, io.EOF) || errors.Is(err, registry.ErrNameUnknown) ||
		errors.Is(err, registry.ErrUploadUnknown) {
		t.Error("kinds are mixed up")
	}
	if errors.Is(registry.ErrUploadBusy, registry.ErrUploadInvalid) {
		t.Error("same code, other status: not the same kind")
	}
}

// given returns whatever manifest or blob it is given.
type given struct {
	registry.UnimplementedBackend
	registry.Unimplemented
	manifest registry.Manifest
	blob     registry.Blob
}

func (g given) Repository(context.Context, registry.Actor, string) (registry.Repository, error) {
	return g, nil
}

func (g given) Manifest(context.Context, registry.Ref) (registry.Manifest, error) {
	return g.manifest, nil
}

func (g given) Blob(context.Context, digest.Digest) (registry.Blob, error) { return g.blob, nil }

func TestWarningAndMediaTypes(t *testing.T) {
	t.Parallel()
	m := registry.Manifest{Digest: digest.FromString("{}"), MediaType: imageType, Bytes: []byte("{}"), Warning: "old: \"as of\"\r\nX-Evil: 1"}
	h := serve(t, given{manifest: m}, registry.Options{})
	a := h.must(200, "GET", "/v2/app/manifests/v1", "")
	if got := a.Header.Get("Warning"); got != `299 - "old:  as of   X-Evil: 1"` || a.Header.Get("X-Evil") != "" {
		t.Errorf("Warning %q", got)
	}
	for _, mediaType := range []string{"text/html", "image/svg+xml", "application/javascript", "", "application/x+json; charset=utf-8",
		"application/x+json\r\nX: y"} {
		m.MediaType = mediaType
		h := serve(t, given{manifest: m}, registry.Options{})
		if a := h.must(404, "GET", "/v2/app/manifests/v1", ""); a.code(t) != "MANIFEST_UNKNOWN" {
			t.Errorf("%q: %s", mediaType, a.body)
		}
	}
}

func TestLinksAreRedirects(t *testing.T) {
	t.Parallel()
	d := digest.FromString("x")
	b := registry.Blob{Digest: d, Size: 1, Link: "https://hold.test/blobs/x?t=1"}
	h := serve(t, given{blob: b}, registry.Options{})
	a := h.must(307, "GET", "/v2/app/blobs/"+d.String(), "")
	if a.Header.Get("Location") != b.Link || a.Header.Get("Cache-Control") != "private, no-store" {
		t.Errorf("headers %v", a.Header)
	}
	// A signature for GET does not hold for HEAD.
	a = h.must(200, "HEAD", "/v2/app/blobs/"+d.String(), "")
	if a.Header.Get("Location") != "" || a.Header.Get("Content-Length") != "1" || a.Header.Get("Docker-Content-Digest") != d.String() {
		t.Errorf("headers %v", a.Header)
	}
}

// A reader that can't seek still gives ranges, by asking the backend for them.
func TestRangesOfStreams(t *testing.T) {
	t.Parallel()
	text := "0123456789"
	b := registry.Blob{Digest: digest.FromString(text), Size: 10, Open: func(_ context.Context, r registry.Range) (io.ReadCloser, error) {
		if r.End == 0 {
			r.End = 10
		}
		return io.NopCloser(struct{ io.Reader }{strings.NewReader(text[r.Start:r.End])}), nil
	}}
	h := serve(t, given{blob: b}, registry.Options{})
	for header, want := range map[string]string{"bytes=2-4": "234", "bytes=-2": "89", "bytes=7-": "789", "bytes=0-1,3-4": text,
		"bytes=10-": ""} {
		a := h.do("GET", "/v2/app/blobs/"+b.Digest.String(), "", "Range", header)
		if want == "" {
			if a.StatusCode != 416 || a.Header.Get("Content-Range") != "bytes */10" {
				t.Errorf("%s: status %d, %v", header, a.StatusCode, a.Header)
			}
			a.code(t)
			continue
		}
		if a.body != want {
			t.Errorf("%s: %q, want %q", header, a.body, want)
		}
	}
}

func TestUnimplemented(t *testing.T) {
	t.Parallel()
	h := serve(t, struct{ registry.UnimplementedBackend }{}, registry.Options{})
	h.must(405, "GET", "/v2/app/manifests/v1", "")
	h.must(405, "GET", "/v2/_catalog", "")
	h = serve(t, failing{err: registry.ErrUnsupported}, registry.Options{})
	d := digest.FromString("x").String()
	for _, request := range []string{"GET /v2/app/manifests/v1", "DELETE /v2/app/manifests/v1", "DELETE /v2/app/manifests/" + d,
		"GET /v2/app/tags/list",
		"GET /v2/app/blobs/" + d, "DELETE /v2/app/blobs/" + d, "POST /v2/app/blobs/uploads/", "POST /v2/app/blobs/uploads/?mount=" +
			d, "PATCH /v2/app/blobs/uploads/x"} {
		method, path, _ := strings.Cut(request, " ")
		if a := h.must(405, method, path, ""); a.code(t) != "UNSUPPORTED" {
			t.Errorf("%s: %s", request, a.body)
		}
	}
	// Clients look for a tag in place of the list at 404 only.
	if a := h.must(404, "GET", "/v2/app/referrers/"+d, ""); a.code(t) != "UNSUPPORTED" {
		t.Errorf("referrers: %s", a.body)
	}
}
