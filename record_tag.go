package atcr

import (
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/atcr-dev/atcr/internal/oci"
)

// Tag is the record of a tag, io.atcr.tag.
type Tag struct {
	Repository string `json:"repository" max:"255"`
	Tag        string `json:"tag" max:"128"`
	Manifest   string `json:"manifest,omitempty"` // at-uri of the manifest's record
	// ManifestDigest is what older records have instead of Manifest. It is kept in step where it is there.
	ManifestDigest string   `json:"manifestDigest,omitempty" max:"135"`
	MediaType      string   `json:"mediaType,omitempty" max:"255"`
	CreatedAt      Datetime `json:"createdAt,omitempty"` // older records
	UpdatedAt      Datetime `json:"updatedAt,omitempty"`
	Extra          Extra    `json:"-"`
}

// NSID is [NSIDTag].
func (*Tag) NSID() string { return NSIDTag }

// MarshalJSON writes the record with its $type and its unknown fields.
func (t Tag) MarshalJSON() ([]byte, error) { return encode(NSIDTag, &t, t.Extra) }

// UnmarshalJSON reads any form of it. Errors: [ErrRecord].
func (t *Tag) UnmarshalJSON(data []byte) (err error) {
	*t = Tag{}
	t.Extra, err = decode(data, NSIDTag, t)
	return err
}

// Check implements [Record].
func (t *Tag) Check() error { return check(NSIDTag, t) }

// Point makes the tag point to a manifest: the record at uri, with that digest and media type. It says whether anything
// changed; when not, now isn't written either.
func (t *Tag) Point(uri URI, d digest.Digest, mediaType string, now time.Time) bool {
	if t.Manifest == uri.String() && (t.ManifestDigest == "" || t.ManifestDigest == string(d)) && t.MediaType == mediaType {
		return false
	}
	t.Manifest, t.MediaType, t.UpdatedAt = uri.String(), mediaType, NewDatetime(now)
	if t.ManifestDigest != "" {
		t.ManifestDigest = string(d)
	}
	return true
}

// Target is what the tag points to: the manifest record's URI, which is zero in the oldest form, and the digest, as the record
// says it or as its URI's key suggests; the digest is empty when neither tells.
func (t *Tag) Target() (URI, digest.Digest) {
	uri, err := ParseURI(t.Manifest)
	if err == nil && uri.Collection == NSIDManifest {
		if d, ok := ManifestRKeyDigest(uri.RKey); ok {
			return uri, d
		}
	} else {
		uri = URI{}
	}
	d, err := oci.ParseDigest(t.ManifestDigest)
	if err != nil {
		return uri, ""
	}
	return uri, d
}

// Time is when the tag was last written, by whichever field says it.
func (t *Tag) Time() time.Time {
	if t.UpdatedAt != "" {
		return t.UpdatedAt.Time()
	}
	return t.CreatedAt.Time()
}

// NewTag makes the record of a tag that points to the manifest record at uri.
func NewTag(repository, tag string, uri URI, d digest.Digest, mediaType string, now time.Time) *Tag {
	t := &Tag{Repository: repository, Tag: tag}
	t.Point(uri, d, mediaType, now)
	return t
}
