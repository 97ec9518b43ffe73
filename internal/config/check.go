package config

import (
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
)

type problems []problem

func (p *problems) add(path, format string, args ...any) {
	*p = append(*p, problem{path, fmt.Sprintf(format, args...)})
}

func (p *problems) required(path, value string) {
	if value == "" {
		p.add(path, "must not be empty")
	}
}

func (p *problems) oneOf(path, value string, allowed ...string) {
	if !slices.Contains(allowed, value) {
		p.add(path, "%q is not one of %s", value, strings.Join(allowed, ", "))
	}
}

func (p *problems) atLeast(path string, value, least int) {
	if value < least {
		p.add(path, "%d is too little: it must be at least %d", value, least)
	}
}

func (p *problems) logLevel(value string) {
	p.oneOf("log_level", value, "debug", "info", "warn", "error")
}

func (p *problems) addr(path, value string) {
	if _, _, err := net.SplitHostPort(value); err != nil {
		p.add(path, "%q is no address to listen on: write 127.0.0.1:8080 or :8080", value)
	}
}

func (p *problems) networks(path string, list []string) {
	for _, text := range list {
		if _, err := netip.ParsePrefix(text); err != nil {
			p.add(path, "%q is no network: write 10.0.0.0/8", text)
		}
	}
}

// proxies refuses everybody: what a client writes into X-Forwarded-For would be its address.
func (p *problems) proxies(path string, list []string) {
	p.networks(path, list)
	for _, text := range list {
		proxies, err := netip.ParsePrefix(text)
		if err == nil && (proxies.Bits() == 0 || proxies.Addr().Is4In6() && proxies.Bits() <= 96) {
			p.add(path, "%q is everybody: name the network of the proxies alone, as in 10.0.0.0/8", text)
		}
	}
}

// url checks scheme and host, and that nothing else is there.
func (p *problems) url(path, value string, required bool) {
	if value == "" {
		if required {
			p.required(path, value)
		}
		return
	}
	u, err := url.Parse(value)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil ||
		strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
		p.add(path, "%q must be scheme and host only, as in https://example.com", Shown(value))
	}
}

// asked is url for a server that is asked by a client with the address guard: one at an address that the guard never lets
// through would look like one that is down, for ever.
func (p *problems) asked(path, value string, required, testMode bool, allow []netip.Prefix) {
	p.url(path, value, required)
	u, err := url.Parse(value)
	if err != nil || testMode {
		return
	}
	host := strings.TrimSuffix(strings.ToLower(u.Hostname()), ".")
	addr, err := netip.ParseAddr(host)
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		addr, err = netip.AddrFrom4([4]byte{127, 0, 0, 1}), nil
	}
	addr = addr.Unmap()
	if err != nil || addr.IsGlobalUnicast() && !addr.IsPrivate() ||
		slices.ContainsFunc(allow, func(n netip.Prefix) bool { return n.Contains(addr) }) {
		return
	}
	p.add(path, "%s is no public address, which is never asked: give the address of a public server, "+
		"name its network in network.allow, or set server.test_mode on one machine", Shown(value))
}

// Shown is an address without what may be secret in it: user, password and query.
func Shown(address string) string {
	if at := strings.LastIndexByte(address, '@'); at >= 0 { // before the query is looked for: a password may hold a ?
		scheme := strings.IndexByte(address[:at], ':') + 1
		if strings.HasPrefix(address[scheme:], "//") {
			scheme += 2
		}
		address = address[:scheme] + "***" + address[at:]
	}
	address, _, query := strings.Cut(address, "?")
	if query {
		address += "?***"
	}
	return address
}

// database refuses what can't be the address of a database; the rest is found out when it is opened.
func (p *problems) database(key, value string) {
	if value == "" {
		return
	}
	u, err := url.Parse(value)
	switch {
	case err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql":
		p.add(key, "is no address of a PostgreSQL database (not shown, it is a secret): write postgres://user:password@host/database")
	case u.User == nil && strings.Contains(value, "@"): // else a part of the password is taken for host or database, which errors name
		p.add(key, "has an @ and no user before it (not shown, it is a secret): write / ? # and @ of a password as %%2F %%3F %%23 %%40")
	}
}

// testMode refuses test_mode where the public could reach it: at an https address, or one that is neither loopback, private nor
// under .test.
func (p *problems) testMode(on bool, path, value string) {
	if !on || value == "" {
		return
	}
	u, err := url.Parse(value)
	if err != nil {
		return
	}
	switch {
	case u.Scheme == "https":
		p.add("server.test_mode", "is refused while %s is https (%s): it switches protections off; remove one of the two", path, value)
	case !localHost(u.Hostname()):
		p.add("server.test_mode", "is refused while %s is %s, which is neither loopback, nor a private address, nor under .test",
			path, value)
	}
}

func localHost(host string) bool {
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	if host == "localhost" || strings.HasSuffix(host, ".localhost") || strings.HasSuffix(host, ".test") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && (ip.Unmap().IsLoopback() || ip.Unmap().IsPrivate())
}

// Level is log_level for slog.
func Level(name string) slog.Level {
	var level slog.Level
	if err := level.UnmarshalText([]byte(name)); err != nil {
		return slog.LevelInfo
	}
	return level
}
