package oci

import (
	// The two algorithms that go-digest is asked for must be linked in.
	_ "crypto/sha256"
	_ "crypto/sha512"
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"
)

// Limits of names, in bytes. The distribution specification sets the tag's; 255 for a name is what clients and
// registries agree on.
const (
	MaxNameLength = 255
	MaxTagLength  = 128
)

// CheckName checks a repository name: lower-case components of letters and digits, joined inside by one '.', one or two '_'
// or any number of '-', and separated by '/'. Errors: [ErrName].
func CheckName(name string) error {
	if name == "" {
		return fmt.Errorf("%w: it is empty", ErrName)
	}
	if len(name) > MaxNameLength {
		return fmt.Errorf("%w: it has %d bytes, the limit is %d", ErrName, len(name), MaxNameLength)
	}
	for component := range strings.SplitSeq(name, "/") {
		if !validComponent(component) {
			return fmt.Errorf("%w: component %q: use lower-case letters and digits, joined by '.', '_', '__' or '-'", ErrName, component)
		}
	}
	return nil
}

func validComponent(s string) bool {
	for i := 0; ; {
		start := i
		for i < len(s) && isLowerAlnum(s[i]) {
			i++
		}
		if i == start {
			return false
		}
		if i == len(s) {
			return true
		}
		switch s[i] {
		case '.':
			i++
		case '_':
			i++
			if i < len(s) && s[i] == '_' {
				i++
			}
		case '-':
			for i < len(s) && s[i] == '-' {
				i++
			}
		default:
			return false
		}
	}
}

func isLowerAlnum(c byte) bool { return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' }

// CheckTag checks a tag: at most 128 letters, digits, '_', '.' and '-', the first neither '.' nor '-'. Errors: [ErrTag].
func CheckTag(tag string) error {
	if tag == "" {
		return fmt.Errorf("%w: it is empty", ErrTag)
	}
	if len(tag) > MaxTagLength {
		return fmt.Errorf("%w: it has %d bytes, the limit is %d", ErrTag, len(tag), MaxTagLength)
	}
	for i := range len(tag) {
		c := tag[i]
		word := isLowerAlnum(c) || 'A' <= c && c <= 'Z' || c == '_'
		if !word && (i == 0 || c != '.' && c != '-') {
			return fmt.Errorf("%w %q: use letters, digits, '_', '.' and '-', beginning with a letter, a digit or '_'", ErrTag, tag)
		}
	}
	return nil
}

// ParseDigest reads a digest: "sha256:" and 64 or "sha512:" and 128 lower-case hexadecimal characters. Errors: [ErrDigest].
func ParseDigest(s string) (digest.Digest, error) {
	algorithm, hex, ok := strings.Cut(s, ":")
	if !ok {
		return "", fmt.Errorf("%w %q: write algorithm:hex", ErrDigest, clip(s))
	}
	var want int
	switch digest.Algorithm(algorithm) {
	case digest.SHA256:
		want = 64
	case digest.SHA512:
		want = 128
	default:
		return "", fmt.Errorf("%w %q: the algorithm must be sha256 or sha512", ErrDigest, clip(s))
	}
	if len(hex) != want {
		return "", fmt.Errorf("%w %q: %s has %d hexadecimal characters, not %d", ErrDigest, clip(s), algorithm, want, len(hex))
	}
	for i := range len(hex) {
		if c := hex[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return "", fmt.Errorf("%w %q: use lower-case hexadecimal characters", ErrDigest, clip(s))
		}
	}
	return digest.Digest(s), nil
}

// clip shortens untrusted text for an error message.
func clip(s string) string {
	const limit = 160
	if len(s) <= limit {
		return s
	}
	return s[:limit] + "…"
}
