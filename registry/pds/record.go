package pds

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"

	"github.com/atcr-dev/atcr"
)

// manifestRow is what the copy keeps of a manifest record.
type manifestRow struct {
	RKey, CID, Repository string
	Digest                digest.Digest
	Hold                  string // DID
	MediaType             string
	Size                  int64  // 0 when the record doesn't say
	Blob                  string // CID of the exact bytes; empty in the oldest form
	Subject               digest.Digest
	Layers                []layer // config and layers
	LayersKnown           bool    // false: they were left out of the record, manifestBlob has them
	Proved                bool    // the signed repository was seen to hold it
}

type layer struct {
	Digest digest.Digest
	Size   int64
}

// tagRow is what the copy keeps of a tag record.
type tagRow struct {
	RKey, CID, Repository, Tag string
	ManifestRKey               string // of the at-uri; empty when the record has only a digest
	Digest                     digest.Digest
	Stamp                      string // when it was written, in one layout: which of two records of one pair is newer
	Extra                      bool   // the record has fields that a new one would not have
	Proved                     bool   // the signed repository was seen to hold it
}

// readManifest reads a manifest record of any form. An error says why it is skipped.
func readManifest(rkey, cid string, value []byte) (manifestRow, error) {
	var v atcr.Manifest
	if err := json.Unmarshal(value, &v); err != nil {
		return manifestRow{}, err
	}
	return manifestOf(rkey, cid, &v)
}

func manifestOf(rkey, cid string, v *atcr.Manifest) (manifestRow, error) {
	m := manifestRow{RKey: rkey, CID: cid, Repository: v.Repository, Digest: v.OCIDigest(), MediaType: v.MediaType}
	switch {
	case !validRepository(v.Repository):
		return m, errors.New("repository is missing or no valid name")
	case m.Digest == "":
		return m, errors.New("digest is missing or not sha256 or sha512")
	}
	var err error
	if m.Hold, err = v.Hold(); err != nil {
		return m, fmt.Errorf("hold: %w", err)
	}
	if v.ManifestBlob != nil {
		m.Blob, m.Size = v.ManifestBlob.CID, v.ManifestBlob.Size
	}
	if v.Subject != nil {
		m.Subject = digestOr(v.Subject.Digest)
	}
	refs := v.Layers
	if v.Config != nil {
		refs = append([]atcr.BlobReference{*v.Config}, refs...)
	}
	for _, l := range refs {
		if d := digestOr(l.Digest); d != "" {
			m.Layers = append(m.Layers, layer{d, max(l.Size, 0)})
		}
	}
	// A list that is empty is either true or was left out for size; the bytes tell.
	m.LayersKnown = len(v.Layers) > 0 || len(v.Manifests) > 0 || m.Blob == ""
	return m, nil
}

// readTag reads a tag record of any form.
func readTag(owner, rkey, cid string, value []byte) (tagRow, error) {
	var v atcr.Tag
	if err := json.Unmarshal(value, &v); err != nil {
		return tagRow{}, err
	}
	return tagOf(owner, rkey, cid, &v)
}

func tagOf(owner, rkey, cid string, v *atcr.Tag) (tagRow, error) {
	t := tagRow{RKey: rkey, CID: cid, Repository: v.Repository, Tag: v.Tag, Digest: digestOr(v.ManifestDigest)}
	if at := v.Time(); !at.IsZero() {
		t.Stamp = at.UTC().Format(stampLayout)
	}
	t.Extra = len(v.Extra) > 0 || v.CreatedAt != "" || v.ManifestDigest != ""
	switch {
	case !validRepository(v.Repository):
		return t, errors.New("repository is missing or no valid name")
	case !validTag(v.Tag):
		return t, errors.New("tag is missing or no valid tag")
	}
	if uri, err := atcr.ParseURI(v.Manifest); err == nil && uri.DID == owner && uri.Collection == atcr.NSIDManifest {
		t.ManifestRKey = uri.RKey
	}
	if t.ManifestRKey == "" && t.Digest == "" {
		return t, errors.New("it names no manifest of this account")
	}
	return t, nil
}

const stampLayout = "2006-01-02T15:04:05.000000000Z"

// digestOr returns a digest that we take, else an empty one.
func digestOr(s string) digest.Digest {
	m := atcr.Manifest{Digest: s}
	return m.OCIDigest()
}

// validRepository is the grammar of names within an identity.
func validRepository(s string) bool {
	_, _, err := atcr.ParseName("did:plc:aaaaaaaaaaaaaaaaaaaaaaaa/" + s)
	return err == nil && len(s) <= 255
}

func validTag(s string) bool {
	if s == "" || len(s) > 128 || s[0] == '.' || s[0] == '-' {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '.' || c == '-') {
			return false
		}
	}
	return true
}
