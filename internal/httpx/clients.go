package httpx

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/atcr-dev/atcr/internal/limit"
)

// CheckProxies returns an error for networks that can't be those of reverse proxies. An address of 0 bits is refused: with everybody
// trusted, whatever a client writes into X-Forwarded-For would be its address.
func CheckProxies(trusted []netip.Prefix) error {
	for _, p := range trusted {
		switch {
		case !p.IsValid():
			return fmt.Errorf("%s is no network: give address and bits, as in 10.0.0.0/8", p)
		case p.Bits() == 0, p.Addr().Is4In6() && p.Bits() <= 96:
			return fmt.Errorf("%s is everybody: name the network of the proxies alone, as in 10.0.0.0/8", p)
		}
	}
	return nil
}

// VisitOptions configures [WithClient]. The zero value trusts no proxy.
type VisitOptions struct {
	// TrustedProxies are the networks of the reverse proxies in front.
	TrustedProxies []netip.Prefix
	// MaxRequests bounds the requests of one client that come by trusted proxies at once, as [ServerOptions].MaxClientConns bounds the
	// connections of those who come by themselves; 0 is 512, less than 0 no bound.
	MaxRequests int
	// Busy answers a request beyond that; Retry-After is set. nil sends 429 with a line of text.
	Busy http.Handler
	Log  *slog.Logger // nil: slog.Default()
}

type visitKey struct{}

// visit is one request's: of whom it is, and the place that it has among those of its client.
type visit struct {
	addr   netip.Addr
	places *limit.Places // nil: it has none

	mu  sync.Mutex
	key string // of the place; empty when it was left
}

// WithClient returns a handler whose requests carry the address of their client, for [ClientAddr], [Client] and [ClientKey].
//
// The client is who has connected, unless that is one of the trusted proxies. Then it is the last address of X-Forwarded-For that
// isn't a trusted proxy's, since each proxy adds at the end whom it was asked by, and what stands further left may be anybody's
// invention. Where the list ends, or is no address, it is the proxy that came last. Forwarded (RFC 7239) is never read: common proxies
// pass on the one that a client sent.
func WithClient(h http.Handler, o VisitOptions) http.Handler {
	if o.MaxRequests == 0 {
		o.MaxRequests = 512
	}
	if o.Busy == nil {
		o.Busy = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, "too many requests at once", http.StatusTooManyRequests)
		})
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	places := limit.NewPlaces(o.MaxRequests)
	var said atomic.Bool
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		peer := remoteAddr(r.RemoteAddr)
		if !oneOf(o.TrustedProxies, peer) {
			if r.Header["X-Forwarded-For"] != nil && kindOf(peer.WithZone("").Unmap()) != "" && said.CompareAndSwap(false, true) {
				o.Log.Warn("requests come by a proxy that is not among the trusted ones: all its clients count as one. "+
					"Name its network in server.trusted_proxies (TrustedProxies)", "proxy", peer)
			}
			h.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), visitKey{}, &visit{addr: normalClient(peer)})))
			return
		}
		v := &visit{addr: forwarded(r, o.TrustedProxies, peer)}
		if o.MaxRequests > 0 {
			v.places, v.key = places, v.addr.String()
			if !places.Enter(v.key) {
				w.Header().Set("Retry-After", "1")
				o.Busy.ServeHTTP(w, r)
				return
			}
			defer v.leave()
		}
		h.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), visitKey{}, v)))
	})
}

func (v *visit) leave() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.places.Leave(v.key)
	v.key = ""
}

// CountBy has the request that ctx belongs to count as one of a verified token's DID from now on, no longer as one of its address: a
// service that acts for many people is one address. It reports whether the DID has room for it; if not, the request is to be refused.
func CountBy(ctx context.Context, did string) bool {
	v, _ := ctx.Value(visitKey{}).(*visit)
	if v == nil || v.places == nil || did == "" {
		return true
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.key == "" || v.key == did {
		return true
	}
	if !v.places.Enter(did) {
		return false
	}
	v.places.Leave(v.key)
	v.key = did
	return true
}

// ClientAddr returns the address of a request's client, in the form in which limits count it and logs show it: an IPv6 client is its
// network of 64 bits (2001:db8:1:2::), an IPv4 client that came through IPv6 (mapped, NAT64, 6to4) its IPv4 address. Outside of
// [WithClient] it is who has connected. The zero Addr is a connection without an IP address, as of a Unix socket.
func ClientAddr(r *http.Request) netip.Addr {
	if v, ok := r.Context().Value(visitKey{}).(*visit); ok {
		return v.addr
	}
	return normalClient(remoteAddr(r.RemoteAddr))
}

// Client is [ClientAddr] for who has only the request's context; the zero Addr outside of [WithClient].
func Client(ctx context.Context) netip.Addr {
	if v, ok := ctx.Value(visitKey{}).(*visit); ok {
		return v.addr
	}
	return netip.Addr{}
}

// ClientKey says under which name a limit counts the call that ctx belongs to: the DID of a verified token, since a service that acts
// for many people is one address, else the client's address.
func ClientKey(ctx context.Context, did string) string {
	if did != "" {
		return did
	}
	return Client(ctx).String()
}

// forwarded returns the client of a request that came from a trusted proxy.
func forwarded(r *http.Request, trusted []netip.Prefix, addr netip.Addr) netip.Addr {
	lines := r.Header["X-Forwarded-For"]
	for i := len(lines) - 1; i >= 0; i-- {
		for rest, more := lines[i], true; more; {
			var last string
			if comma := strings.LastIndexByte(rest, ','); comma >= 0 {
				rest, last = rest[:comma], rest[comma+1:]
			} else {
				last, more = rest, false
			}
			next, ok := forwardedAddr(strings.TrimSpace(last))
			if !ok {
				return normalClient(addr)
			}
			if addr = next; !oneOf(trusted, addr) {
				return normalClient(addr)
			}
		}
	}
	return normalClient(addr)
}

// forwardedAddr reads an element of X-Forwarded-For, which some proxies write with the port.
func forwardedAddr(s string) (netip.Addr, bool) {
	if ap, err := netip.ParseAddrPort(s); err == nil {
		return ap.Addr(), true
	}
	a, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(s, "["), "]"))
	return a, err == nil
}

func remoteAddr(s string) netip.Addr {
	ap, err := netip.ParseAddrPort(s)
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr()
}

func oneOf(nets []netip.Prefix, a netip.Addr) bool {
	if !a.IsValid() {
		return false
	}
	a = a.WithZone("").Unmap()
	for _, p := range nets {
		if p.Contains(a) || p.IsValid() && p.Addr().Is4In6() && p.Contains(netip.AddrFrom16(a.As16())) {
			return true
		}
	}
	return false
}

// normalClient joins the addresses that one client has. Those of loopback and of a link are machines of their own.
func normalClient(a netip.Addr) netip.Addr {
	a = plain(a)
	if !a.Is6() || a.IsLoopback() || a.IsLinkLocalUnicast() {
		return a
	}
	return netip.PrefixFrom(a, 64).Masked().Addr()
}
