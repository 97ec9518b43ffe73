package httpx

import (
	"container/list"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"
)

// conns bounds open connections, in all and of one client. A wrapped listener would do the same but cost sendfile.
//
// Where one is too many, one that waits for a request goes in its place: the client's own that has waited longest, or, when the server
// is full, that of the client with the most connections. So whoever holds many idle ones loses them to those who have few. Where none
// waits, it is the new one that is closed.
type conns struct {
	max, each int // less than 1 is no bound
	trusted   []netip.Prefix
	log       *slog.Logger

	mu      sync.Mutex
	open    map[net.Conn]*conn
	clients map[netip.Addr]*connClient // none without a connection
	closed  int64
}

type connClient struct {
	addr    netip.Addr
	proxy   bool // trusted: its connections are many people's
	open    int
	waiting list.List // of *conn, that have no request; longest first
}

type conn struct {
	net.Conn
	client *connClient
	place  *list.Element // in client.waiting; nil while there is a request
	since  time.Time     // of waiting
}

func newConns(opts ServerOptions) *conns {
	return &conns{
		max: opts.MaxConns, each: opts.MaxClientConns, trusted: opts.TrustedProxies, log: opts.Log,
		open: map[net.Conn]*conn{}, clients: map[netip.Addr]*connClient{},
	}
}

// state is an http.Server's ConnState.
func (cs *conns) state(nc net.Conn, s http.ConnState) {
	switch s {
	case http.StateNew:
		cs.add(nc)
	case http.StateActive, http.StateIdle:
		cs.mu.Lock()
		defer cs.mu.Unlock()
		if c := cs.open[nc]; c != nil {
			c.wait(s == http.StateIdle)
		}
	case http.StateClosed, http.StateHijacked:
		cs.mu.Lock()
		defer cs.mu.Unlock()
		if c := cs.open[nc]; c != nil {
			cs.remove(c)
		}
	}
}

func (cs *conns) add(nc net.Conn) {
	var peer netip.Addr
	if a := nc.RemoteAddr(); a != nil {
		peer = remoteAddr(a.String())
	}
	proxy := oneOf(cs.trusted, peer)
	addr := normalClient(peer)
	cs.mu.Lock()
	cl := cs.clients[addr]
	if cl == nil {
		cl = &connClient{addr: addr, proxy: proxy}
		cs.clients[addr] = cl
	}
	c := &conn{Conn: nc, client: cl}
	cl.open++
	cs.open[nc] = c
	c.wait(true)
	var victim *conn
	switch {
	case cs.each > 0 && !cl.proxy && cl.open > cs.each:
		victim = cl.longest()
	case cs.max > 0 && len(cs.open) > cs.max:
		victim = cs.biggest().longest()
	}
	if victim == nil {
		cs.mu.Unlock()
		return
	}
	has, all := victim.client.open, len(cs.open)
	cs.remove(victim)
	cs.closed++
	n := cs.closed
	cs.mu.Unlock()
	_ = victim.Close()
	if n&(n-1) == 0 {
		cs.log.Warn("too many connections: the longest idle one of a client is closed, or the newest where none is idle",
			"client", victim.client.addr, "has", has, "all", all, "closed", n)
	}
}

// biggest returns the client with the most connections among those that have one which waits; a proxy only if there is no other.
func (cs *conns) biggest() *connClient {
	var best *connClient
	for _, cl := range cs.clients {
		switch {
		case cl.waiting.Len() == 0:
		case best == nil, best.proxy && !cl.proxy:
			best = cl
		case cl.proxy && !best.proxy, cl.open < best.open:
		case cl.open > best.open, cl.longest().since.Before(best.longest().since):
			best = cl
		}
	}
	return best
}

func (cs *conns) remove(c *conn) {
	c.wait(false)
	delete(cs.open, c.Conn)
	if c.client.open--; c.client.open == 0 {
		delete(cs.clients, c.client.addr)
	}
}

func (cl *connClient) longest() *conn { return cl.waiting.Front().Value.(*conn) }

func (c *conn) wait(yes bool) {
	switch {
	case yes && c.place == nil:
		c.since = time.Now()
		c.place = c.client.waiting.PushBack(c)
	case !yes && c.place != nil:
		c.client.waiting.Remove(c.place)
		c.place = nil
	}
}
