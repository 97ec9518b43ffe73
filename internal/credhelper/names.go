package credhelper

import (
	"errors"
	"fmt"
	"net"
	"strings"
)

// Limits of what is kept, in bytes. The smallest keyring, that of Windows, takes 2560.
const (
	maxServer  = 1024
	maxAccount = 320
	maxSecret  = 16 << 10
)

// splitServer takes a server's name apart, as clients write it: a host with an optional port, as in a reference to an image, with an
// optional scheme before it and a path behind it.
func splitServer(server string) (host, repository string, err error) {
	server = strings.TrimSpace(server)
	if server == "" {
		return "", "", errNoServer
	}
	rest := server
	if i := strings.Index(rest, "://"); i >= 0 {
		rest = rest[i+3:]
	}
	host, path, _ := strings.Cut(rest, "/")
	host = strings.ToLower(host)
	if len(server) > maxServer || !validHost(host) {
		return "", "", fmt.Errorf("%.80q is no registry: give its host and port, as in registry.example.com or 127.0.0.1:5000", server)
	}
	if path = strings.Trim(path, "/"); path == "v1" || path == "v2" {
		path = ""
	}
	return host, strings.ToLower(path), nil
}

// Texts of docker's protocol.
var (
	errNoServer = errors.New("no credentials server URL")
	errNoUser   = errors.New("no credentials username")
)

func validHost(host string) bool {
	for _, r := range host {
		if r > 0x7f || !strings.ContainsRune("abcdefghijklmnopqrstuvwxyz0123456789-._:[]", r) {
			return false
		}
	}
	name, port, err := net.SplitHostPort(host)
	if err != nil {
		name, port = strings.Trim(host, "[]"), ""
		if strings.Contains(name, ":") && !strings.HasPrefix(host, "[") {
			return false
		}
	}
	return name != "" && len(port) <= 5 && strings.Trim(port, "0123456789") == "" && (err != nil || port != "")
}

// Loopback reports whether a host, with or without a port, is this machine.
func Loopback(host string) bool {
	name, _, err := net.SplitHostPort(host)
	if err != nil {
		name = strings.Trim(host, "[]")
	}
	ip := net.ParseIP(name)
	return name == "localhost" || ip != nil && ip.IsLoopback()
}

// accountName is the name that an account is kept by: handles have no case, and people write them with an @.
func accountName(name string) (string, error) {
	name = strings.TrimPrefix(strings.TrimSpace(name), "@")
	if name == "" {
		return "", errNoUser
	}
	if len(name) > maxAccount || !printable(name) {
		return "", fmt.Errorf("%.80q is no user name: give a handle or a DID", name)
	}
	if !strings.HasPrefix(name, "did:") {
		name = strings.ToLower(name)
	}
	return name, nil
}

// checkSecret refuses what no client could send; the error does not show it.
func checkSecret(secret string) error {
	switch {
	case secret == "":
		return errors.New("the secret is empty")
	case len(secret) > maxSecret:
		return fmt.Errorf("the secret has %d bytes, more than %d", len(secret), maxSecret)
	case !printable(secret):
		return errors.New("the secret has characters that can't be printed, as of a line's end: give it without them")
	}
	return nil
}

// printable reports whether a text has no control characters: what others send must not steer a terminal.
func printable(s string) bool {
	return !strings.ContainsFunc(s, unprintable)
}

func unprintable(r rune) bool {
	return r < 0x20 || r >= 0x7f && r < 0xa0 || r == 0xfffd || r >= 0x200b && r <= 0x200f || r >= 0x2028 && r <= 0x202e ||
		r >= 0x2066 && r <= 0x2069 || r == 0xfeff
}

// plain is a text of somebody else's, fit to be printed: one line, without control characters, not for ever.
func plain(s string) string {
	s = strings.Join(strings.Fields(strings.Map(func(r rune) rune {
		if unprintable(r) {
			return ' '
		}
		return r
	}, s)), " ")
	if r := []rune(s); len(r) > 300 {
		s = string(r[:300]) + "…"
	}
	return s
}
