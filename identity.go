package atcr

import (
	"fmt"
	"strings"

	"github.com/atcr-dev/atcr/internal/oci"
)

// Identity says whose a repository is, in one normal form: a lower-case handle or a DID.
type Identity string

// How a DID is written where OCI names forbid the colon. A handle always has a dot and never an underscore, so neither
// can be one: the first has no dot, since its rest is 24 characters of base32, and the second has underscores.
const (
	plcSpelling = "did-plc-"
	webSpelling = "did_web_"
)

// ParseIdentity reads a handle, a DID, or a DID in the spelling of [Identity.Path]. A handle is checked for its
// form (https://atproto.com/specs/handle), not resolved. Errors: [ErrIdentity].
func ParseIdentity(s string) (Identity, error) {
	if id, ok := strings.CutPrefix(s, plcSpelling); ok && validPLC(id) {
		return Identity("did:plc:" + id), nil
	}
	if host, ok := strings.CutPrefix(s, webSpelling); ok {
		s = "did:web:" + host
	}
	if strings.HasPrefix(s, "did:") {
		did, err := NormalizeDID(s)
		if err != nil {
			return "", fmt.Errorf("%w: %w", ErrIdentity, err)
		}
		return Identity(did), nil
	}
	handle := strings.ToLower(s)
	if !ValidHandle(handle) {
		return "", fmt.Errorf("%w %q: write a handle (alice.example.com), a DID, or did-plc- and its 24 characters", ErrIdentity, clip(s))
	}
	return Identity(handle), nil
}

// ValidHandle reports whether s has the form of a handle, in lower case: a host name of at least two labels, the last of which
// doesn't begin with a digit.
func ValidHandle(s string) bool {
	last := strings.LastIndexByte(s, '.')
	return last > 0 && validHost(s) && (s[last+1] < '0' || s[last+1] > '9')
}

// IsDID reports whether the identity is a DID and not a handle.
func (id Identity) IsDID() bool { return strings.HasPrefix(string(id), "did:") }

// Path is the identity as it stands in an OCI name: a handle as it is, a did:plc as did-plc-…, a did:web as did_web_HOST. It is
// empty for what no OCI name can carry: a did:web with a port, other methods, and host names beyond OCI's grammar.
func (id Identity) Path() string {
	s := string(id)
	if plc, ok := strings.CutPrefix(s, "did:plc:"); ok {
		s = plcSpelling + plc
	} else if host, ok := strings.CutPrefix(s, "did:web:"); ok {
		s = webSpelling + host
	}
	if oci.CheckName(s) != nil {
		return ""
	}
	return s
}

// String is the normal form: the handle or the DID.
func (id Identity) String() string { return string(id) }

// RewriteName makes a repository name that came in a URL legal by OCI's grammar: a DID with colons in its first part, as in
// did:plc:…/app, gets the spelling of [Identity.Path]. Every other name, also an invalid one, is answered unchanged.
func RewriteName(name string) string {
	first, rest, ok := strings.Cut(name, "/")
	if !ok || !strings.HasPrefix(first, "did:") {
		return name
	}
	id, err := ParseIdentity(first)
	if err != nil || id.Path() == "" {
		return name
	}
	return id.Path() + "/" + rest
}

// ParseName reads IDENTITY/REPOSITORY in any spelling. The repository may have slashes. Errors: [ErrIdentity], and
// [ErrReference] for the repository.
func ParseName(name string) (id Identity, repository string, err error) {
	first, repository, ok := strings.Cut(name, "/")
	if !ok {
		return "", "", fmt.Errorf("%w %q: write IDENTITY/REPOSITORY", ErrReference, clip(name))
	}
	if id, err = ParseIdentity(first); err != nil {
		return "", "", err
	}
	if id.Path() == "" {
		return "", "", fmt.Errorf("%w %q: no repository name can carry it: use its handle", ErrIdentity, clip(first))
	}
	if err := oci.CheckName(id.Path() + "/" + repository); err != nil {
		return "", "", fmt.Errorf("%w: %w", ErrReference, err)
	}
	return id, repository, nil
}
