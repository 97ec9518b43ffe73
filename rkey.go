package atcr

import (
	"crypto/sha256"
	"encoding/base32"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/atcr-dev/atcr/internal/oci"
)

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
