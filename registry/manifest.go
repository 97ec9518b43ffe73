package registry

import (
	"errors"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/atcr-dev/atcr/internal/oci"
)

// ParsedManifest is an image manifest, an index or another manifest of type application/*+json that was read and checked. The keys of
// a type that isn't OCI's or docker's are its own: what looks like ours there is read as ours, anything else is left alone.
// Bytes is the truth; the other fields say what stands there. It is read-only, its slices and maps as well.
type ParsedManifest struct {
	Digest    digest.Digest // of Bytes: sha256, or what the client pushed it under
	MediaType string        // without parameters; Content-Type and mediaType in the body agree
	Bytes     []byte        // exactly as pushed

	SchemaVersion int    // 2; 0 when absent, which only types unknown to us may
	ArtifactType  string // as in the manifest; see Referrer for what an image without one counts as
	Config        *ocispec.Descriptor
	Layers        []ocispec.Descriptor // with their order and repetitions; also the blobs of an artifact manifest
	Manifests     []ocispec.Descriptor // children of an index
	Subject       *ocispec.Descriptor  // need not exist
	Annotations   map[string]string

	Sparse bool // children that are manifests need not exist: see Options.SparseIndexes
}

// ParseManifest reads a manifest's bytes, which it keeps. contentType may be empty when the body tells its type. want is the
// digest that the bytes must have; when it is empty the digest will be sha256.
//
// Errors: ErrManifestInvalid (not JSON, duplicate keys, an image and an index at once, descriptors without digest or size,
// a media type that is no OCI or docker type nor application/*+json …), ErrManifestTooLarge (over 4 MiB), ErrDigestInvalid.
func ParseManifest(contentType string, body []byte, want digest.Digest) (ParsedManifest, error) {
	m, err := oci.ParseManifestAs(contentType, body, want)
	switch {
	case err == nil:
		return ParsedManifest(*m), nil
	case errors.Is(err, oci.ErrTooLarge):
		return ParsedManifest{}, ErrManifestTooLarge.With("%v", err)
	case errors.Is(err, oci.ErrDigest), errors.Is(err, oci.ErrDigestMismatch):
		return ParsedManifest{}, ErrDigestInvalid.With("%v", err)
	}
	return ParsedManifest{}, ErrManifestInvalid.With("%v", err)
}

// MustExist returns what has to be in the repository before the manifest is taken, each digest once: blobs (the config,
// layers, and those children of an index that are blobs, as in build caches) and manifests (the other children).
// Left out are the subject, layers that are nondistributable or have urls, and with Sparse all manifests. A backend that has one of them
// in another size than its descriptor says returns [ParsedManifest.CheckSize]'s error: whoever pulls would stumble over it.
func (m ParsedManifest) MustExist() (blobs, manifests []ocispec.Descriptor) {
	o := oci.Manifest(m)
	return o.RequiredBlobs(), o.RequiredManifests()
}

// CheckSize compares what a manifest says of the size of something with its size here. Errors: ErrManifestInvalid.
func (m ParsedManifest) CheckSize(d ocispec.Descriptor, size int64) error {
	if d.Size == size {
		return nil
	}
	return ErrManifestInvalid.With("%s has %d bytes, the manifest says %d", d.Digest, size, d.Size).
		WithDetail(map[string]any{"digest": d.Digest, "size": size})
}

// IsIndex reports whether it names other manifests.
func (m ParsedManifest) IsIndex() bool {
	o := oci.Manifest(m)
	return o.IsIndex()
}

// Descriptor describes the manifest by media type, digest and size.
func (m ParsedManifest) Descriptor() ocispec.Descriptor {
	o := oci.Manifest(m)
	return o.Descriptor()
}

// Referrer is the manifest's entry in its subject's list of referrers: with its annotations, and an artifactType that an
// image without one takes from its config (distribution specification, "Listing Referrers").
func (m ParsedManifest) Referrer() ocispec.Descriptor {
	o := oci.Manifest(m)
	return o.Referrer()
}

// Manifest is the manifest as it is served.
func (m ParsedManifest) Manifest() Manifest {
	return Manifest{Digest: m.Digest, MediaType: m.MediaType, Bytes: m.Bytes}
}

// HasChild reports whether it is an index that has d as a child: see [Repository].Parents.
func (m Manifest) HasChild(d digest.Digest) bool {
	p, err := oci.ParseManifestAs(m.MediaType, m.Bytes, "")
	return err == nil && slices.ContainsFunc(p.Manifests, func(c ocispec.Descriptor) bool { return c.Digest == d })
}
