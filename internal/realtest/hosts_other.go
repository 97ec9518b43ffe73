//go:build !linux

package realtest

import (
	"context"
	"errors"
	"net"
)

// Dial connects from the host to an address; hosts exist on Linux alone.
func (h *Host) Dial(context.Context, string, string) (net.Conn, error) {
	return nil, errors.ErrUnsupported
}
