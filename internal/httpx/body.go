package httpx

import (
	"io"
	"net/http"
	"time"
)

// LimitBody refuses request bodies of more than n bytes: reading further is an *http.MaxBytesError, and the
// connection is closed.
func LimitBody(h http.Handler, n int64) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, n)
		h.ServeHTTP(w, r)
	})
}

// pacedBodies gives every request body its pace.
func pacedBodies(h http.Handler, opts ServerOptions) http.Handler {
	if opts.BodyGrace < 0 {
		return h
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Body != nil && r.Body != http.NoBody {
			r.Body = &pacedBody{ReadCloser: r.Body, ctl: http.NewResponseController(w), grace: opts.BodyGrace, rate: opts.BodyRate}
		}
		h.ServeHTTP(w, r)
	})
}

// pacedBody sets a read deadline before each read, from the time already spent waiting and the bytes that came. At the
// body's end net/http takes the deadline away.
type pacedBody struct {
	io.ReadCloser
	ctl    *http.ResponseController
	grace  time.Duration
	rate   int64
	n      int64
	waited time.Duration
}

func (b *pacedBody) Read(p []byte) (int, error) {
	start := time.Now()
	allowed := b.grace + time.Duration(float64(b.n)/float64(b.rate)*float64(time.Second)) - b.waited
	// A server that can't set deadlines (a test recorder) has no slow sender either.
	_ = b.ctl.SetReadDeadline(start.Add(allowed))
	n, err := b.ReadCloser.Read(p)
	b.n += int64(n)
	b.waited += time.Since(start)
	return n, err
}
