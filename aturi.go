package atcr

import (
	"fmt"
	"strings"
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

// clip shortens a stranger's text for an error message.
func clip(s string) string {
	const limit = 160
	if len(s) <= limit {
		return s
	}
	return s[:limit] + "…"
}
