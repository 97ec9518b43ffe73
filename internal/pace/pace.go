// Package pace keeps senders of request bodies, and readers of answers, from holding a server by stalling or trickling.
package pace

import (
	"io"
	"net/http"
	"time"
)

// Body bounds how slowly the request's body may come: all waiting for it together may take grace, plus a second for
// each rate bytes that came. Time in which nobody reads is not counted. A read beyond it fails with
// os.ErrDeadlineExceeded. For a body that has a pace already, the later call's counts. It needs a server that can set
// deadlines ([http.ResponseController]); elsewhere it does nothing. No grace or no rate is no bound.
func Body(w http.ResponseWriter, r *http.Request, grace time.Duration, rate int64) {
	if r.Body == nil || r.Body == http.NoBody {
		return
	}
	inner := r.Body
	if b, ok := inner.(*body); ok {
		inner = b.ReadCloser
	}
	if grace <= 0 || rate <= 0 {
		r.Body = inner
		return
	}
	r.Body = &body{ReadCloser: inner, ctl: http.NewResponseController(w), grace: grace, rate: rate}
}

// body sets a read deadline before each read, from the time already spent waiting and the bytes that came.
type body struct {
	io.ReadCloser
	ctl    *http.ResponseController
	grace  time.Duration
	rate   int64
	n      int64
	waited time.Duration
}

func (b *body) Read(p []byte) (int, error) {
	start := time.Now()
	earned := time.Duration(float64(b.n) / float64(b.rate) * float64(time.Second))
	_ = b.ctl.SetReadDeadline(start.Add(b.grace + earned - b.waited))
	n, err := b.ReadCloser.Read(p)
	// A deadline left behind would end the connection's background read, and with it the request's context.
	if err == nil || err == io.EOF {
		_ = b.ctl.SetReadDeadline(time.Time{})
	}
	b.n += int64(n)
	b.waited += time.Since(start)
	return n, err
}
