package atcr

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/atcr-dev/atcr/internal/oci"
)

// Reference names an image: HOST/IDENTITY/REPOSITORY[:TAG][@DIGEST]. [ParseReference] makes it; the zero value is none.
type Reference struct {
	Host       string // host[:port] in lower case; empty when the reference has none
	Identity   Identity
	Repository string // may have slashes
	Tag        string
	Digest     digest.Digest // sha256 or sha512
}

// ParseReference reads a reference in any spelling. HOST may be left out. It is there when the part after it is an identity
// that is followed by a repository, and when it looks like a host to docker: it has a dot or a port, or is localhost.
// Neither tag nor digest is made up. Errors: [ErrReference], [ErrIdentity].
func ParseReference(s string) (Reference, error) {
	var r Reference
	rest := s
	if i := strings.LastIndexByte(rest, '@'); i >= 0 {
		d, err := oci.ParseDigest(rest[i+1:])
		if err != nil {
			return Reference{}, fmt.Errorf("%w %q: %w", ErrReference, clip(s), err)
		}
		r.Digest, rest = d, rest[:i]
	}
	if i := strings.LastIndexByte(rest, ':'); i > strings.LastIndexByte(rest, '/') && strings.Contains(rest, "/") {
		if err := oci.CheckTag(rest[i+1:]); err != nil {
			return Reference{}, fmt.Errorf("%w %q: %w", ErrReference, clip(s), err)
		}
		r.Tag, rest = rest[i+1:], rest[:i]
	}
	if host, name, ok := cutHost(rest); ok {
		r.Host, rest = host, name
	}
	var err error
	if r.Identity, r.Repository, err = ParseName(rest); err != nil {
		return Reference{}, fmt.Errorf("reference %q: %w", clip(s), err)
	}
	return r, nil
}

// cutHost splits HOST off HOST/IDENTITY/REPOSITORY.
func cutHost(s string) (host, name string, ok bool) {
	host, name, ok = strings.Cut(s, "/")
	if !ok || strings.HasPrefix(host, "did:") {
		return "", "", false
	}
	host = strings.ToLower(host)
	second, _, ok := strings.Cut(name, "/")
	if !ok || !validHostPort(host) {
		return "", "", false
	}
	_, err := ParseIdentity(second)
	return host, name, err == nil
}

// validHostPort checks host, host:port, [IPv6] and [IPv6]:port, by docker's rule for what a host is.
func validHostPort(s string) bool {
	if !strings.ContainsAny(s, ".:") && s != "localhost" {
		return false
	}
	host := s
	if h, port, err := net.SplitHostPort(s); err == nil {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return false
		}
		if strings.Contains(h, ":") && s[0] != '[' {
			return false
		}
		host = h
		if s[0] == '[' {
			host = "[" + h + "]"
		}
	}
	if inner, ok := strings.CutPrefix(host, "["); ok {
		inner, ok = strings.CutSuffix(inner, "]")
		addr, err := netip.ParseAddr(inner)
		return ok && err == nil && addr.Is6() && addr.Zone() == ""
	}
	return validHost(host)
}

// Name is IDENTITY/REPOSITORY as clients of a registry write it.
func (r Reference) Name() string { return r.Identity.Path() + "/" + r.Repository }

// String is the reference in normal form, which [ParseReference] reads back and docker takes.
func (r Reference) String() string {
	s := r.Name()
	if r.Host != "" {
		s = r.Host + "/" + s
	}
	if r.Tag != "" {
		s += ":" + r.Tag
	}
	if r.Digest != "" {
		s += "@" + string(r.Digest)
	}
	return s
}
