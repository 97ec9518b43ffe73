package atcr

import (
	"encoding/json"
	"fmt"
)

// Blob is a reference from a record to a blob in the same repository (https://atproto.com/specs/data-model, "Blob type"). The
// oldest form, {cid, mimeType}, is read with a Size of 0.
type Blob struct {
	CID      string
	MimeType string
	Size     int64 // bytes
}

type blobJSON struct {
	Type string `json:"$type"`
	Ref  struct {
		Link string `json:"$link"`
	} `json:"ref"`
	MimeType string `json:"mimeType"`
	Size     int64  `json:"size"`
}

// MarshalJSON writes the present form.
func (b Blob) MarshalJSON() ([]byte, error) {
	out := blobJSON{Type: "blob", MimeType: b.MimeType, Size: b.Size}
	out.Ref.Link = b.CID
	return json.Marshal(out)
}

// UnmarshalJSON reads both forms. Errors: [ErrRecord].
func (b *Blob) UnmarshalJSON(data []byte) error {
	var in struct {
		blobJSON
		CID string `json:"cid"`
	}
	if err := json.Unmarshal(data, &in); err != nil {
		return fmt.Errorf("%w: blob: %w", ErrRecord, err)
	}
	cid := in.Ref.Link
	if cid == "" {
		cid = in.CID
	}
	if cid == "" {
		return fmt.Errorf("%w: blob: ref is missing", ErrRecord)
	}
	*b = Blob{CID: cid, MimeType: in.MimeType, Size: in.Size}
	return nil
}

// BlobReference is a descriptor in a manifest record.
type BlobReference struct {
	MediaType   string            `json:"mediaType" max:"128"`
	Size        int64             `json:"size"` // bytes
	Digest      string            `json:"digest" max:"135"`
	URLs        []string          `json:"urls,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
	Extra       Extra             `json:"-"`
}

// MarshalJSON writes it with its unknown fields.
func (r BlobReference) MarshalJSON() ([]byte, error) { return encode("", &r, r.Extra) }

// UnmarshalJSON reads it. Errors: [ErrRecord].
func (r *BlobReference) UnmarshalJSON(data []byte) (err error) {
	*r = BlobReference{}
	r.Extra, err = decode(data, "", r)
	return err
}

// ManifestReference is a child of an index in a manifest record.
type ManifestReference struct {
	MediaType   string            `json:"mediaType" max:"128"`
	Size        int64             `json:"size"` // bytes
	Digest      string            `json:"digest" max:"135"`
	Platform    *Platform         `json:"platform,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
	Extra       Extra             `json:"-"`
}

// MarshalJSON writes it with its unknown fields.
func (r ManifestReference) MarshalJSON() ([]byte, error) { return encode("", &r, r.Extra) }

// UnmarshalJSON reads it. Errors: [ErrRecord].
func (r *ManifestReference) UnmarshalJSON(data []byte) (err error) {
	*r = ManifestReference{}
	r.Extra, err = decode(data, "", r)
	return err
}

// Platform says what an image runs on. Its names are the record's, not OCI's "os.version".
type Platform struct {
	Architecture string   `json:"architecture"`
	OS           string   `json:"os"`
	OSVersion    string   `json:"osVersion,omitempty"`
	OSFeatures   []string `json:"osFeatures,omitempty"`
	Variant      string   `json:"variant,omitempty"`
	Extra        Extra    `json:"-"`
}

// MarshalJSON writes it with its unknown fields.
func (p Platform) MarshalJSON() ([]byte, error) { return encode("", &p, p.Extra) }

// UnmarshalJSON reads it. Errors: [ErrRecord].
func (p *Platform) UnmarshalJSON(data []byte) (err error) {
	*p = Platform{}
	p.Extra, err = decode(data, "", p)
	return err
}
