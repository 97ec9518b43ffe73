package registry_test

import (
	"context"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/atcr-dev/atcr/registry"
)

// recorder notes every call that reaches a real backend.
type recorder struct {
	registry.Backend
	calls []string
}

func (r *recorder) note(format string, args ...any) {
	r.calls = append(r.calls, fmt.Sprintf(format, args...))
}

func (r *recorder) Repository(ctx context.Context, a registry.Actor, name string) (registry.Repository, error) {
	r.note("Repository %s", name)
	repo, err := r.Backend.Repository(ctx, a, name)
	return &recorded{repo, r}, err
}

func (r *recorder) Repositories(ctx context.Context, a registry.Actor, after string) iter.Seq2[string, error] {
	r.note("Repositories %q", after)
	return r.Backend.Repositories(ctx, a, after)
}

type recorded struct {
	registry.Repository
	r *recorder
}

func (p *recorded) Manifest(ctx context.Context, ref registry.Ref) (registry.Manifest, error) {
	p.r.note("Manifest %s%s", ref.Tag, ref.Digest)
	m, err := p.Repository.Manifest(ctx, ref)
	m.Pulled = func() { p.r.note("pulled") }
	return m, err
}

func (p *recorded) PutManifest(ctx context.Context, m registry.ParsedManifest, tags []string) error {
	p.r.note("PutManifest %s %v", m.Digest, tags)
	return p.Repository.PutManifest(ctx, m, tags)
}

func (p *recorded) DeleteManifest(ctx context.Context, d digest.Digest) error {
	p.r.note("DeleteManifest %s", d)
	return p.Repository.DeleteManifest(ctx, d)
}

func (p *recorded) DeleteTag(ctx context.Context, tag string) error {
	p.r.note("DeleteTag %s", tag)
	return p.Repository.DeleteTag(ctx, tag)
}

func (p *recorded) Tags(ctx context.Context, after string) iter.Seq2[string, error] {
	p.r.note("Tags %q", after)
	return p.Repository.Tags(ctx, after)
}

func (p *recorded) Referrers(ctx context.Context, d digest.Digest, artifactType string,
	after digest.Digest) iter.Seq2[ocispec.Descriptor, error] {
	p.r.note("Referrers %s %q %q", d, artifactType, after)
	return p.Repository.Referrers(ctx, d, artifactType, after)
}

func (p *recorded) Blob(ctx context.Context, d digest.Digest) (registry.Blob, error) {
	p.r.note("Blob %s", d)
	b, err := p.Repository.Blob(ctx, d)
	if open := b.Open; open != nil {
		b.Open = func(ctx context.Context, r registry.Range) (io.ReadCloser, error) {
			p.r.note("Open %d-%d", r.Start, r.End)
			return open(ctx, r)
		}
	}
	return b, err
}

func (p *recorded) DeleteBlob(ctx context.Context, d digest.Digest) error {
	p.r.note("DeleteBlob %s", d)
	return p.Repository.DeleteBlob(ctx, d)
}

func (p *recorded) Mount(ctx context.Context, d digest.Digest, from string) (ocispec.Descriptor, error) {
	p.r.note("Mount %s %s", d, from)
	return p.Repository.Mount(ctx, d, from)
}

func (p *recorded) StartUpload(ctx context.Context, hint registry.UploadHint) (registry.Upload, error) {
	p.r.note("StartUpload %s %d %s", hint.Digest, hint.Size, hint.Algorithm)
	return p.Repository.StartUpload(ctx, hint)
}

func (p *recorded) Upload(ctx context.Context, id string) (registry.Upload, error) {
	p.r.note("Upload")
	return p.Repository.Upload(ctx, id)
}

// Each request is exactly these calls: a pull is one.
func TestBackendCalls(t *testing.T) {
	t.Parallel()
	real := newHost(t, registry.Options{})
	m, md := real.image("app", "layer")
	child := real.pushImage("app", "child", "child")
	layer := digest.FromString("layer")
	rec := &recorder{Backend: real.backend}
	h := serve(t, rec, registry.Options{})
	var loc string
	for _, step := range []struct {
		method, path, body string
		header             []string
		status             int
		want               []string
	}{
		{"GET", "/v2/", "", nil, 200, nil},
		{"PUT", "/v2/app/manifests/v1", m, nil, 201, []string{"PutManifest " + md.String() + " [v1]"}},
		{"PUT", "/v2/app/manifests/" + md.String(), m, nil, 201, []string{"PutManifest " + md.String() + " []"}},
		{"PUT", "/v2/app/manifests/" + md.String() + "?tag=a&tag=b", m, nil, 201, []string{"PutManifest " + md.String() + " [a b]"}},
		{"PUT", "/v2/app/manifests/v1", "{", nil, 400, []string{}},
		{"GET", "/v2/app/manifests/v1", "", nil, 200, []string{"Manifest v1", "pulled"}},
		{"HEAD", "/v2/app/manifests/v1", "", nil, 200, []string{"Manifest v1"}},
		{"GET", "/v2/app/manifests/" + md.String(), "", nil, 200, []string{"Manifest " + md.String(), "pulled"}},
		{"GET", "/v2/app/manifests/v1", "", []string{"If-None-Match", `"` + md.String() + `"`}, 304, []string{"Manifest v1"}},
		{"GET", "/v2/app/blobs/" + layer.String(), "", nil, 200, []string{"Blob " + layer.String(), "Open 0-0"}},
		{"GET", "/v2/app/blobs/" + layer.String(), "", []string{"Range", "bytes=1-2"}, 206, []string{"Blob " + layer.String(), "Open 1-3"}},
		{"HEAD", "/v2/app/blobs/" + layer.String(), "", nil, 200, []string{"Blob " + layer.String()}},
		{"GET", "/v2/app/tags/list?n=1&last=a", "", nil, 200, []string{`Tags "a"`}},
		{"GET", "/v2/app/referrers/" + md.String() + "?artifactType=x", "", nil, 200, []string{"Referrers " + md.String() + ` "x" ""`}},
		{"GET", "/v2/_catalog?last=a", "", nil, 200, []string{`Repositories "a"`}},
		{"POST", "/v2/b/blobs/uploads/?mount=" + layer.String() + "&from=app", "", nil, 201, []string{"Mount " + layer.String() + " app"}},
		{"POST", "/v2/b/blobs/uploads/?mount=" + md.String() + "&from=app", "", nil, 202,
			[]string{"Mount " + md.String() + " app", "StartUpload  0 "}},
		{"POST", "/v2/b/blobs/uploads/?digest=" + layer.String(), "layer", nil, 201, []string{"StartUpload " + layer.String() + " 5 sha256"}},
		{"POST", "/v2/b/blobs/uploads/?digest-algorithm=sha512", "", nil, 202, []string{"StartUpload  0 sha512"}},
		{"PATCH", "upload", "lay", nil, 202, []string{"Upload"}},
		{"GET", "upload", "", nil, 204, []string{"Upload"}},
		{"PUT", "upload", "er", nil, 201, []string{"Upload"}},
		{"DELETE", "/v2/app/manifests/v1", "", nil, 202, []string{"DeleteTag v1"}},
		{"DELETE", "/v2/app/manifests/" + md.String(), "", nil, 202, []string{"DeleteManifest " + md.String()}},
		{"DELETE", "/v2/app/blobs/" + layer.String(), "", nil, 202, []string{"DeleteBlob " + layer.String()}},
		{"PUT", "/v2/app/manifests/child", "x", []string{"If-None-Match", "*", "Content-Type", imageType}, 400, []string{}},
		{"DELETE", "/v2/app/manifests/child", "", []string{"If-Match", `"x"`}, 412, []string{"Manifest child"}},
		{"DELETE", "/v2/app/manifests/child", "", []string{"If-Match", `"` + child.String() + `"`}, 202,
			[]string{"Manifest child", "DeleteTag child"}},
		{"GET", "/v2/app/nothing", "", nil, 404, nil},
	} {
		path := step.path
		if path == "upload" {
			path = loc
			if step.method == "PUT" {
				path += "?digest=" + layer.String()
			}
		}
		rec.calls = nil
		a := h.must(step.status, step.method, path, step.body, step.header...)
		if l := a.Header.Get("Location"); strings.Contains(l, "/uploads/") {
			loc = l
		}
		want := step.want
		if want != nil && !strings.HasPrefix(path, "/v2/_catalog") {
			want = slices.Insert(slices.Clone(want), 0, "Repository "+strings.Split(path, "/")[2])
		}
		if !slices.Equal(rec.calls, want) {
			t.Errorf("%s %s: calls %q, want %q", step.method, step.path, rec.calls, want)
		}
	}
}
