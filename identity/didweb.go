package identity

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"github.com/bluesky-social/indigo/atproto/syntax"
)

// NormalizeDID answers a DID in the one spelling that is compared and sent: a did:web's host is lower case, and its port is
// percent-encoded also when it was written out (did:web:127.0.0.1:8080, as people put it in configuration files).
// What is no DID is an error.
func NormalizeDID(s string) (syntax.DID, error) {
	s = strings.TrimSpace(s)
	if rest, ok := strings.CutPrefix(s, "did:web:"); ok {
		rest = strings.ToLower(rest)
		if host, port, ok := strings.Cut(rest, ":"); ok && isPort(port) {
			rest = host + "%3A" + port
		}
		s = "did:web:" + strings.ReplaceAll(rest, "%3a", "%3A")
	}
	did, err := syntax.ParseDID(s)
	if err != nil {
		return "", fmt.Errorf("%q is no DID: it begins with did:plc: or did:web:", clip(s))
	}
	return did, nil
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
	host, err := webHost(did)
	if err != nil {
		return "", err
	}
	name, port, _ := strings.Cut(host, ":")
	if isLoopbackName(name) {
		if !testMode {
			return "", fmt.Errorf("%s is on loopback, which is for test mode only", did)
		}
		return "http://" + host + "/.well-known/did.json", nil
	}
	if port != "" {
		return "", fmt.Errorf("%s has a port, which did:web may have on loopback under test mode only", did)
	}
	h, err := syntax.ParseHandle(name)
	if err != nil || !h.AllowedTLD() {
		return "", fmt.Errorf("%s is no plain public host name", did)
	}
	return "https://" + name + "/.well-known/did.json", nil
}

// webHost answers "host" or "host:port" of a normalised did:web. Paths are not for AT Protocol.
func webHost(did syntax.DID) (string, error) {
	rest, ok := strings.CutPrefix(string(did), "did:web:")
	if !ok {
		return "", fmt.Errorf("%s is no did:web", did)
	}
	host, port, hasPort := strings.Cut(rest, "%3A")
	if host == "" || strings.ContainsAny(host, ":%") || hasPort && !isPort(port) {
		return "", fmt.Errorf("%s is no did:web of a host: paths and escapes other than a port are not taken", did)
	}
	if hasPort {
		return host + ":" + port, nil
	}
	return host, nil
}

// Spellings answers a DID and, under test mode, the other spelling of a loopback did:web with the same port: those are one
// host. The first is the one given, normalised.
func Spellings(did syntax.DID, testMode bool) []syntax.DID {
	n, err := NormalizeDID(string(did))
	if err != nil {
		return []syntax.DID{did}
	}
	all := []syntax.DID{n}
	host, err := webHost(n)
	if err != nil || !testMode {
		return all
	}
	name, port, _ := strings.Cut(host, ":")
	if !isLoopbackName(name) {
		return all
	}
	for _, other := range []string{"localhost", "127.0.0.1"} {
		if other != name {
			d := "did:web:" + other
			if port != "" {
				d += "%3A" + port
			}
			all = append(all, syntax.DID(d))
		}
	}
	return all
}

// SameDID reports whether two DIDs are one: equal when normalised, or under test mode two loopback spellings of one port.
func SameDID(a, b syntax.DID, testMode bool) bool {
	return canonical(a, testMode) == canonical(b, testMode)
}

// canonical answers a key under which all spellings of a DID fall together.
func canonical(did syntax.DID, testMode bool) syntax.DID {
	n, err := NormalizeDID(string(did))
	if err != nil {
		return did
	}
	if host, err := webHost(n); err == nil && testMode {
		if name, port, _ := strings.Cut(host, ":"); isLoopbackName(name) {
			return syntax.DID(strings.TrimSuffix("did:web:localhost%3A"+port, "%3A"))
		}
	}
	return n
}

func isLoopbackName(host string) bool {
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil && ip.IsLoopback()
}

func isPort(s string) bool {
	n, err := strconv.ParseUint(s, 10, 16)
	return err == nil && n > 0 && s[0] != '0'
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
