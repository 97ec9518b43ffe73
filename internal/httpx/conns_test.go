package httpx

import (
	"bufio"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// dialFrom connects from an address of loopback, so that a test has several clients.
func dialFrom(t *testing.T, from, addr string) net.Conn {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	c, err := d.Dial("tcp", addr)
	if err != nil && from != "127.0.0.1" {
		t.Skipf("this machine has no %s: %v", from, err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	return c
}

// answered sends a request and reports whether it was answered.
func answered(t *testing.T, c net.Conn) bool {
	t.Helper()
	_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return false
	}
	Drain(resp)
	return true
}

// alive counts the connections that are still answered.
func alive(t *testing.T, conns []net.Conn) (n int) {
	t.Helper()
	for _, c := range conns {
		if answered(t, c) {
			n++
		}
	}
	return n
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// One address that holds its idle connections loses the oldest of them, and takes nobody else's place (A9).
func TestServeClientConns(t *testing.T) {
	addr, _, _ := start(t, http.NotFoundHandler(), ServerOptions{MaxConns: 100, MaxClientConns: 8, Log: quiet()})
	other := dialFrom(t, "127.0.0.2", addr)
	if !answered(t, other) {
		t.Fatal("the other client's first request")
	}
	var mine []net.Conn
	for i := range 40 {
		c := dialFrom(t, "127.0.0.1", addr)
		if !answered(t, c) {
			t.Fatalf("connection %d was not answered", i+1)
		}
		mine = append(mine, c)
	}
	if n := alive(t, mine); n != 8 {
		t.Errorf("%d of 40 connections are open, want 8", n)
	}
	if !answered(t, mine[39]) || answered(t, mine[0]) {
		t.Error("it was not the oldest that were closed")
	}
	if !answered(t, other) {
		t.Error("another client's connection was closed")
	}
}

// A client whose connections are all at work gets no more; those that work go on.
func TestServeClientConnsAtWork(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	addr, _, _ := start(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		entered <- struct{}{}
		<-leave
		w.WriteHeader(http.StatusNoContent)
	}), ServerOptions{MaxClientConns: 2, Log: quiet()})
	var at []net.Conn
	for range 2 {
		c := dialFrom(t, "127.0.0.1", addr)
		_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		<-entered
		at = append(at, c)
	}
	if answered(t, dialFrom(t, "127.0.0.1", addr)) {
		t.Error("a third connection was answered")
	}
	c := dialFrom(t, "127.0.0.2", addr)
	_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	<-entered // another client is served
	close(leave)
	for _, c := range append(at, c) {
		if line, err := bufio.NewReader(c).ReadString('\n'); err != nil || !strings.Contains(line, "204") {
			t.Errorf("%q %v", line, err)
		}
	}
}

// A full server takes the place for a newcomer from the one who has the most, whether its connections have asked anything or not.
func TestServeFull(t *testing.T) {
	for _, silent := range []bool{false, true} {
		addr, _, _ := start(t, http.NotFoundHandler(), ServerOptions{MaxConns: 10, MaxClientConns: 8, Log: quiet()})
		honest := dialFrom(t, "127.0.0.2", addr)
		if !answered(t, honest) {
			t.Fatal("the first request")
		}
		var hog []net.Conn
		for range 8 {
			c := dialFrom(t, "127.0.0.3", addr)
			if !silent && !answered(t, c) {
				t.Fatal("the hog was not answered")
			}
			hog = append(hog, c)
		}
		for _, from := range []string{"127.0.0.4", "127.0.0.5", "127.0.0.6"} {
			if !answered(t, dialFrom(t, from, addr)) {
				t.Errorf("silent %v: %s was not served by a full server", silent, from)
			}
		}
		if !answered(t, honest) {
			t.Errorf("silent %v: the longest idle connection of one who has only that was closed", silent)
		}
		if n := alive(t, hog); n != 6 {
			t.Errorf("silent %v: the hog has %d connections left, want 6", silent, n)
		}
	}
}

// A trusted proxy's connections are many people's.
func TestServeProxyConns(t *testing.T) {
	addr, _, _ := start(t, http.NotFoundHandler(), ServerOptions{MaxClientConns: 2, TrustedProxies: prefixes("127.0.0.9/32"), Log: quiet()})
	var all []net.Conn
	for range 10 {
		c := dialFrom(t, "127.0.0.9", addr)
		if !answered(t, c) {
			t.Fatal("not answered")
		}
		all = append(all, c)
	}
	for i, c := range all {
		if !answered(t, c) {
			t.Errorf("connection %d was closed", i+1)
		}
	}
}

// What is kept of connections goes with them, whatever way they end.
func TestConnsForget(t *testing.T) {
	cs := newConns(ServerOptions{MaxConns: 2, MaxClientConns: 1, Log: quiet()})
	var held []net.Conn
	for i := range 6 {
		here, there := net.Pipe()
		held = append(held, fakeConn{here, netip.AddrFrom4([4]byte{203, 0, 113, byte(i / 2)})})
		defer there.Close()
	}
	for i, c := range held {
		cs.state(c, http.StateNew)
		for _, s := range [][]http.ConnState{{}, {http.StateActive}, {http.StateActive, http.StateIdle}}[i%3] {
			cs.state(c, s)
		}
		if len(cs.open) > 2 {
			t.Fatalf("%d are open", len(cs.open))
		}
	}
	for i, c := range held {
		cs.state(c, []http.ConnState{http.StateClosed, http.StateHijacked}[i%2])
		cs.state(c, http.StateClosed)
	}
	if len(cs.open) != 0 || len(cs.clients) != 0 {
		t.Errorf("left over: %v, %v", cs.open, cs.clients)
	}
}

type fakeConn struct {
	net.Conn
	from netip.Addr
}

func (c fakeConn) RemoteAddr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.AddrPortFrom(c.from, 1))
}
