package atcr

import (
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/atcr-dev/atcr/internal/oci"
)

// URI names a record: at://DID/COLLECTION/RKEY (https://atproto.com/specs/at-uri-scheme).
type URI struct {
	DID        string
	Collection string
	RKey       string
}

// ParseURI reads the at:// URI of a record. The authority must be a DID: a handle in a record could come to mean somebody
// else. Errors: [ErrURI].
func ParseURI(s string) (URI, error) {
	rest, ok := strings.CutPrefix(s, "at://")
	if !ok {
		return URI{}, fmt.Errorf("%w %q: it must begin with at://", ErrURI, clip(s))
	}
	did, rest, _ := strings.Cut(rest, "/")
	collection, rkey, ok := strings.Cut(rest, "/")
	if !ok {
		return URI{}, fmt.Errorf("%w %q: write at://DID/COLLECTION/RKEY", ErrURI, clip(s))
	}
	if err := CheckDID(did); err != nil {
		return URI{}, fmt.Errorf("%w %q: %w", ErrURI, clip(s), err)
	}
	if !validNSID(collection) {
		return URI{}, fmt.Errorf("%w %q: %q is no collection", ErrURI, clip(s), clip(collection))
	}
	if !ValidRKey(rkey) {
		return URI{}, fmt.Errorf("%w %q: %q is no record key", ErrURI, clip(s), clip(rkey))
	}
	return URI{did, collection, rkey}, nil
}

// String is the URI as text; the zero value is empty.
func (u URI) String() string {
	if u == (URI{}) {
		return ""
	}
	return "at://" + u.DID + "/" + u.Collection + "/" + u.RKey
}

// ValidRKey reports whether s can be a record key: 1 to 512 letters, digits and ".-_:~", not "." or "..".
func ValidRKey(s string) bool {
	if s == "" || len(s) > 512 || s == "." || s == ".." {
		return false
	}
	for i := range len(s) {
		if !isAlnum(s[i]) && !strings.Contains(".-_:~", s[i:i+1]) {
			return false
		}
	}
	return true
}

// validNSID checks the shape of a collection name, loosely: labels of letters, digits and hyphens, three at least.
func validNSID(s string) bool {
	if len(s) > 317 {
		return false
	}
	labels := strings.Split(s, ".")
	for _, label := range labels {
		if label == "" || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for i := range len(label) {
			if !isAlnum(label[i]) && label[i] != '-' {
				return false
			}
		}
	}
	return len(labels) >= 3
}

func isAlnum(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

// clip shortens untrusted text for an error message.
func clip(s string) string {
	const limit = 160
	if len(s) <= limit {
		return s
	}
	return s[:limit] + "…"
}

// ManifestRKey is the key of a manifest record: the hexadecimal part of its digest.
func ManifestRKey(d digest.Digest) string {
	_, hex, _ := strings.Cut(string(d), ":")
	return hex
}

// ManifestRKeyIn is the key of a manifest record when [ManifestRKey] is taken by the same manifest in another
// repository of the owner.
func ManifestRKeyIn(repository string, d digest.Digest) string {
	return ManifestRKey(d) + "~" + RepoPageRKey(repository)
}

// ManifestRKeyDigest guesses the digest from a record key of either form. It is a hint where to look: the record
// itself says what it is.
func ManifestRKeyDigest(rkey string) (digest.Digest, bool) {
	hex, _, _ := strings.Cut(rkey, "~")
	algorithm := digest.SHA256
	if len(hex) == 128 {
		algorithm = digest.SHA512
	}
	d, err := oci.ParseDigest(string(algorithm) + ":" + hex)
	return d, err == nil
}

// TagRKey is the key of a tag record.
func TagRKey(repository, tag string) string { return RepoPageRKey(repository) + "_" + tag }

// TagRKeyClash is the key of a tag record when [TagRKey] is taken by another pair: repository "a_b" with tag "c"
// and repository "a" with tag "b_c" have the same.
func TagRKeyClash(repository, tag string) string { return RepoPageRKey(repository) + ":" + tag }

// RepoPageRKey is the key of a repository's page: its name with '~' for '/', which keys can't have.
func RepoPageRKey(repository string) string { return strings.ReplaceAll(repository, "/", "~") }

// RepoPageRepository is the repository that a key made by [RepoPageRKey] belongs to.
func RepoPageRepository(rkey string) string { return strings.ReplaceAll(rkey, "~", "/") }

// CrewRKey is the key of a member's crew record.
func CrewRKey(member string) string { return shortHash(member) }

// StatsRKey is the key of a repository's record of pulls and pushes at a hold.
func StatsRKey(ownerDID, repository string) string { return shortHash(ownerDID + "/" + repository) }

// ScanRKey is the key of a manifest's scan record: a new scan replaces the old.
func ScanRKey(d digest.Digest) string { return ManifestRKey(d) }

// shortHash is the first 16 bytes of the sha256 as lower-case base32 without padding.
func shortHash(s string) string {
	sum := sha256.Sum256([]byte(s))
	return strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(sum[:16]))
}
