package registry_test

import (
	"context"
	"io"
	"iter"
	"net/http"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/atcr-dev/atcr/registry"
)

// empty is a Backend whose methods return nothing and no error.
type empty struct {
	registry.UnimplementedBackend
	repo registry.Repository
}

func (e empty) Repository(context.Context, registry.Actor, string) (registry.Repository, error) {
	return e.repo, nil
}

func (empty) Repositories(context.Context, registry.Actor, string) iter.Seq2[string, error] {
	return nil
}

type emptyRepository struct {
	registry.Unimplemented
	blob registry.Blob
}

func (emptyRepository) Manifest(context.Context, registry.Ref) (registry.Manifest, error) {
	return registry.Manifest{}, nil
}

func (emptyRepository) Tags(context.Context, string) iter.Seq2[string, error] { return nil }

func (emptyRepository) Referrers(context.Context, digest.Digest, string, digest.Digest) iter.Seq2[ocispec.Descriptor, error] {
	return nil
}

func (r emptyRepository) Blob(context.Context, digest.Digest) (registry.Blob, error) {
	return r.blob, nil
}

func (emptyRepository) StartUpload(context.Context, registry.UploadHint) (registry.Upload, error) {
	return nil, nil
}

func (emptyRepository) Upload(context.Context, string) (registry.Upload, error) { return nil, nil }

// A method that returns nil without an error is a 500 that says so, and the log names the method.
func TestBackendReturnsNil(t *testing.T) {
	t.Parallel()
	d := digest.FromString("").String()
	noReader := registry.Blob{Size: 1, Open: func(context.Context, registry.Range) (io.ReadCloser, error) { return nil, nil }}
	for _, test := range []struct {
		method, path string
		repo         registry.Repository
		names        string
	}{
		{"GET", "/v2/_catalog", nil, "Backend.Repositories"},
		{"GET", "/v2/app/manifests/v1", nil, "Backend.Repository"},
		{"GET", "/v2/app/manifests/v1", emptyRepository{}, "Repository.Manifest"},
		{"GET", "/v2/app/tags/list", emptyRepository{}, "Repository.Tags"},
		{"GET", "/v2/app/referrers/" + d, emptyRepository{}, "Repository.Referrers"},
		{"GET", "/v2/app/blobs/" + d, emptyRepository{}, "Repository.Blob"},
		{"GET", "/v2/app/blobs/" + d, emptyRepository{blob: noReader}, "Blob.Open"},
		{"POST", "/v2/app/blobs/uploads/", emptyRepository{}, "Repository.StartUpload"},
		{"GET", "/v2/app/blobs/uploads/id", emptyRepository{}, "Repository.Upload"},
		{"PATCH", "/v2/app/blobs/uploads/id", emptyRepository{}, "Repository.Upload"},
		{"PUT", "/v2/app/blobs/uploads/id?digest=" + d, emptyRepository{}, "Repository.Upload"},
		{"DELETE", "/v2/app/blobs/uploads/id", emptyRepository{}, "Repository.Upload"},
	} {
		h := serve(t, empty{repo: test.repo}, registry.Options{Authorizer: everyone{}})
		a := h.must(500, test.method, test.path, "")
		if a.code(t) != "UNKNOWN" || !strings.Contains(a.body, "neither a result nor an error") {
			t.Errorf("%s %s: %s", test.method, test.path, a.body)
		}
		if log := h.log.String(); !strings.Contains(log, "level=ERROR") || !strings.Contains(log, test.names+" ") {
			t.Errorf("%s %s: the log names no %s: %s", test.method, test.path, test.names, log)
		}
	}
	// A link alone is enough, also for a HEAD.
	h := serve(t, empty{repo: emptyRepository{blob: registry.Blob{Size: 1, Link: "https://example.com/"}}},
		registry.Options{Authorizer: everyone{}})
	h.must(307, "GET", "/v2/app/blobs/"+d, "")
	h.must(200, "HEAD", "/v2/app/blobs/"+d, "")
}

// What is required is missed where it is left out, not at the first request.
func TestMissingArguments(t *testing.T) {
	t.Parallel()
	for want, f := range map[string]func(){
		"registry.NewHandler: backend is nil":         func() { registry.NewHandler(nil, nil) },
		"registry.Handler.WithFallback: other is nil": func() { registry.NewHandler(empty{}, nil).WithFallback(nil) },
	} {
		func() {
			defer func() {
				if got, _ := recover().(string); !strings.HasPrefix(got, want) {
					t.Errorf("panic %q, want %q", got, want)
				}
			}()
			f()
		}()
	}
	var _ http.Handler = registry.NewHandler(empty{}, nil) // options may be nil
}
