package registry_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/atcr-dev/atcr/registry"
	"github.com/atcr-dev/atcr/registry/local"
)

func tempDir() string {
	dir, err := os.MkdirTemp("", "registry")
	if err != nil {
		panic(err)
	}
	return dir
}

func get(h http.Handler, path string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest("GET", path, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// A registry beside the routes of a program.
func ExampleHandler_WithFallback() {
	dir := tempDir()
	defer os.RemoveAll(dir)
	backend, err := local.Open(context.Background(), dir)
	if err != nil {
		panic(err)
	}
	defer backend.Close()
	mux := http.NewServeMux()
	mux.HandleFunc("/hello", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "hello") })
	handler := registry.NewHandler(backend, &registry.Options{Log: slog.New(slog.DiscardHandler)}).WithFallback(mux)

	fmt.Println(get(handler, "/hello").Body)
	fmt.Println(get(handler, "/v2/").Code, get(handler, "/v2/app/tags/list").Code)
	// Output:
	// hello
	// 200 404
}

// readOnly lets everybody pull and nobody push.
type readOnly struct{}

func (readOnly) Authorize(_ *http.Request, wanted []registry.Access) (registry.Actor, error) {
	for _, access := range wanted {
		for _, action := range access.Actions {
			if action != registry.Pull {
				return registry.Actor{}, registry.ErrDenied.With("this registry is read-only")
			}
		}
	}
	return registry.Actor{}, nil
}

func ExampleAuthorizer() {
	handler := registry.NewHandler(oneImage{}, &registry.Options{Authorizer: readOnly{}})
	fmt.Println(get(handler, "/v2/hello/manifests/latest").Code)
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, httptest.NewRequest("POST", "/v2/hello/blobs/uploads/", nil))
	fmt.Println(w.Code, w.Body)
	// Output:
	// 200
	// 403 {"errors":[{"code":"DENIED","message":"this registry is read-only"}]}
}

// oneImage is a backend of one manifest. What it does not say is answered by what it embeds.
type oneImage struct {
	registry.UnimplementedBackend
	registry.Unimplemented
}

func (b oneImage) Repository(context.Context, registry.Actor, string) (registry.Repository, error) {
	return b, nil
}

func (oneImage) Manifest(_ context.Context, ref registry.Ref) (registry.Manifest, error) {
	bytes := []byte(`{"schemaVersion":2,"manifests":[]}`)
	if ref.Tag != "latest" && ref.Digest != digest.FromBytes(bytes) {
		return registry.Manifest{}, registry.ErrManifestUnknown
	}
	return registry.Manifest{Digest: digest.FromBytes(bytes), MediaType: indexType, Bytes: bytes}, nil
}

func ExampleBackend() {
	handler := registry.NewHandler(oneImage{}, &registry.Options{Log: slog.New(slog.DiscardHandler)})
	w := get(handler, "/v2/hello/manifests/latest")
	fmt.Println(w.Code, w.Header().Get("Content-Type"), w.Body)
	etag := w.Header().Get("ETag")
	fmt.Println(get(handler, "/v2/hello/manifests/latest", "If-None-Match", etag).Code)
	fmt.Println(get(handler, "/v2/hello/manifests/other").Body)
	fmt.Println(get(handler, "/v2/hello/tags/list").Code)
	// Output:
	// 200 application/vnd.oci.image.index.v1+json {"schemaVersion":2,"manifests":[]}
	// 304
	// {"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}
	// 405
}

func ExampleParseManifest() {
	m, err := registry.ParseManifest("", []byte(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",
		"config":{"mediaType":"application/vnd.example+json","digest":"sha256:`+strings.Repeat("a", 64)+`","size":2},"layers":[]}`), "")
	if err != nil {
		panic(err)
	}
	blobs, manifests := m.MustExist()
	fmt.Println(m.MediaType, len(blobs), len(manifests), m.Referrer().ArtifactType)

	_, err = registry.ParseManifest("text/html", []byte("<html>"), "")
	fmt.Println(err != nil)
	// Output:
	// application/vnd.oci.image.manifest.v1+json 1 0 application/vnd.example+json
	// true
}

func ExampleError_With() {
	err := registry.ErrDenied.With("%s is not yours", "alice.test/app")
	fmt.Println(err.Code, err.Status, err.Message)
	// Output: DENIED 403 alice.test/app is not yours
}

// An Authorizer that wants a name and password.
func ExampleError_WithChallenge() {
	err := registry.ErrUnauthorized.WithChallenge(`Basic realm="example"`)
	fmt.Println(err.Status, err.Challenge, errors.Is(err, registry.ErrUnauthorized), registry.ErrUnauthorized.Challenge == "")
	// Output: 401 Basic realm="example" true true
}

func ExampleOptions_name() {
	opts := &registry.Options{
		Authorizer: readOnly{},
		Name:       func(name string) (string, error) { return strings.ToLower(name), nil },
	}
	handler := registry.NewHandler(oneImage{}, opts)
	fmt.Println(get(handler, "/v2/Hello/manifests/latest").Code)
	// Output: 200
}
