package storage

import (
	"crypto/sha256"
	"crypto/sha512"
	"fmt"
	"hash"
	"strings"

	"github.com/opencontainers/go-digest"
)

// CheckDigest says whether a store can hold a blob under d. Errors: ErrDigestInvalid.
func CheckDigest(d digest.Digest) error {
	alg, hex, _ := strings.Cut(string(d), ":")
	want := -1
	switch digest.Algorithm(alg) {
	case digest.SHA256:
		want = 64
	case digest.SHA512:
		want = 128
	}
	if len(hex) != want || strings.Trim(hex, "0123456789abcdef") != "" {
		return fmt.Errorf("%w: %.200q: want sha256:<64 lower-case hex> or sha512:<128>", ErrDigestInvalid, string(d))
	}
	return nil
}

// NewHash gives the hash of an algorithm, which can also marshal its state. Errors: ErrDigestInvalid.
func NewHash(a digest.Algorithm) (hash.Hash, error) {
	switch a {
	case digest.SHA256:
		return sha256.New(), nil
	case digest.SHA512:
		return sha512.New(), nil
	}
	return nil, fmt.Errorf("%w: algorithm %q; use sha256 or sha512", ErrDigestInvalid, a)
}
