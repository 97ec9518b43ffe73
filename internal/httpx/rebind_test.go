package httpx

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"testing"
	"time"
)

// A name that is a public address when it is looked at, and ours when it is connected to: the address that is connected to counts.
func TestNameThatChanges(t *testing.T) {
	dns, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer dns.Close()
	var inside atomic.Bool
	go serveA(dns, func() [4]byte {
		if inside.Load() {
			return [4]byte{127, 0, 0, 1}
		}
		return [4]byte{8, 8, 8, 8}
	})
	r := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp", dns.LocalAddr().String())
	}}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	found, err := r.LookupNetIP(ctx, "ip4", "rebind.test.")
	if err != nil || len(found) != 1 {
		t.Fatal(found, err)
	}
	g := Guard{}
	if err := g.Check("rebind.test.", found[0]); err != nil {
		t.Fatalf("before it changes: %v", err)
	}
	inside.Store(true)
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	conn, err := g.dialContext(g.Check, 5*time.Second, r)(ctx, "tcp4", net.JoinHostPort("rebind.test.", port))
	if !errors.Is(err, ErrForbiddenAddress) {
		t.Errorf("connected: %v, %v", conn, err)
	}
	open := Guard{Loopback: true} // the name does lead there
	if conn, err = open.dialContext(open.Check, 5*time.Second, r)(ctx, "tcp4", net.JoinHostPort("rebind.test.", port)); err != nil {
		t.Fatal(err)
	}
	conn.Close()
}

// serveA returns each question for an IPv4 address, and that there is nothing else (RFC 1035, section 4).
func serveA(c net.PacketConn, answer func() [4]byte) {
	b := make([]byte, 1500)
	for {
		n, from, err := c.ReadFrom(b)
		if err != nil {
			return
		}
		end := 12
		for end < n && b[end] != 0 {
			end += int(b[end]) + 1
		}
		if end += 5; end > n {
			continue
		}
		out := append([]byte(nil), b[:end]...)
		copy(out[2:12], []byte{0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0})
		if out[end-3] == 1 {
			a := answer()
			out[7] = 1
			out = append(out, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, a[0], a[1], a[2], a[3])
		}
		_, _ = c.WriteTo(out, from)
	}
}
