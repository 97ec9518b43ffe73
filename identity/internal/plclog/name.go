package plclog

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"github.com/atcr-dev/atcr"
)

// WebDID is documented at identity.WebDID.
func WebDID(publicURL string, testMode bool) (syntax.DID, error) {
	u, err := url.Parse(publicURL)
	if err != nil || u.Hostname() == "" || (u.Scheme != "https" && u.Scheme != "http") {
		return "", fmt.Errorf("public URL %q has no host: write it as https://hold.example.com", Clip(publicURL))
	}
	if u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.User != nil {
		return "", fmt.Errorf("public URL %q: a did:web is a host alone, without path, query or user", Clip(publicURL))
	}
	host := strings.ToLower(strings.TrimSuffix(u.Hostname(), "."))
	if testMode && IsLoopbackName(host) {
		if u.Port() == "" {
			return "did:web:localhost", nil
		}
		return syntax.DID("did:web:localhost%3A" + u.Port()), nil
	}
	if hasPort(u) {
		return "", fmt.Errorf("public URL %q has a port, which a did:web can't have outside test mode: serve it on 443 behind a proxy",
			Clip(publicURL))
	}
	if u.Scheme != "https" && !testMode {
		return "", fmt.Errorf("public URL %q is http: a did:web is asked by https; use https, or test mode on loopback", Clip(publicURL))
	}
	if _, err := syntax.ParseHandle(host); err != nil {
		return "", fmt.Errorf("public URL %q: its host is no domain name that a did:web can have", Clip(publicURL))
	}
	return syntax.DID("did:web:" + host), nil
}

// HandleOf returns the handle of a public URL: its host, empty when that can be none.
func HandleOf(publicURL string) syntax.Handle {
	u, err := url.Parse(publicURL)
	if err != nil || hasPort(u) {
		return ""
	}
	h, err := syntax.ParseHandle(strings.ToLower(u.Hostname()))
	if err != nil || !h.AllowedTLD() {
		return ""
	}
	return h
}

// IsLoopbackName reports whether a host is localhost or a loopback address.
func IsLoopbackName(host string) bool {
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

// NameWarnings returns why others on today's network can't use a service's name: PDSes mint no service tokens for a did:web
// with an address, or with a port unless it is localhost's (protocol.md §8), and a DID that doesn't lead to the public URL is not found.
func NameWarnings(did syntax.DID, publicURL string, testMode bool) []string {
	var w []string
	name, port, _ := strings.Cut(strings.TrimPrefix(did.String(), "did:web:"), "%3A")
	switch {
	case did.Method() != "web":
		return nil
	case isAddress(name):
		w = append(w, fmt.Sprintf("%s names an address: PDSes mint no service tokens for it, so nobody can push; "+
			"use a host name, did:web:localhost%%3APORT under test mode, or a did:plc", did))
	case port != "" && name != "localhost":
		w = append(w, fmt.Sprintf("%s has a port: PDSes mint no service tokens for it, so nobody can push; "+
			"serve it on 443 under its name alone, or use a did:plc", did))
	case name == "localhost" && !testMode:
		w = append(w, fmt.Sprintf("%s is found on this machine only, and only under test mode", did))
	}
	if now, err := WebDID(publicURL, testMode); err == nil && !atcr.SameDID(now.String(), did.String(), testMode) {
		w = append(w, fmt.Sprintf("%s does not lead to %s: others find this service only while its host does", did, publicURL))
	}
	return w
}

func isAddress(host string) bool {
	host = strings.Trim(host, "[]")
	return strings.Trim(host, "0123456789.") == "" || strings.Contains(host, ":")
}
