package httpx

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"time"
)

const (
	linkNamesFor  = time.Minute     // how long what a name resolved to is remembered
	linkFailedFor = 5 * time.Second // and that it could not be looked up
	linkLookup    = 5 * time.Second
	maxLinkNames  = 10_000
)

// Links says where clients may be sent, and links be followed, that an untrusted server gave: to public addresses, and into a network
// that is not public only where that server is itself. Names are looked up at most once a minute. Make it with [NewLinks]; safe for
// concurrent use.
//
// It can't know what a name resolves to for the client, nor where the server behind the link sends it next.
type Links struct {
	guard  Guard
	lookup func(ctx context.Context, network, host string) ([]netip.Addr, error)
	clock  func() time.Time

	mu    sync.Mutex
	names map[string]*linkName
}

type linkName struct {
	done  chan struct{} // closed when addrs and err are there
	until time.Time     // zero while it is being looked up
	addrs []netip.Addr
	err   error
}

// LinkOptions configures [NewLinks].
type LinkOptions struct {
	// Guard says which networks that are not public may be linked to at all: those that the servers themselves are asked in.
	Guard Guard
	// Lookup returns a name's addresses; nil is the system's resolver.
	Lookup func(ctx context.Context, network, host string) ([]netip.Addr, error)
	Clock  func() time.Time // nil: time.Now
}

// NewLinks returns a Links. It looks nothing up.
func NewLinks(o LinkOptions) *Links {
	if o.Lookup == nil {
		o.Lookup = net.DefaultResolver.LookupNetIP
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	return &Links{guard: o.Guard, lookup: o.Lookup, clock: o.Clock, names: map[string]*linkName{}}
}

// AnyNetwork is a guard that allows all networks but those that nothing may be asked in: for [LinkOptions] where the HTTP client in use
// has a guard of its own, which is not known.
func AnyNetwork() Guard {
	return Guard{Loopback: true, Allow: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}}
}

// Check returns nil when a server at from may send clients to link. Where it is counts by what its name leads to, and by where it
// was just connected to ([WithPeer]). Errors: one that wraps [ErrForbiddenAddress]; that of the look-up,
// which is temporary; the context's.
func (l *Links) Check(ctx context.Context, from, link *url.URL) error {
	var addrs []netip.Addr
	var err error
	if at, ok := ctx.Value(linkAtKey{}).(netip.Addr); ok {
		addrs = []netip.Addr{at}
	} else if addrs, err = l.addresses(ctx, link.Hostname()); err != nil {
		if strings.EqualFold(from.Host, link.Host) && ctx.Err() == nil {
			return nil // it was asked just now: by a client that finds it in another way
		}
		return err
	}
	for _, a := range addrs {
		kind := kindOf(plain(a))
		if kind == "" {
			continue
		}
		if err := l.guard.Check(link.Hostname(), a); err != nil {
			return err
		}
		home, err := l.addresses(ctx, from.Hostname())
		if err != nil {
			return err
		}
		if at := peerOf(ctx); at.IsValid() {
			home = append(home[:len(home):len(home)], at)
		}
		if !within(home, a) {
			return fmt.Errorf("%w: %s is a %s address, and the server that links there is elsewhere", ErrForbiddenAddress, a, kind)
		}
	}
	return nil
}

// within reports whether a server whose addresses are home lies in the network of an address that is not public, and nowhere
// in public: who names a public and a private address is at neither for sure.
func within(home []netip.Addr, a netip.Addr) bool {
	there := false
	for _, h := range home {
		kind := kindOf(plain(h))
		if kind == "" {
			return false
		}
		there = there || kind == kindOf(plain(a)) && (kind == "loopback" || rangeOf(plain(h)) == rangeOf(plain(a)))
	}
	return there
}

// addresses returns what a host leads to. Errors: ErrForbiddenAddress for one that leads nowhere, or is no name.
func (l *Links) addresses(ctx context.Context, host string) ([]netip.Addr, error) {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{a}, nil
	}
	last := host[strings.LastIndexByte(host, '.')+1:]
	switch {
	case last == "localhost":
		return []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1})}, nil
	case host == "" || !isName(host):
		return nil, fmt.Errorf("%w: %.64q is no name", ErrForbiddenAddress, host)
	case isNumber(last): // old spellings of IPv4 addresses (2130706433, 127.0x1), which clients read and resolvers don't
		return nil, fmt.Errorf("%w: %.64q is no address", ErrForbiddenAddress, host)
	}
	n := l.find(ctx, host)
	select {
	case <-n.done:
		return n.addrs, n.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// isName reports whether a host is ASCII letters, digits, hyphens, underscores and single dots: clients read anything else in ways of
// their own.
func isName(host string) bool {
	for _, label := range strings.Split(host, ".") {
		if label == "" {
			return false
		}
	}
	return len(host) <= 253 && !strings.ContainsFunc(host, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' || r == '_' || r == '.')
	})
}

// isNumber reports whether a label is a decimal, octal or hexadecimal number.
func isNumber(label string) bool {
	digits := "0123456789"
	if hex, ok := strings.CutPrefix(label, "0x"); ok {
		label, digits = hex, digits+"abcdef"
	}
	return strings.Trim(label, digits) == ""
}

// find returns what is known of a name, or begins to look it up.
func (l *Links) find(ctx context.Context, host string) *linkName {
	now := l.clock()
	l.mu.Lock()
	defer l.mu.Unlock()
	if n, ok := l.names[host]; ok && (n.until.IsZero() || now.Before(n.until)) {
		return n
	}
	if len(l.names) >= maxLinkNames {
		for old, n := range l.names {
			if !n.until.IsZero() {
				delete(l.names, old) // any: it is only looked up again
				break
			}
		}
	}
	n := &linkName{done: make(chan struct{})}
	l.names[host] = n
	go l.resolve(context.WithoutCancel(ctx), host, n)
	return n
}

func (l *Links) resolve(ctx context.Context, host string, n *linkName) {
	ctx, cancel := context.WithTimeout(ctx, linkLookup)
	defer cancel()
	addrs, err := l.lookup(ctx, "ip", host)
	keep := linkNamesFor
	var dns *net.DNSError
	switch {
	case errors.As(err, &dns) && dns.IsNotFound, err == nil && len(addrs) == 0:
		err = fmt.Errorf("%w: %.64q leads nowhere", ErrForbiddenAddress, host)
	case err != nil:
		err, keep = fmt.Errorf("looking %.64q up: %w", host, err), linkFailedFor
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	n.addrs, n.err, n.until = addrs, err, l.clock().Add(keep)
	close(n.done)
}
