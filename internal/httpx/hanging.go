package httpx

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"
)

// ErrHanging is wrapped when a request was not sent, because its server has let others wait in vain: see [NewClient].
var ErrHanging = errors.New("the server has stopped to answer")

// When a server counts as one that hangs, and how it is asked then.
const (
	hangsAfter = 4 * time.Second  // who gave up earlier says nothing about the server
	hangPause  = 5 * time.Second  // after each try that was in vain
	hangTry    = 10 * time.Second // how long one try keeps all others from trying
	maxHanging = 10_000           // servers that are remembered
)

// hanging keeps requests from waiting for a server that is known not to answer (one that was stopped, or whose packets are lost;
// one that refuses connections costs nobody time). Once a request has waited for a response until its time was over, while nothing else
// got one from there, one request at a time tries it, and all others fail at once. The first response ends that. Those whose callers have
// gone count for nothing, however long they waited: a client could make a slow server a hanging one by going away.
type hanging struct {
	http.RoundTripper
	after, pause, try time.Duration

	mu    sync.Mutex
	hosts map[string]*hangingHost // those that hang, and those with requests under way
}

type hangingHost struct {
	running  int
	answered time.Time
	hangs    bool
	next     time.Time // when the next try may be made
}

func newHanging(rt http.RoundTripper) *hanging {
	return &hanging{RoundTripper: rt, after: hangsAfter, pause: hangPause, try: hangTry, hosts: map[string]*hangingHost{}}
}

// RoundTrip implements http.RoundTripper.
func (h *hanging) RoundTrip(r *http.Request) (*http.Response, error) {
	key, began := r.URL.Scheme+"://"+r.URL.Host, time.Now()
	if !h.enter(key, began) {
		if r.Body != nil {
			_ = r.Body.Close() // a RoundTripper closes it in every case
		}
		return nil, fmt.Errorf("%w: %s; it is tried again every few seconds", ErrHanging, key)
	}
	resp, err := h.RoundTripper.RoundTrip(r)
	h.leave(key, began, time.Now(), endOf(r.Context(), time.Now(), err))
	return resp, err
}

func (h *hanging) enter(key string, now time.Time) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	host := h.hosts[key]
	if host == nil {
		host = &hangingHost{}
		h.hosts[key] = host
	}
	if host.hangs {
		if now.Before(host.next) {
			return false
		}
		host.next = now.Add(h.try)
	}
	host.running++
	return true
}

func (h *hanging) leave(key string, began, now time.Time, how end) {
	h.mu.Lock()
	defer h.mu.Unlock()
	host := h.hosts[key]
	host.running--
	switch {
	case how == endAnswered:
		host.answered, host.hangs = now, false
	case how == endLate && now.Sub(began) >= h.after:
		if host.answered.Before(began) {
			host.hangs, host.next = true, now.Add(h.pause)
		}
	case how == endFailed:
		host.hangs = false // it refuses, which takes no time
	case host.hangs:
		host.next = now // whoever tried has gone; the next may
	}
	if host.running == 0 && !host.hangs {
		delete(h.hosts, key)
	}
	if len(h.hosts) > maxHanging {
		for k, other := range h.hosts {
			if other.running == 0 {
				delete(h.hosts, k)
				break
			}
		}
	}
}

// end is how a request ended.
type end int

const (
	endAnswered end = iota
	endFailed
	endLate // its time was over: all deadlines are this program's
	endLeft // whoever asked has gone
)

// endOf goes by the context before the error, which is the cause that somebody gave when they cancelled it.
func endOf(ctx context.Context, now time.Time, err error) end {
	deadline, limited := ctx.Deadline()
	var timeout net.Error
	switch {
	case err == nil:
		return endAnswered
	case errors.Is(ctx.Err(), context.Canceled):
		return endLeft
	case limited && !now.Before(deadline): // http.Client.Timeout may be heard of in another way, as well
		return endLate
	case errors.As(err, &timeout) && timeout.Timeout(): // context.DeadlineExceeded is one, too
		return endLate
	case errors.Is(err, context.Canceled):
		return endLeft
	}
	return endFailed
}

// CloseIdleConnections lets http.Client.CloseIdleConnections through.
func (h *hanging) CloseIdleConnections() { closeIdle(h.RoundTripper) }
