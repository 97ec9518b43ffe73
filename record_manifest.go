package atcr

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/atcr-dev/atcr/internal/oci"
)

// Manifest is the record of an image manifest or index, io.atcr.manifest, in its owner's repository. ManifestBlob, the exact
// bytes, is the truth; the other fields are an index of it, and may lack what would have made the record too large.
type Manifest struct {
	Repository    string              `json:"repository" max:"255"`
	Digest        string              `json:"digest" max:"135"`
	MediaType     string              `json:"mediaType" max:"128"`
	SchemaVersion int                 `json:"schemaVersion"`
	Config        *BlobReference      `json:"config,omitempty"`
	Layers        []BlobReference     `json:"layers,omitempty"`
	Manifests     []ManifestReference `json:"manifests,omitempty"` // children of an index
	Subject       *BlobReference      `json:"subject,omitempty"`
	Annotations   map[string]string   `json:"annotations,omitempty"`
	HoldDID       string              `json:"holdDid,omitempty"` // see Hold
	// HoldEndpoint is the URL that older records have instead of HoldDID. It is read, never written anew.
	HoldEndpoint string   `json:"holdEndpoint,omitempty"`
	ManifestBlob *Blob    `json:"manifestBlob,omitempty"`
	CreatedAt    Datetime `json:"createdAt"`
	Extra        Extra    `json:"-"`
}

// NSID is [NSIDManifest].
func (*Manifest) NSID() string { return NSIDManifest }

// MarshalJSON writes the record with its $type and its unknown fields.
func (m Manifest) MarshalJSON() ([]byte, error) { return encode(NSIDManifest, &m, m.Extra) }

// UnmarshalJSON reads any form of it. Errors: [ErrRecord].
func (m *Manifest) UnmarshalJSON(data []byte) (err error) {
	*m = Manifest{}
	m.Extra, err = decode(data, NSIDManifest, m)
	return err
}

// Check implements [Record].
func (m *Manifest) Check() error {
	if err := check(NSIDManifest, m); err != nil {
		return err
	}
	if _, err := oci.ParseDigest(m.Digest); err != nil {
		return fmt.Errorf("%w %s: %w", ErrRecord, NSIDManifest, err)
	}
	return nil
}

// Hold is the DID of the hold that has the layers, from whichever field says it. Errors: [ErrDID], also when none does.
func (m *Manifest) Hold() (string, error) {
	if m.HoldDID != "" {
		return HoldDID(m.HoldDID)
	}
	return HoldDID(m.HoldEndpoint)
}

// OCIDigest is the digest, empty when the record's is none.
func (m *Manifest) OCIDigest() digest.Digest {
	d, err := oci.ParseDigest(m.Digest)
	if err != nil {
		return ""
	}
	return d
}

// MaxRecordSize is the size in bytes of JSON that [NewManifest] keeps a record under. PDSes take more; the oldest 150 KiB.
const MaxRecordSize = 100_000

// ManifestInput is what a manifest record is made of: a parsed manifest, and where it lies.
type ManifestInput struct {
	Repository string
	HoldDID    string
	Blob       *Blob // the manifest's bytes in the owner's repository
	CreatedAt  time.Time

	Digest        digest.Digest
	MediaType     string
	SchemaVersion int
	Config        *ocispec.Descriptor
	Layers        []ocispec.Descriptor
	Manifests     []ocispec.Descriptor
	Subject       *ocispec.Descriptor
	Annotations   map[string]string
}

// NewManifest makes the record of a manifest. A record that would come to more than [MaxRecordSize] leaves out whole fields:
// annotations first, then the annotations and urls of layers, then layers, then manifests; readers find them in the
// manifest's blob. Keys that begin with '$', which the data model keeps for itself, and text that is not UTF-8 never enter.
func NewManifest(in ManifestInput) *Manifest {
	m := &Manifest{
		Repository:    in.Repository,
		Digest:        string(in.Digest),
		MediaType:     in.MediaType,
		SchemaVersion: in.SchemaVersion,
		Config:        blobReferencePointer(in.Config),
		Subject:       blobReferencePointer(in.Subject),
		Annotations:   cleanMap(in.Annotations),
		HoldDID:       in.HoldDID,
		ManifestBlob:  in.Blob,
		CreatedAt:     NewDatetime(in.CreatedAt),
	}
	for _, d := range in.Layers {
		m.Layers = append(m.Layers, blobReference(d))
	}
	for _, d := range in.Manifests {
		m.Manifests = append(m.Manifests, manifestReference(d))
	}
	if 6*in.text() > MaxRecordSize { // JSON's escapes make text at most six times as long
		m.Shrink()
	}
	return m
}

// text is about how many bytes of text go into the record, names of fields included: an upper bound.
func (in ManifestInput) text() int {
	n := 1000 + len(in.Repository) + len(in.MediaType) + texts(in.Annotations)
	for _, d := range slices.Concat(in.Layers, in.Manifests) {
		n += 300 + len(d.MediaType) + len(d.Digest) + texts(d.Annotations)
		for _, u := range d.URLs {
			n += len(u) + 3
		}
		if d.Platform != nil {
			n += len(d.Platform.OS) + len(d.Platform.OSVersion) + len(d.Platform.Architecture) + len(d.Platform.Variant)
			for _, f := range d.Platform.OSFeatures {
				n += len(f) + 3
			}
		}
	}
	for _, d := range []*ocispec.Descriptor{in.Config, in.Subject} {
		if d != nil {
			n += 300 + len(d.MediaType) + len(d.Digest) + texts(d.Annotations) + len(strings.Join(d.URLs, "   "))
		}
	}
	return n
}

func texts(m map[string]string) (n int) {
	for k, v := range m {
		n += len(k) + len(v) + 6
	}
	return n
}

// Shrink leaves fields out until the record is under [MaxRecordSize], as [NewManifest] does. It is for a record whose
// unknown fields were carried over from an older one.
func (m *Manifest) Shrink() {
	steps := []func(){
		func() { m.Annotations = nil },
		func() {
			for i := range m.Layers {
				m.Layers[i].Annotations, m.Layers[i].URLs = nil, nil
			}
		},
		func() { m.Layers = nil },
		func() { m.Manifests = nil },
		// Descriptors stay, but a hostile one must not carry a megabyte along.
		func() {
			for _, r := range []*BlobReference{m.Config, m.Subject} {
				if r != nil {
					r.Annotations, r.URLs = nil, nil
				}
			}
		},
	}
	for _, step := range steps {
		if raw, err := m.MarshalJSON(); err == nil && len(raw) < MaxRecordSize {
			return
		}
		step()
	}
}

func blobReferencePointer(d *ocispec.Descriptor) *BlobReference {
	if d == nil {
		return nil
	}
	r := blobReference(*d)
	return &r
}

func blobReference(d ocispec.Descriptor) BlobReference {
	r := BlobReference{
		MediaType:   cleanText(d.MediaType),
		Size:        d.Size,
		Digest:      string(d.Digest),
		Annotations: cleanMap(d.Annotations),
	}
	for _, u := range d.URLs {
		if utf8.ValidString(u) {
			r.URLs = append(r.URLs, u)
		}
	}
	return r
}

func manifestReference(d ocispec.Descriptor) ManifestReference {
	r := ManifestReference{
		MediaType:   cleanText(d.MediaType),
		Size:        d.Size,
		Digest:      string(d.Digest),
		Annotations: cleanMap(d.Annotations),
	}
	if p := d.Platform; p != nil {
		r.Platform = &Platform{
			Architecture: cleanText(p.Architecture),
			OS:           cleanText(p.OS),
			OSVersion:    cleanText(p.OSVersion),
			Variant:      cleanText(p.Variant),
		}
		for _, f := range p.OSFeatures {
			r.Platform.OSFeatures = append(r.Platform.OSFeatures, cleanText(f))
		}
	}
	return r
}

func cleanText(s string) string { return strings.ToValidUTF8(s, "") }

// cleanMap leaves out the entries that a record can't have.
func cleanMap(in map[string]string) map[string]string {
	var out map[string]string
	for k, v := range in {
		if strings.HasPrefix(k, "$") || !utf8.ValidString(k) || !utf8.ValidString(v) {
			continue
		}
		if out == nil {
			out = make(map[string]string, len(in))
		}
		out[k] = v
	}
	return out
}
