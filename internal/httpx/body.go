package httpx

import (
	"net/http"

	"github.com/atcr-dev/atcr/internal/pace"
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
		pace.Body(w, r, opts.BodyGrace, opts.BodyRate)
		h.ServeHTTP(w, r)
	})
}
