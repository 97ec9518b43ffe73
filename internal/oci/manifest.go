package oci

import (
	"errors"
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Limits of a manifest. The distribution specification asks registries to take 4 MiB; the other two keep a hostile one from
// costing more than its size.
const (
	MaxManifestSize   = 4 << 20 // bytes
	MaxManifestDepth  = 32      // objects and lists inside each other
	MaxManifestValues = 250_000 // members and elements in all
)

// MaxManifestDigests is how many different blobs and manifests one manifest may name: as many as a hold keeps for an account that has
// pushed no manifest yet. [Manifest.CheckDigests] holds a manifest against it before it is taken; one that is read may name more.
const MaxManifestDigests = 10_000

// Manifest is a manifest or index that [ParseManifest] has read. Bytes is the truth; the rest says what stands there.
type Manifest struct {
	Digest    digest.Digest
	MediaType string
	Bytes     []byte // as given, not copied

	SchemaVersion int // 0 when the body has none, which only types unknown to us may
	ArtifactType  string
	Config        *ocispec.Descriptor  // nil when there is none
	Layers        []ocispec.Descriptor // also the blobs of an artifact manifest
	Manifests     []ocispec.Descriptor // of an index
	Subject       *ocispec.Descriptor  // nil when there is none; it need not exist
	Annotations   map[string]string

	Sparse bool // set by the caller: children that are manifests need not exist
}

// ParseManifest reads a manifest that came with a Content-Type header, which may be empty when the body tells the
// type. Digest will be the sha256.
//
// Refused are: more than 4 MiB ([ErrTooLarge]); a media type outside [CheckMediaType], or one in the body that is not
// the header's ([ErrMediaType]); text that is not UTF-8 or not JSON, duplicate keys, keys that are known ones in other
// capitals, deep nesting, descriptors without media type, digest or a size of at least 0, a body that is at once an
// image and an index (CVE-2021-41190), and a known type with another schemaVersion than 2 ([ErrManifest]).
//
// The keys of another application/*+json are its own: those that look like ours are read, so that its blobs are kept and found, and
// no other form of them is an error.
func ParseManifest(contentType string, body []byte) (*Manifest, error) {
	return ParseManifestAs(contentType, body, "")
}

// ParseManifestAs is [ParseManifest] for a manifest that was announced by its digest, sha256 or sha512. An empty digest means
// any. Errors: also [ErrDigest] and [ErrDigestMismatch].
func ParseManifestAs(contentType string, body []byte, want digest.Digest) (*Manifest, error) {
	if len(body) > MaxManifestSize {
		return nil, fmt.Errorf("%w: %d bytes, the limit is %d", ErrTooLarge, len(body), MaxManifestSize)
	}
	header, err := headerMediaType(contentType)
	if err != nil {
		return nil, err
	}
	m := &Manifest{Bytes: body}
	if want == "" {
		m.Digest = digest.SHA256.FromBytes(body)
	} else {
		if m.Digest, err = ParseDigest(want.String()); err != nil {
			return nil, err
		}
		if got := m.Digest.Algorithm().FromBytes(body); got != m.Digest {
			return nil, fmt.Errorf("%w: the manifest is %s, not %s", ErrDigestMismatch, got, want)
		}
	}
	b, err := decodeBody(body, header)
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrManifest, err)
	}
	if m.MediaType, err = b.resolveMediaType(header); err != nil {
		return nil, err
	}
	if err := b.check(m.MediaType); err != nil {
		return nil, fmt.Errorf("%w: %v", ErrManifest, err)
	}
	m.SchemaVersion = int(b.schemaVersion)
	m.ArtifactType = b.artifactType
	m.Config, m.Layers, m.Manifests, m.Subject = b.config, b.layers, b.manifests, b.subject
	m.Annotations = b.annotations
	if m.MediaType == MediaTypeArtifactManifest {
		blobs, err := b.artifactBlobs()
		if err != nil {
			return nil, err
		}
		m.Layers = append(m.Layers, blobs...)
	}
	return m, nil
}

// resolveMediaType finds the type from header and body, which must agree where both say one.
func (b *body) resolveMediaType(header string) (string, error) {
	mediaType := header
	switch {
	case header != "" && b.mediaType != "" && header != b.mediaType:
		return "", fmt.Errorf("%w: Content-Type is %q, mediaType in the body is %q", ErrMediaType, clip(header), clip(b.mediaType))
	case mediaType != "":
	case b.mediaType != "":
		mediaType = b.mediaType
	case b.has["manifests"] && !b.has["config"] && !b.has["layers"]:
		mediaType = ocispec.MediaTypeImageIndex
	case b.has["config"] && !b.has["manifests"]:
		mediaType = ocispec.MediaTypeImageManifest
	default:
		return "", fmt.Errorf("%w: neither Content-Type nor mediaType is set", ErrMediaType)
	}
	if err := CheckMediaType(mediaType); err != nil {
		return "", err
	}
	return mediaType, nil
}

// check applies the rules that depend on the media type.
func (b *body) check(mediaType string) error {
	if strings.HasPrefix(mediaType, dockerSchema1) {
		return errors.New("schemaVersion 1 is not supported: push schema 2 or an OCI manifest")
	}
	if !isKnownType(mediaType) {
		return nil
	}
	image, index := b.has["config"] || b.has["layers"], b.has["manifests"]
	if image && index {
		return errors.New("it has manifests as well as config or layers: it can't be an index and an image at once")
	}
	switch {
	case IsIndexType(mediaType):
		if image {
			return fmt.Errorf("%s can't have config or layers", mediaType)
		}
	case IsImageType(mediaType):
		if index {
			return fmt.Errorf("%s can't have manifests", mediaType)
		}
		if b.config == nil {
			return errors.New("config is missing")
		}
	default: // the artifact manifest, which has no version
		return nil
	}
	if b.schemaVersion != 2 {
		return fmt.Errorf("schemaVersion is %d, must be 2", b.schemaVersion)
	}
	return nil
}

// CheckDigests refuses a manifest that names more than [MaxManifestDigests] different digests, however often each. Errors: [ErrManifest].
func (m *Manifest) CheckDigests() error {
	named := len(m.Layers) + len(m.Manifests) + 2
	if named <= MaxManifestDigests {
		return nil
	}
	seen := make(map[digest.Digest]bool, named)
	for _, list := range [][]ocispec.Descriptor{m.Layers, m.Manifests} {
		for _, d := range list {
			seen[d.Digest] = true
		}
	}
	for _, d := range []*ocispec.Descriptor{m.Config, m.Subject} {
		if d != nil {
			seen[d.Digest] = true
		}
	}
	if len(seen) > MaxManifestDigests {
		return fmt.Errorf("%w: it names %d different blobs and manifests, the limit is %d", ErrManifest, len(seen), MaxManifestDigests)
	}
	return nil
}

// IsIndex reports whether the manifest names other manifests: its media type is an index type, or it is of a type unknown to
// us and has manifests.
func (m *Manifest) IsIndex() bool { return IsIndexType(m.MediaType) || len(m.Manifests) > 0 }

// Size is the length of Bytes.
func (m *Manifest) Size() int64 { return int64(len(m.Bytes)) }

// RequiredBlobs returns the blobs that have to exist before the manifest is taken, each digest once, in the order they
// stand: the config, the layers, and children of an index that are no manifests (build caches have them). Left out are
// layers that are nondistributable or have urls, which may lie elsewhere.
func (m *Manifest) RequiredBlobs() []ocispec.Descriptor {
	out := make([]ocispec.Descriptor, 0, len(m.Layers)+1)
	if m.Config != nil {
		out = append(out, *m.Config)
	}
	for _, d := range m.Layers {
		if len(d.URLs) == 0 && !isNondistributable(d.MediaType) {
			out = append(out, d)
		}
	}
	for _, d := range m.Manifests {
		if !isManifestType(d.MediaType) && len(d.URLs) == 0 {
			out = append(out, d)
		}
	}
	return unique(out)
}

// RequiredManifests returns the manifests of the same repository that have to exist before the manifest is taken, each
// digest once. The subject is not among them; with Sparse nothing is.
func (m *Manifest) RequiredManifests() []ocispec.Descriptor {
	if m.Sparse {
		return nil
	}
	var out []ocispec.Descriptor
	for _, d := range m.Manifests {
		if isManifestType(d.MediaType) {
			out = append(out, d)
		}
	}
	return unique(out)
}

// TwoSizes returns a digest that is named with two sizes, and both; of a type unknown to us as well. The lists of what is required have
// each digest once, so that their sizes alone don't show it.
func (m *Manifest) TwoSizes() (d digest.Digest, one, other int64, found bool) {
	sizes := make(map[digest.Digest]int64, len(m.Layers)+len(m.Manifests)+1)
	list := append(append([]ocispec.Descriptor{}, m.Layers...), m.Manifests...)
	if m.Config != nil {
		list = append(list, *m.Config)
	}
	for _, d := range list {
		if size, ok := sizes[d.Digest]; ok && size != d.Size {
			return d.Digest, size, d.Size, true
		}
		sizes[d.Digest] = d.Size
	}
	return "", 0, 0, false
}

// unique keeps the first of each digest, in place.
func unique(list []ocispec.Descriptor) []ocispec.Descriptor {
	seen := make(map[digest.Digest]bool, len(list))
	kept := list[:0]
	for _, d := range list {
		if !seen[d.Digest] {
			seen[d.Digest] = true
			kept = append(kept, d)
		}
	}
	return kept
}

// Descriptor describes the manifest by media type, digest and size.
func (m *Manifest) Descriptor() ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: m.MediaType, Digest: m.Digest, Size: m.Size()}
}

// Referrer is the manifest's entry in its subject's list of referrers (distribution specification, "Listing
// Referrers"): with its annotations, and an artifactType that an image without one takes from its config's media type.
func (m *Manifest) Referrer() ocispec.Descriptor {
	d := m.Descriptor()
	d.Annotations = m.Annotations
	d.ArtifactType = m.ArtifactType
	if d.ArtifactType == "" && m.Config != nil && !m.IsIndex() {
		d.ArtifactType = m.Config.MediaType
	}
	return d
}
