package httpx

import (
	"context"
	"net"
	"sync"
)

// Port is an address that a service listens on: bound when the service is opened, so that a port that is taken is found before
// anything is made, and served when the service runs. Make it with [Bind]. It is safe for concurrent use.
type Port struct {
	addr string

	mu    sync.Mutex
	bound net.Listener
}

// Bind binds an address. Connections that come before somebody accepts them wait. An empty address is bound nowhere.
func Bind(ctx context.Context, addr string) (*Port, error) {
	p := &Port{addr: addr}
	var err error
	p.bound, err = p.listen(ctx)
	return p, err
}

func (p *Port) listen(ctx context.Context) (net.Listener, error) {
	if p.addr == "" {
		return nil, nil
	}
	return (&net.ListenConfig{}).Listen(ctx, "tcp", p.addr)
}

// Addr is the address that is bound, with its port; empty when none is, or when somebody took it.
func (p *Port) Addr() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bound == nil {
		return ""
	}
	return p.bound.Addr().String()
}

// Take returns the listener, which is the caller's to close; who takes it a second time gets one that is bound anew. It returns nil
// when the address is empty.
func (p *Port) Take(ctx context.Context) (net.Listener, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if ln := p.bound; ln != nil {
		p.bound = nil
		return ln, nil
	}
	return p.listen(ctx)
}

// Close closes the listener if nobody took it.
func (p *Port) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bound == nil {
		return nil
	}
	err := p.bound.Close()
	p.bound = nil
	return err
}
