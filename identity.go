package atcr

import (
	"fmt"
	"net"
	"net/url"
	"strconv"
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
// did:plc:…/app, gets the spelling of [Identity.Path]. Every other name, also an invalid one, is returned unchanged.
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

// CheckDID checks the syntax of a DID (https://atproto.com/specs/did): did:METHOD:ID, at most 2048 bytes. Errors: [ErrDID].
func CheckDID(did string) error {
	rest, ok := strings.CutPrefix(did, "did:")
	method, id, ok2 := strings.Cut(rest, ":")
	if !ok || !ok2 || method == "" || id == "" || len(did) > 2048 {
		return fmt.Errorf("%w %q: write did:METHOD:ID", ErrDID, clip(did))
	}
	for i := range len(method) {
		if method[i] < 'a' || method[i] > 'z' {
			return fmt.Errorf("%w %q: the method has lower-case letters only", ErrDID, clip(did))
		}
	}
	for i := range len(id) {
		if !isAlnum(id[i]) && !strings.Contains("._:%-", id[i:i+1]) {
			return fmt.Errorf("%w %q: a character that DIDs can't have", ErrDID, clip(did))
		}
	}
	if last := id[len(id)-1]; last == ':' || last == '%' {
		return fmt.Errorf("%w %q: it can't end in %q", ErrDID, clip(did), last)
	}
	if method == "plc" && !validPLC(id) {
		return fmt.Errorf("%w %q: a did:plc has 24 characters of a-z and 2-7", ErrDID, clip(did))
	}
	return nil
}

func validPLC(id string) bool {
	if len(id) != 24 {
		return false
	}
	for i := range len(id) {
		if c := id[i]; (c < 'a' || c > 'z') && (c < '2' || c > '7') {
			return false
		}
	}
	return true
}

// NormalizeDID brings a DID into the one form we compare and store. For did:web that is a lower-case host and a
// percent-encoded port: "did:web:127.0.0.1:8080", which people write in configuration files, becomes "did:web:127.0.0.1%3A8080".
// Other methods stay as they are. Errors: [ErrDID], also for a did:web with a path, which the AT Protocol doesn't have.
func NormalizeDID(did string) (string, error) {
	did = strings.TrimSpace(did)
	if err := CheckDID(did); err != nil {
		return "", err
	}
	id, ok := strings.CutPrefix(did, "did:web:")
	if !ok {
		return did, nil
	}
	host, err := url.PathUnescape(id)
	if err != nil {
		return "", fmt.Errorf("%w %q: %w", ErrDID, clip(did), err)
	}
	return didWeb(host, did)
}

// didWeb makes a did:web of host or host:port. given is for the message.
func didWeb(host, given string) (string, error) {
	name, port, hasPort := strings.Cut(strings.ToLower(host), ":")
	if !validHost(name) {
		return "", fmt.Errorf("%w %q: %q is no host name", ErrDID, clip(given), clip(name))
	}
	if !hasPort {
		return "did:web:" + name, nil
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || strconv.FormatUint(n, 10) != port {
		return "", fmt.Errorf("%w %q: %q is no port; a did:web can't have a path", ErrDID, clip(given), clip(port))
	}
	return "did:web:" + name + "%3A" + port, nil
}

// validHost reports whether s is a host name or an IPv4 address, in lower case.
func validHost(s string) bool {
	if s == "" || len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for i := range len(label) {
			if c := label[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
				return false
			}
		}
	}
	return true
}

// HoldDID reads how a hold was named anywhere: by its DID, or by its URL as older records and profiles do. The result is
// normalised as by [NormalizeDID]. Errors: [ErrDID].
func HoldDID(s string) (string, error) {
	s = strings.TrimSpace(s)
	if strings.HasPrefix(s, "did:") {
		return NormalizeDID(s)
	}
	return DIDFromURL(s)
}

// DIDFromURL is the did:web of a server's URL, http or https; a path is ignored, the scheme's own port left out. Errors: [ErrDID].
func DIDFromURL(raw string) (string, error) {
	u, err := url.Parse(raw)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil {
		return "", fmt.Errorf("%w: %q is neither a DID nor an http or https URL", ErrDID, clip(raw))
	}
	host := u.Host
	if port := u.Port(); port == "80" && u.Scheme == "http" || port == "443" && u.Scheme == "https" {
		host = u.Hostname()
	}
	return didWeb(host, raw)
}

// WebHost is the host[:port] of a did:web, empty for every other DID.
func WebHost(did string) string {
	did, err := NormalizeDID(did)
	if err != nil {
		return ""
	}
	id, ok := strings.CutPrefix(did, "did:web:")
	if !ok {
		return ""
	}
	host, _ := url.PathUnescape(id)
	return host
}

// DIDWebURL is the origin of a did:web's server, empty for every other DID: https, except that under test mode a loopback
// host is spoken to by http.
func DIDWebURL(did string, testMode bool) string {
	host := WebHost(did)
	switch {
	case host == "":
		return ""
	case testMode && IsLoopbackHost(host):
		return "http://" + host
	default:
		return "https://" + host
	}
}

// IsLoopbackHost reports whether host or host:port is localhost, a name under .localhost, or a loopback address.
func IsLoopbackHost(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.ToLower(strings.Trim(host, "[]"))
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// SameDID reports whether two DIDs are the same after [NormalizeDID]. Under test mode the did:web of 127.0.0.1 and
// of localhost with the same port are one, since PDSes mint no tokens for the first.
func SameDID(a, b string, testMode bool) bool {
	na, errA := NormalizeDID(a)
	nb, errB := NormalizeDID(b)
	if errA != nil || errB != nil {
		return false
	}
	return na == nb || testMode && loopbackForm(na) == loopbackForm(nb)
}

// LoopbackTwin is the other spelling of a loopback did:web: localhost for 127.0.0.1 and the other way round, with the same
// port. It is empty for any other DID.
func LoopbackTwin(did string) string {
	did, err := NormalizeDID(did)
	if err != nil {
		return ""
	}
	for _, pair := range [][2]string{{"localhost", "127.0.0.1"}, {"127.0.0.1", "localhost"}} {
		if rest, ok := strings.CutPrefix(did, "did:web:"+pair[0]); ok && (rest == "" || rest[0] == '%') {
			return "did:web:" + pair[1] + rest
		}
	}
	return ""
}

// loopbackForm writes 127.0.0.1 as localhost.
func loopbackForm(did string) string {
	if twin := LoopbackTwin(did); strings.HasPrefix(twin, "did:web:localhost") {
		return twin
	}
	return did
}
