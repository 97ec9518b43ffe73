package realtest

import (
	"context"
	"fmt"
	"net"
	"os"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// Dial connects from the host to an address, which is an IP and a port.
func (h *Host) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	if host, _, err := net.SplitHostPort(addr); err != nil || net.ParseIP(host) == nil {
		return nil, fmt.Errorf("realtest: %q is no IP and port", addr)
	}
	var conn net.Conn
	err := h.inside(func() (err error) {
		conn, err = (&net.Dialer{}).DialContext(ctx, network, addr)
		return err
	})
	return conn, err
}

// Listen listens on the host, until the test ends: "127.0.0.1:5000" is where [Host.TLS] passes on to.
func (h *Host) Listen(t testing.TB, addr string) net.Listener {
	t.Helper()
	var l net.Listener
	err := h.inside(func() (err error) {
		l, err = net.Listen("tcp", addr)
		return err
	})
	if err != nil {
		t.Fatalf("realtest: listen on %s: %v", h.Name, err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// inside calls f where sockets are made on the host: one belongs to the namespace of the thread that makes it.
func (h *Host) inside(f func() error) error {
	runtime.LockOSThread()
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		runtime.UnlockOSThread()
		return err
	}
	defer home.Close()
	away, err := os.Open("/run/netns/" + h.ns)
	if err != nil {
		runtime.UnlockOSThread()
		return err
	}
	defer away.Close()
	if err := unix.Setns(int(away.Fd()), unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("realtest: enter %s: %w", h.ns, err)
	}
	err = f()
	if back := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); back != nil {
		return fmt.Errorf("realtest: leave %s: %w", h.ns, back) // the thread stays locked, and ends with its goroutine
	}
	runtime.UnlockOSThread()
	return err
}
