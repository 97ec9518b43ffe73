package httpx

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"
)

// ServerOptions configures [Serve]. The zero value is useful.
type ServerOptions struct {
	Log *slog.Logger // nil: slog.Default()
	// ReadHeaderTimeout is for a request's header; 0 is 10 s.
	ReadHeaderTimeout time.Duration
	// IdleTimeout is for a connection between two requests; 0 is 2 minutes.
	IdleTimeout time.Duration
	// Drain is how long running requests may take after the context ended; 0 is 30 s.
	Drain time.Duration
	// MaxConns bounds open connections, MaxClientConns those of one client as [ClientAddr] counts them. For one more, one that waits
	// for a request is closed: the client's own longest idle one, or, in a full server, that of the client that has the most; where
	// none waits, the new one. 0 is 4096, and 512; less than 0 no bound.
	MaxConns, MaxClientConns int
	// TrustedProxies have connections beyond MaxClientConns; [WithClient] bounds the requests of each client that come by them.
	TrustedProxies []netip.Prefix
	// BodyGrace and BodyRate bound how slowly a request body may come: waiting for it may take BodyGrace plus its
	// bytes divided by BodyRate (bytes a second). Time in which the handler does not read is not counted.
	// 0 is 30 s and 1024; less than 0 for BodyGrace is no limit.
	BodyGrace time.Duration
	BodyRate  int64
	// Serving, if not nil, is called by [Serve] once connections are accepted.
	Serving func()
}

func (o ServerOptions) withDefaults() ServerOptions {
	def := func(v *time.Duration, d time.Duration) {
		if *v == 0 {
			*v = d
		}
	}
	def(&o.ReadHeaderTimeout, 10*time.Second)
	def(&o.IdleTimeout, 2*time.Minute)
	def(&o.Drain, 30*time.Second)
	def(&o.BodyGrace, 30*time.Second)
	if o.BodyRate <= 0 {
		o.BodyRate = 1024
	}
	if o.MaxConns == 0 {
		o.MaxConns = 4096
	}
	if o.MaxClientConns == 0 {
		o.MaxClientConns = 512
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	return o
}

// Serve returns requests on ln until ctx ends. Then it takes no new connection and waits for running requests, at most
// opts.Drain; what still runs is cut and named in the error. It returns nil after a clean drain, and closes ln in
// every case. Contexts of requests do not end with ctx, only when they are cut.
func Serve(ctx context.Context, ln net.Listener, h http.Handler, opts ServerOptions) error {
	opts = opts.withDefaults()
	base, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	srv := NewServer(h, opts)
	srv.BaseContext = func(net.Listener) context.Context { // called when connections are about to be accepted
		if opts.Serving != nil {
			opts.Serving()
		}
		return base
	}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(ln) }()
	select {
	case err := <-done:
		_ = ln.Close()
		return fmt.Errorf("serving on %s: %w", ln.Addr(), err)
	case <-ctx.Done():
	}
	drain, stop := context.WithTimeout(base, opts.Drain)
	defer stop()
	err := srv.Shutdown(drain)
	if err != nil {
		cut()
		_ = srv.Close()
		err = fmt.Errorf("draining %s: requests still ran after %s: %w", ln.Addr(), opts.Drain, err)
	}
	if serr := <-done; serr != nil && !errors.Is(serr, http.ErrServerClosed) {
		err = errors.Join(err, serr)
	}
	return err
}

// errorLog takes net/http's own lines. All but those of a panic are what clients do.
type errorLog struct{ log *slog.Logger }

func (l errorLog) Write(line []byte) (int, error) {
	text, stack, _ := strings.Cut(strings.TrimSpace(string(line)), "\n")
	if strings.Contains(text, "panic serving") {
		l.log.Error("a request's handler panicked", "what", text, "stack", stack)
	} else {
		l.log.Debug("http", "what", text)
	}
	return len(line), nil
}

// NewServer returns the server that [Serve] runs, for callers that run it themselves.
func NewServer(h http.Handler, opts ServerOptions) *http.Server {
	opts = opts.withDefaults()
	srv := &http.Server{
		Handler:           pacedBodies(h, opts),
		ReadHeaderTimeout: opts.ReadHeaderTimeout,
		IdleTimeout:       opts.IdleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          log.New(errorLog{opts.Log}, "", 0),
	}
	if opts.MaxConns > 0 || opts.MaxClientConns > 0 {
		srv.ConnState = newConns(opts).state
	}
	return srv
}
