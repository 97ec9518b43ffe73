package storage_test

import (
	"errors"
	"regexp"
	"strings"
	"testing"

	"github.com/atcr-dev/atcr/storage"
	"github.com/opencontainers/go-digest"
)

var allowed = regexp.MustCompile(`\A(sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})\z`)

func FuzzCheckDigest(f *testing.F) {
	for _, seed := range []string{
		digest.FromString("a").String(), digest.SHA512.FromString("a").String(), digest.SHA384.FromString("a").String(),
		"", ":", "sha256:", "sha256", strings.ToUpper(digest.FromString("a").String()), "sha256:" + strings.Repeat("a", 63) + "\n",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		err := storage.CheckDigest(digest.Digest(s))
		if (err == nil) != allowed.MatchString(s) {
			t.Errorf("%q: %v", s, err)
		}
		if err != nil && !errors.Is(err, storage.ErrDigestInvalid) {
			t.Errorf("%q: %v is not ErrDigestInvalid", s, err)
		}
	})
}
