//go:build !linux

package realtest

import (
	"context"
	"errors"
	"net"
	"testing"
)

// Dial connects from the host to an address; hosts exist on Linux alone.
func (h *Host) Dial(context.Context, string, string) (net.Conn, error) {
	return nil, errors.ErrUnsupported
}

// Listen listens on the host; hosts exist on Linux alone.
func (h *Host) Listen(t testing.TB, _ string) net.Listener {
	t.Helper()
	t.Fatal("realtest: hosts exist on Linux alone")
	return nil
}
