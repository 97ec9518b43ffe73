package pds_test

import (
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/atcr-dev/atcr/registry"
)

// index is one of an image.
func indexOf(t *testing.T, children ...ocispec.Descriptor) registry.ParsedManifest {
	return parse(t, ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: children})
}

// A manifest that gives what it names another size is refused before anything is written.
func TestSizesOfDescriptors(t *testing.T) {
	t.Parallel()
	w := newWorld(t, devnetPDS)
	img := newImage(t, "one", nil)
	w.push("app", img, "v1")
	r := w.repo("alice", "alice", "app")
	wrong := func(config, layer int64) registry.ParsedManifest {
		m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
			Config: *img.manifest.Config, Layers: []ocispec.Descriptor{img.manifest.Layers[0]}}
		m.Config.Size += config
		m.Layers[0].Size += layer
		return parse(t, m)
	}
	child := img.manifest.Descriptor()
	child.Size++
	for _, m := range []registry.ParsedManifest{wrong(1, 0), wrong(0, -1), indexOf(t, child)} {
		e := wantKind(t, r.PutManifest(t.Context(), m, []string{"bad"}), registry.ErrManifestInvalid)
		if e.Detail == nil {
			t.Error("no detail")
		}
	}
	_, err := r.Manifest(t.Context(), registry.Ref{Tag: "bad"})
	wantKind(t, err, registry.ErrManifestUnknown)
	child.Size--
	must(t, r.PutManifest(t.Context(), indexOf(t, child), []string{"index"}))
}

// A sparse index is one whose children need not be there, where the handler lets it.
func TestSparseIndex(t *testing.T) {
	t.Parallel()
	w := newWorld(t, devnetPDS)
	img := newImage(t, "one", nil)
	w.push("app", img, "v1")
	r := w.repo("alice", "alice", "app")
	m := indexOf(t, img.manifest.Descriptor(),
		ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString("elsewhere"), Size: 9})
	wantKind(t, r.PutManifest(t.Context(), m, []string{"multi"}), registry.ErrManifestBlobUnknown)
	m.Sparse = true
	must(t, r.PutManifest(t.Context(), m, []string{"multi"}))
	w.settled()
	got, err := w.repo("", "alice", "app").Manifest(t.Context(), registry.Ref{Tag: "multi"})
	must(t, err)
	if got.Digest != m.Digest {
		t.Errorf("got %s", got.Digest)
	}
}

// Tagged indexes are known as the parents of what they name.
func TestParents(t *testing.T) {
	t.Parallel()
	w := newWorld(t, devnetPDS)
	one, two := newImage(t, "one", nil), newImage(t, "two", nil)
	w.push("app", one, "v1")
	w.push("app", two, "v2")
	r := w.repo("alice", "alice", "app")
	m := indexOf(t, one.manifest.Descriptor())
	must(t, r.PutManifest(t.Context(), m, []string{"multi", "latest"}))
	must(t, r.PutManifest(t.Context(), indexOf(t, two.manifest.Descriptor()), nil)) // no tag points to it
	for d, want := range map[digest.Digest]int{one.manifest.Digest: 1, two.manifest.Digest: 0, m.Digest: 0} {
		got, err := r.Parents(t.Context(), d)
		must(t, err)
		if len(got) != want || want == 1 && (got[0].Digest != m.Digest || got[0].Tag != "latest") {
			t.Errorf("%s: %+v", d, got)
		}
	}
}
