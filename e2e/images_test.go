package e2e

import (
	"net/http"
	"strings"
	"testing"

	"github.com/atcr-dev/atcr/internal/realtest"
)

// imageSize is what a real image has at least, in MiB.
const imageSize = 51

// everyClient pushes a real image with each client, and pulls it back with that
// client and with another, by tag and by digest; nobody needs to sign in to pull.
func everyClient(t *testing.T, s *stack) {
	clients := realtest.Clients(t, s.Login)
	other := realtest.NewSkopeo(t, s.anonymous())
	for i, c := range clients {
		t.Run(c.Name(), func(t *testing.T) {
			img := realtest.Image(t, realtest.ImageOptions{SizeMB: imageSize, Layers: 4, Seed: uint64(100 + i)})
			if img.Size < 50<<20 {
				t.Fatalf("the image has %d bytes", img.Size)
			}
			repository := "app-" + c.Name()
			pushed := must(c.Push(img, s.ref(repository, ":v1")))(t)
			resp, body := do(t, s.anonymous(), http.MethodGet, "/v2/"+s.name(repository)+"/manifests/v1", "repository:"+s.name(repository)+
				":pull", nil)
			if got := resp.Header.Get("Docker-Content-Digest"); resp.StatusCode != http.StatusOK || got != pushed {
				t.Fatalf("the registry answers %s, digest %s; pushed %s\n%.500s", resp.Status, got, pushed, body)
			}
			if pulled := must(c.Pull(s.ref(repository, ":v1")))(t); pulled != pushed {
				t.Errorf("pulled %s by tag, pushed %s", pulled, pushed)
			}
			if pulled := must(other.Pull(s.ref(repository, "@"+pushed)))(t); pulled != pushed {
				t.Errorf("%s pulled %s by digest without sign-in, pushed %s", other.Name(), pulled, pushed)
			}
		})
	}
}

// imageIndex pushes an index of two platforms and pulls it with all of them.
func imageIndex(t *testing.T, s *stack) {
	index := realtest.Index(t, realtest.ImageOptions{Layers: 2, Seed: 200})
	crane, skopeo := realtest.NewCrane(t, s.Login), realtest.NewSkopeo(t, s.Login)
	if pushed := must(crane.PushIndex(index, s.ref("multi", ":v1")))(t); pushed != index.Digest {
		t.Fatalf("crane pushed %s, the index is %s", pushed, index.Digest)
	}
	bySkopeo := must(skopeo.PushIndex(index, s.ref("multi", ":v2")))(t)
	for tag, want := range map[string]string{":v1": index.Digest, ":v2": bySkopeo} {
		for _, c := range []realtest.Client{crane, skopeo} {
			if pulled := must(c.Pull(s.ref("multi", tag)))(t); pulled != want {
				t.Errorf("%s pulled %s as %s, pushed %s", c.Name(), tag, pulled, want)
			}
		}
	}
	for i, arch := range []string{"amd64", "arm64"} {
		got := must(crane.Run("digest", "--platform", "linux/"+arch, s.ref("multi", ":v1")))(t)
		if got != index.Manifests[i] {
			t.Errorf("%s is %s, want %s", arch, got, index.Manifests[i])
		}
	}
	podman := realtest.NewPodman(t, s.anonymous())
	if pulled := must(podman.Pull(s.ref("multi", ":v1")))(t); pulled != index.Digest && pulled != index.Manifests[0] {
		t.Errorf("podman pulled %s, want the index %s or its amd64 image %s", pulled, index.Digest, index.Manifests[0])
	}
}

// tags moves a tag, lists tags and deletes one.
func tags(t *testing.T, s *stack) {
	crane := realtest.NewCrane(t, s.Login)
	first := realtest.Image(t, realtest.ImageOptions{Layers: 1, Seed: 300})
	second := realtest.Image(t, realtest.ImageOptions{Layers: 1, Seed: 301})
	must(crane.Push(first, s.ref("tags", ":latest")))(t)
	must(crane.Push(first, s.ref("tags", ":v1")))(t)
	must(crane.Push(second, s.ref("tags", ":latest")))(t)
	for tag, want := range map[string]string{":latest": second.Digest, ":v1": first.Digest} {
		if got := must(crane.Run("digest", s.ref("tags", tag)))(t); got != want {
			t.Errorf("%s is %s, want %s", tag, got, want)
		}
	}
	if got := must(crane.Run("ls", s.ref("tags", "")))(t); got != "latest\nv1" {
		t.Errorf("tags %q", got)
	}
	must(crane.Run("delete", s.ref("tags", ":v1")))(t)
	if got := must(crane.Run("ls", s.ref("tags", "")))(t); got != "latest" {
		t.Errorf("tags after one was deleted: %q", got)
	}
	if out, err := crane.Run("digest", s.ref("tags", ":v1")); err == nil {
		t.Errorf("the deleted tag is %s", out)
	}
	if got := must(crane.Run("digest", s.ref("tags", "@"+first.Digest)))(t); got != first.Digest {
		t.Errorf("the manifest went with its tag: %s", got)
	}
}

// deleting a manifest takes its tags along and leaves the others.
func deleting(t *testing.T, s *stack) {
	crane := realtest.NewCrane(t, s.Login)
	gone := realtest.Image(t, realtest.ImageOptions{Layers: 2, Seed: 400})
	kept := realtest.Image(t, realtest.ImageOptions{Layers: 2, Seed: 401})
	for _, tag := range []string{":a", ":b"} {
		must(crane.Push(gone, s.ref("deleting", tag)))(t)
	}
	must(crane.Push(kept, s.ref("deleting", ":c")))(t)
	if s.atproto() {
		eventually(t, func() error { return s.holdKnows("deleting", gone.Digest, gone.Blobs) })
	}
	must(crane.Run("delete", s.ref("deleting", "@"+gone.Digest)))(t)
	if got := must(crane.Run("ls", s.ref("deleting", "")))(t); got != "c" {
		t.Errorf("tags left: %q", strings.Fields(got))
	}
	for _, suffix := range []string{":a", ":b", "@" + gone.Digest} {
		if out, err := crane.Run("digest", s.ref("deleting", suffix)); err == nil {
			t.Errorf("%s is still there: %s", suffix, out)
		}
	}
	if pulled := must(crane.Pull(s.ref("deleting", ":c")))(t); pulled != kept.Digest {
		t.Errorf("the other image is %s, want %s", pulled, kept.Digest)
	}
	if !s.atproto() {
		return
	}
	for _, r := range s.records(t, "io.atcr.manifest") {
		if r.Value["digest"] == gone.Digest {
			t.Errorf("manifest record left: %s", r.URI)
		}
	}
	for _, r := range s.records(t, "io.atcr.tag") {
		if strings.HasSuffix(r.URI, "/deleting_a") || strings.HasSuffix(r.URI, "/deleting_b") {
			t.Errorf("tag record left: %s", r.URI)
		}
	}
	eventually(t, func() error { return s.holdKnows("deleting", gone.Digest, nil) })
	eventually(t, func() error { return s.holdKnows("deleting", kept.Digest, kept.Blobs) })
}
