package httpx

import (
	"context"
	"net"
	"net/http"
	"testing"
)

// TestPort: a port is taken from Bind on, can be served twice one after the other, and is free after Close.
func TestPort(t *testing.T) {
	p, err := Bind(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := p.bound.Addr().String()
	p.addr = addr // a second listener is on the same port
	if _, err := Bind(t.Context(), addr); err == nil {
		t.Error("bound twice")
	}
	for range 2 {
		ln, err := p.Take(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		served, done := make(chan struct{}), make(chan error, 1)
		go func() {
			done <- Serve(ctx, ln, http.NotFoundHandler(), ServerOptions{Serving: func() { close(served) }})
		}()
		<-served
		resp, err := http.Get("http://" + addr)
		if err != nil {
			t.Fatal(err)
		}
		Drain(resp)
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	again, err := Bind(t.Context(), addr)
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	ln.Close()

	none, err := Bind(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	if ln, err := none.Take(t.Context()); ln != nil || err != nil {
		t.Error(ln, err)
	}
	if err := none.Close(); err != nil {
		t.Error(err)
	}
}
