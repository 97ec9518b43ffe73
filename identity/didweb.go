package identity

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"github.com/atcr-dev/atcr"
)

// NormalizeDID is atcr.NormalizeDID with indigo's type: the one spelling of a DID that is compared and sent. A port that was
// written out (did:web:127.0.0.1:8080, as people put it in configuration files) is percent-encoded.
func NormalizeDID(s string) (syntax.DID, error) {
	did, err := atcr.NormalizeDID(s)
	return syntax.DID(did), err
}

// ParseOwner reads whose a repository is, as atcr.ParseIdentity does: a handle, a DID, or a DID in the spelling that
// OCI names can carry (did-plc-…, did_web_…). What it answers has one spelling.
func ParseOwner(s string) (syntax.AtIdentifier, error) {
	id, err := atcr.ParseIdentity(s)
	if err != nil {
		return "", err
	}
	return syntax.ParseAtIdentifier(id.String())
}

// WebDID answers the did:web of a service's public URL: https and a host name without a port. Under test mode the
// scheme may be http and the host may be loopback with a port, which becomes did:web:localhost%3APORT however the host is
// spelt, since PDSes mint no tokens for the form with an address.
func WebDID(publicURL string, testMode bool) (syntax.DID, error) {
	u, err := url.Parse(publicURL)
	if err != nil || u.Hostname() == "" || (u.Scheme != "https" && u.Scheme != "http") {
		return "", fmt.Errorf("public URL %q has no host: write it as https://hold.example.com", clip(publicURL))
	}
	if u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.User != nil {
		return "", fmt.Errorf("public URL %q: a did:web is a host alone, without path, query or user", clip(publicURL))
	}
	host := strings.ToLower(strings.TrimSuffix(u.Hostname(), "."))
	if testMode && isLoopbackName(host) {
		if u.Port() == "" {
			return "did:web:localhost", nil
		}
		return syntax.DID("did:web:localhost%3A" + u.Port()), nil
	}
	if u.Port() != "" && !(u.Scheme == "https" && u.Port() == "443") && !(u.Scheme == "http" && u.Port() == "80") {
		return "", fmt.Errorf("public URL %q has a port, which a did:web can't have outside test mode: serve it on 443 behind a proxy", clip(publicURL))
	}
	if u.Scheme != "https" && !testMode {
		return "", fmt.Errorf("public URL %q is http: a did:web is asked by https; use https, or test mode on loopback", clip(publicURL))
	}
	if _, err := syntax.ParseHandle(host); err != nil {
		return "", fmt.Errorf("public URL %q: its host is no domain name that a did:web can have", clip(publicURL))
	}
	return syntax.DID("did:web:" + host), nil
}

// webURL answers where a did:web's document is fetched.
func webURL(did syntax.DID, testMode bool) (string, error) {
	host := atcr.WebHost(did.String())
	name, port, _ := strings.Cut(host, ":")
	switch {
	case host == "":
		return "", fmt.Errorf("%s is no did:web of a host", did)
	case isLoopbackName(name):
		if !testMode {
			return "", fmt.Errorf("%s is on loopback, which is for test mode only", did)
		}
	case port != "":
		return "", fmt.Errorf("%s has a port, which did:web may have on loopback under test mode only", did)
	default:
		if h, err := syntax.ParseHandle(name); err != nil || !h.AllowedTLD() {
			return "", fmt.Errorf("%s is no plain public host name", did)
		}
	}
	return atcr.DIDWebURL(did.String(), testMode) + "/.well-known/did.json", nil
}

// Spellings answers a DID and, under test mode, the other spelling of a loopback did:web with the same port: those are one
// host. The first is the one given, normalised.
func Spellings(did syntax.DID, testMode bool) []syntax.DID {
	n, err := NormalizeDID(did.String())
	if err != nil {
		return []syntax.DID{did}
	}
	all := []syntax.DID{n}
	if twin := atcr.LoopbackTwin(n.String()); twin != "" && testMode {
		all = append(all, syntax.DID(twin))
	}
	return all
}

// SameDID is atcr.SameDID with indigo's type.
func SameDID(a, b syntax.DID, testMode bool) bool {
	return atcr.SameDID(a.String(), b.String(), testMode)
}

const plcLength = len("did:plc:") + 24

// canonical answers a key under which all spellings of a DID fall together.
func canonical(did syntax.DID, testMode bool) syntax.DID {
	if len(did) == plcLength && strings.HasPrefix(string(did), "did:plc:") { // the common case, which has one spelling
		return did
	}
	for _, s := range Spellings(did, testMode) {
		if did = s; strings.HasPrefix(s.String(), "did:web:localhost") {
			break
		}
	}
	return did
}

func isLoopbackName(host string) bool {
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil && ip.IsLoopback()
}

// hasPort reports whether a URL names a port other than its scheme's own.
func hasPort(u *url.URL) bool {
	_, port, err := net.SplitHostPort(u.Host)
	return err == nil && port != "" && !(u.Scheme == "https" && port == "443") && !(u.Scheme == "http" && port == "80")
}

// clip bounds foreign text in an error.
func clip(s string) string {
	if len(s) > 128 {
		return s[:128] + "…"
	}
	return s
}
