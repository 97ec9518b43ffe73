package httpx

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"syscall"
	"time"
)

// ErrForbiddenAddress is wrapped by every error of a connection that the [Guard] refused.
var ErrForbiddenAddress = errors.New("address not allowed")

// Guard says which addresses a client may connect to. The zero value allows public unicast addresses only: it
// refuses loopback, private (RFC 1918, RFC 4193), shared (RFC 6598), link-local, multicast, unspecified and reserved
// ranges, known metadata services, and IPv6 forms that carry such an IPv4 address (mapped, NAT64, 6to4, Teredo).
//
// Link-local, multicast, unspecified and metadata addresses stay refused whatever is allowed.
type Guard struct {
	// Loopback allows 127.0.0.0/8 and ::1: for test mode.
	Loopback bool
	// Hosts are names or addresses (without port) that may resolve to loopback and private addresses: in test mode the
	// hosts of the configured URLs, see [HostsOf].
	Hosts []string
	// Allow are networks the operator opened (`network.allow`).
	Allow []netip.Prefix
}

// HostsOf returns the host names of URLs, for [Guard.Hosts]. What is empty or no URL with a host is left out.
func HostsOf(urls ...string) []string {
	var hosts []string
	for _, s := range urls {
		if u, err := url.Parse(s); err == nil && u.Hostname() != "" {
			hosts = append(hosts, u.Hostname())
		}
	}
	return hosts
}

// Check returns nil when a connection to addr, made for the given host name, is allowed, else an error that wraps
// [ErrForbiddenAddress].
func (g *Guard) Check(host string, addr netip.Addr) error {
	embedded := addr.Is6() && !addr.Is4In6() && plain(addr).Is4() // a tunnel to a private address is never what an operator meant
	addr = plain(addr)
	kind := kindOf(addr)
	switch {
	case kind == "":
		return nil
	case never(kind) || embedded:
	case kind == "loopback" && g.Loopback:
		return nil
	case g.allowsHost(host):
		return nil
	default:
		if g.allowsNet(addr) {
			return nil
		}
	}
	return fmt.Errorf("%w: %s is a %s address", ErrForbiddenAddress, addr, kind)
}

// CheckURL returns an error that wraps [ErrForbiddenAddress] when no request to a URL can pass, as far as that can be told without
// asking what a name means: of an address, of localhost, and of plain http where nothing allows it. What is no URL with a host passes.
func (g *Guard) CheckURL(address string) error {
	u, err := url.Parse(address)
	if err != nil || u.Hostname() == "" {
		return nil
	}
	name := strings.ToLower(strings.TrimSuffix(u.Hostname(), "."))
	addr, err := netip.ParseAddr(name)
	if name == "localhost" || strings.HasSuffix(name, ".localhost") {
		addr, err = netip.AddrFrom4([4]byte{127, 0, 0, 1}), nil
	}
	switch open := u.Scheme == "http"; {
	case err == nil && open:
		return g.CheckPlain(u.Hostname(), addr)
	case err == nil:
		return g.Check(u.Hostname(), addr)
	case open && !g.Loopback && len(g.Allow) == 0 && !g.allowsHost(u.Hostname()):
		return fmt.Errorf("%w: %w: %.100q is asked by https alone", ErrForbiddenAddress, ErrPlainHTTP, u.Host)
	}
	return nil // a name
}

// CheckServer is [Guard.CheckURL] for the server that a field of a configuration names. Its error names the field and says what to do.
func (g *Guard) CheckServer(field, address string) error {
	if err := g.CheckURL(address); err != nil {
		return fmt.Errorf("%s: %w: it can't be asked. Give the address of a public server, name its network in AllowNetworks, "+
			"or set TestMode on one machine", field, err)
	}
	return nil
}

func (g *Guard) allowsHost(host string) bool {
	for _, h := range g.Hosts {
		if strings.EqualFold(strings.TrimSuffix(h, "."), strings.TrimSuffix(host, ".")) && h != "" {
			return true
		}
	}
	return false
}

type dialFunc = func(ctx context.Context, network, address string) (net.Conn, error)

// dialContext returns a dial function that checks each address, by Check or CheckPlain, at the moment of connecting. A nil resolver is
// the system's.
func (g *Guard) dialContext(check func(string, netip.Addr) error, timeout time.Duration, r *net.Resolver) dialFunc {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			return nil, err
		}
		d := net.Dialer{Timeout: timeout, KeepAlive: 30 * time.Second, Resolver: r}
		d.Control = func(network, address string, _ syscall.RawConn) error {
			if !strings.HasPrefix(network, "tcp") {
				return fmt.Errorf("%w: network %q", ErrForbiddenAddress, network)
			}
			ap, err := netip.ParseAddrPort(address)
			if err != nil {
				return fmt.Errorf("%w: %q is no IP address and port", ErrForbiddenAddress, address)
			}
			return check(host, ap.Addr())
		}
		return d.DialContext(ctx, network, address)
	}
}
