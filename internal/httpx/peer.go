package httpx

import (
	"context"
	"net"
	"net/http/httptrace"
	"net/netip"
	"net/url"
	"sync"
)

type (
	peerKey   struct{}
	linkAtKey struct{}
)

// peer is the address that a server was last connected at.
type peer struct {
	mu      sync.Mutex
	dialing string // host and port that a connection is wanted to
	addr    netip.Addr
}

// WithPeer returns a context whose requests to a server note the address that they were connected to, for [Links.Check]: what its
// name resolves to a moment later is its owner's choice. A context that has it already is returned as it is.
func WithPeer(ctx context.Context, server string) context.Context {
	u, err := url.Parse(server)
	if err != nil || ctx.Value(peerKey{}) != nil {
		return ctx
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	p, own := &peer{}, net.JoinHostPort(u.Hostname(), port)
	return httptrace.WithClientTrace(context.WithValue(ctx, peerKey{}, p), &httptrace.ClientTrace{
		GetConn: func(hostPort string) {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.dialing = hostPort
		},
		GotConn: func(c httptrace.GotConnInfo) {
			p.mu.Lock()
			defer p.mu.Unlock()
			if p.dialing == own {
				p.addr = remoteAddr(c.Conn.RemoteAddr().String())
			}
		},
	})
}

// peerOf returns what WithPeer noted, else the zero Addr.
func peerOf(ctx context.Context) netip.Addr {
	p, _ := ctx.Value(peerKey{}).(*peer)
	if p == nil {
		return netip.Addr{}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.addr
}

// WithLinkAt returns a context in which [Links.Check] takes a link's name to lead to an address, as it does for who is connected to it.
func WithLinkAt(ctx context.Context, addr netip.Addr) context.Context {
	return context.WithValue(ctx, linkAtKey{}, addr)
}

// OnConnect returns a context whose requests end when check returns an error for the address that they are connected to. A request may
// have been sent by then, but its answer is not returned. The function returns that error.
func OnConnect(ctx context.Context, check func(netip.Addr) error) (context.Context, func() error) {
	ctx, cancel := context.WithCancelCause(ctx)
	traced := httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(c httptrace.GotConnInfo) {
		if err := check(remoteAddr(c.Conn.RemoteAddr().String())); err != nil {
			cancel(err)
		}
	}})
	return traced, func() error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return nil
	}
}
