package atcr

import (
	"fmt"

	"github.com/opencontainers/go-digest"

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
