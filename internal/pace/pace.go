// Package pace keeps senders of request bodies, and readers of answers, from holding a server by stalling or trickling.
package pace

import (
	"io"
	"net/http"
	"time"
)

// maxEarned is how much patience a fast peer may have saved up, unless its grace is longer: who sends much and then stalls is not
// waited for in proportion to what it sent.
const maxEarned = time.Minute

// patience is a balance of time: waiting is paid from it, bytes earn it, up to a limit.
type patience struct {
	left, most time.Duration
	rate       int64
}

func newPatience(grace time.Duration, rate int64) patience {
	return patience{left: grace, most: max(grace, maxEarned), rate: rate}
}

// spend takes the time that was waited, and adds what the bytes that came by it earned.
func (p *patience) spend(waited time.Duration, n int64) {
	// Seconds are bounded first: a product of many bytes and a second would overflow.
	earned := time.Duration(min(float64(n)/float64(p.rate), p.most.Seconds()) * float64(time.Second))
	p.left = min(p.left-waited+earned, p.most)
}

// Body bounds how slowly the request's body may come: waiting for it may take grace, plus a second for each rate bytes that
// came; what was saved up so is never more than a minute, or grace if that is longer. Time in which nobody reads is not counted. A
// read beyond it fails with os.ErrDeadlineExceeded. For a body that has a pace already, the later call's counts. It needs a server
// that can set deadlines ([http.ResponseController]); elsewhere it does nothing. No grace or no rate is no bound.
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
	r.Body = &body{ReadCloser: inner, ctl: http.NewResponseController(w), patience: newPatience(grace, rate)}
}

// body sets a read deadline before each read, by the patience that is left.
type body struct {
	io.ReadCloser
	ctl      *http.ResponseController
	patience patience
}

func (b *body) Read(p []byte) (int, error) {
	start := time.Now()
	_ = b.ctl.SetReadDeadline(start.Add(b.patience.left))
	n, err := b.ReadCloser.Read(p)
	// A deadline left behind would end the connection's background read, and with it the request's context.
	if err == nil || err == io.EOF {
		_ = b.ctl.SetReadDeadline(time.Time{})
	}
	b.patience.spend(time.Since(start), int64(n))
	return n, err
}
