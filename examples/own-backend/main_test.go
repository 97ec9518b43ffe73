package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/crane"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	ociLayout "github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/random"

	"github.com/atcr-dev/atcr/registry"
)

func TestPull(t *testing.T) {
	dir := t.TempDir()
	path := must[ociLayout.Path](t)(ociLayout.Write(dir, must[v1.ImageIndex](t)(random.Index(100, 1, 0))))
	tags := map[string]string{"v1": "", "v2": ""}
	for tag := range tags {
		image := must[v1.Image](t)(random.Image(10_000, 2))
		if err := path.AppendImage(image, ociLayout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": tag})); err != nil {
			t.Fatal(err)
		}
		tags[tag] = must[v1.Hash](t)(image.Digest()).String()
	}
	srv := httptest.NewServer(registry.NewHandler(layout{dir: dir}, &registry.Options{Authorizer: readOnly{}}))
	defer srv.Close()
	host := strings.TrimPrefix(srv.URL, "http://")

	for tag, want := range tags {
		for _, ref := range []string{host + "/team/app:" + tag, host + "/team/app@" + want} {
			image, err := crane.Pull(ref)
			if err != nil {
				t.Fatal(err)
			}
			if d, err := image.Digest(); err != nil || d.String() != want {
				t.Errorf("%s: %s, %v; want %s", ref, d, err, want)
			}
			for _, layer := range must[[]v1.Layer](t)(image.Layers()) {
				// The reader checks the bytes against their digest.
				if _, err := io.Copy(io.Discard, must[io.ReadCloser](t)(layer.Compressed())); err != nil {
					t.Errorf("%s: %v", ref, err)
				}
			}
		}
	}
	if got, err := crane.ListTags(host + "/app"); err != nil || fmt.Sprint(got) != "[v1 v2]" {
		t.Errorf("tags %v, %v", got, err)
	}
	unknown := "sha256:" + strings.Repeat("0", 64)
	for _, path := range []string{"/v2/app/manifests/v3", "/v2/app/manifests/" + unknown, "/v2/app/blobs/" + unknown} {
		if res, err := http.Get(srv.URL + path); err != nil || res.StatusCode != http.StatusNotFound {
			t.Errorf("%s: %v, %v", path, res, err)
		}
	}
	image := must[v1.Image](t)(random.Image(100, 1))
	if err := crane.Push(image, host+"/app:v4"); err == nil || !strings.Contains(err.Error(), "read-only") {
		t.Errorf("a push: %v", err)
	}
}

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}
