package pds

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
)

const (
	nsManifest = "io.atcr.manifest"
	nsTag      = "io.atcr.tag"
	nsProfile  = "io.atcr.sailor.profile"
)

// manifestRow is what the copy keeps of a manifest record.
type manifestRow struct {
	RKey, CID, Repository string
	Digest                digest.Digest
	Hold                  string // DID, or the URL of the oldest form
	MediaType             string
	Size                  int64  // 0 when the record doesn't say
	Blob                  string // CID of the exact bytes; empty in the oldest form
	Subject               digest.Digest
	Layers                []layer // config and layers
	LayersKnown           bool    // false: they were left out of the record, manifestBlob has them
	Extra                 bool    // the record has fields that we would not write
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
	Stamp                      string // updatedAt, else createdAt, in one layout: which of two records of one pair is newer
	Extra                      bool   // the record has fields that we would not write
}

type blobReference struct {
	MediaType string        `json:"mediaType"`
	Size      int64         `json:"size"`
	Digest    digest.Digest `json:"digest"`
}

// parseManifest reads a manifest record of any form. An error says why it is skipped.
func parseManifest(rkey, cid string, value []byte) (manifestRow, error) {
	var v struct {
		Repository   string            `json:"repository"`
		Digest       digest.Digest     `json:"digest"`
		MediaType    string            `json:"mediaType"`
		HoldDID      string            `json:"holdDid"`
		HoldEndpoint string            `json:"holdEndpoint"`
		Config       *blobReference    `json:"config"`
		Layers       []blobReference   `json:"layers"`
		Manifests    []json.RawMessage `json:"manifests"`
		Subject      *blobReference    `json:"subject"`
		ManifestBlob *blobRef          `json:"manifestBlob"`
	}
	if err := json.Unmarshal(value, &v); err != nil {
		return manifestRow{}, fmt.Errorf("not of the form: %w", err)
	}
	m := manifestRow{RKey: rkey, CID: cid, Repository: v.Repository, Digest: v.Digest, Hold: v.HoldDID, MediaType: v.MediaType}
	switch {
	case !validRepository(v.Repository):
		return m, errors.New("repository is missing or no valid name")
	case !validDigest(v.Digest):
		return m, errors.New("digest is missing or not sha256 or sha512")
	}
	if m.Hold == "" {
		m.Hold = holdOfURL(v.HoldEndpoint)
	}
	if !strings.HasPrefix(m.Hold, "did:") || len(m.Hold) > 255 {
		return m, errors.New("it names no hold")
	}
	if v.ManifestBlob != nil {
		m.Blob, m.Size = v.ManifestBlob.Ref.Link, v.ManifestBlob.Size
	}
	if v.Subject != nil && validDigest(v.Subject.Digest) {
		m.Subject = v.Subject.Digest
	}
	if v.Config != nil && validDigest(v.Config.Digest) {
		m.Layers = append(m.Layers, layer{v.Config.Digest, v.Config.Size})
	}
	for _, l := range v.Layers {
		if validDigest(l.Digest) {
			m.Layers = append(m.Layers, layer{l.Digest, l.Size})
		}
	}
	// With a config an empty list of layers is either true or left out for size; the bytes tell.
	m.LayersKnown = len(v.Layers) > 0 || len(v.Manifests) > 0 || m.Blob == ""
	return m, nil
}

// parseTag reads a tag record of any form.
func parseTag(owner, rkey, cid string, value []byte) (tagRow, error) {
	var v struct {
		Repository string        `json:"repository"`
		Tag        string        `json:"tag"`
		Manifest   string        `json:"manifest"`
		Digest     digest.Digest `json:"manifestDigest"`
		CreatedAt  string        `json:"createdAt"`
		UpdatedAt  string        `json:"updatedAt"`
	}
	if err := json.Unmarshal(value, &v); err != nil {
		return tagRow{}, fmt.Errorf("not of the form: %w", err)
	}
	t := tagRow{RKey: rkey, CID: cid, Repository: v.Repository, Tag: v.Tag, Stamp: v.UpdatedAt}
	if t.Stamp == "" {
		t.Stamp = v.CreatedAt
	}
	t.Stamp = stamp(t.Stamp)
	t.Extra = hasOthers(value, "$type", "repository", "tag", "manifest", "mediaType", "updatedAt")
	switch {
	case !validRepository(v.Repository):
		return t, errors.New("repository is missing or no valid name")
	case !validTag(v.Tag):
		return t, errors.New("tag is missing or no valid tag")
	}
	if path, ok := strings.CutPrefix(v.Manifest, "at://"+owner+"/"+nsManifest+"/"); ok && !strings.Contains(path, "/") && len(path) <= 512 {
		t.ManifestRKey = path
	}
	if validDigest(v.Digest) {
		t.Digest = v.Digest
	}
	if t.ManifestRKey == "" && t.Digest == "" {
		return t, errors.New("it names no manifest of this account")
	}
	return t, nil
}

// stamp brings a datetime into the one layout that sorts as text; what is none sorts first.
func stamp(s string) string {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return ""
	}
	return t.UTC().Format(stampLayout)
}

const stampLayout = "2006-01-02T15:04:05.000000000Z"

// hasOthers tells whether an object has fields besides the named ones.
func hasOthers(value []byte, known ...string) bool {
	var fields map[string]json.RawMessage
	if json.Unmarshal(value, &fields) != nil {
		return true
	}
	for k := range fields {
		if !slices.Contains(known, k) {
			return true
		}
	}
	return false
}

// decodeRecord reads a record so that what is not known to us survives a rewrite: numbers stay as they are written.
func decodeRecord(value []byte) (map[string]any, error) {
	dec := json.NewDecoder(bytes.NewReader(value))
	dec.UseNumber()
	var out map[string]any
	if err := dec.Decode(&out); err != nil {
		return nil, fmt.Errorf("record: %w", err)
	}
	return out, nil
}

// manifestURI is the at-uri of a manifest record.
func manifestURI(owner, rkey string) string { return "at://" + owner + "/" + nsManifest + "/" + rkey }

// Record keys as the wire contract has them.

func flatName(repository string) string { return strings.ReplaceAll(repository, "/", "~") }

func manifestRKey(d digest.Digest) string { return d.Encoded() }

func manifestRKeyOf(d digest.Digest, repository string) string {
	return shortKey(d.Encoded() + "~" + flatName(repository))
}

func tagRKey(repository, tag string) string { return shortKey(flatName(repository) + "_" + tag) }

func tagRKeyOnClash(repository, tag string) string { return shortKey(flatName(repository) + ":" + tag) }

// shortKey keeps a key within the 512 characters of the record-key syntax. Readers never rely on a key.
func shortKey(k string) string {
	if len(k) <= 512 {
		return k
	}
	return k[:512-65] + "~" + digest.SHA256.FromString(k).Encoded()
}

// holdOfURL turns the address in old records into the did:web of that host.
func holdOfURL(endpoint string) string {
	if strings.HasPrefix(endpoint, "did:") {
		return endpoint
	}
	u, err := url.Parse(endpoint)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return ""
	}
	return "did:web:" + strings.ReplaceAll(strings.ToLower(u.Host), ":", "%3A")
}

func validDigest(d digest.Digest) bool {
	if a := d.Algorithm(); len(d) > 135 || (a != digest.SHA256 && a != digest.SHA512) {
		return false
	}
	return d.Validate() == nil
}

// validRepository is the name grammar of the distribution specification, within one identity.
func validRepository(s string) bool {
	if s == "" || len(s) > 255 {
		return false
	}
	for _, part := range strings.Split(s, "/") {
		if !validComponent(part) {
			return false
		}
	}
	return true
}

// validComponent: [a-z0-9]+ joined by one of "." "_" "__" or a run of "-".
func validComponent(s string) bool {
	alnum := func(c byte) bool { return c >= 'a' && c <= 'z' || c >= '0' && c <= '9' }
	if s == "" || !alnum(s[0]) || !alnum(s[len(s)-1]) {
		return false
	}
	for i := 0; i < len(s); {
		if alnum(s[i]) {
			i++
			continue
		}
		j := i
		for j < len(s) && !alnum(s[j]) {
			j++
		}
		sep := s[i:j]
		if sep != "." && sep != "_" && sep != "__" && strings.Trim(sep, "-") != "" {
			return false
		}
		i = j
	}
	return true
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
