package auth

import (
	"context"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/atcr-dev/atcr/internal/limit"
	"github.com/atcr-dev/atcr/registry"
)

// A PDS counts the calls of an address, which for all accounts of a registry is one (the reference PDS: 3 000 in five minutes), and says
// in each answer how many are left. When half of them are gone, calls of pushes come at a pace that lasts until there are new ones;
// the last tenth is left to reads.
const (
	paceFrom = 2  // part of the limit
	kept     = 10 // part of the limit
	// longestTurn is how long a call waits here; one for which that is not enough is refused, and made again by its caller.
	longestTurn = 8 * time.Second
	maxPDSes    = 10_000
	maxWindow   = 10 * time.Minute // a PDS that speaks of longer ones is not believed
)

// pdsLimits knows what PDSes said of their limits. Safe for concurrent use.
type pdsLimits struct {
	clock func() time.Time

	mu sync.Mutex
	by map[string]*pdsLimit // by host
}

type pdsLimit struct {
	limit, left int
	reset, next time.Time // when there are new calls, and when the last one that was promised is made
}

func newPDSLimits(clock func() time.Time) *pdsLimits {
	return &pdsLimits{clock: clock, by: map[string]*pdsLimit{}}
}

// saw reads the headers of an answer: RateLimit-Limit, RateLimit-Remaining and RateLimit-Reset, in unix seconds.
func (l *pdsLimits) saw(host string, h http.Header) {
	most, err1 := strconv.Atoi(h.Get("RateLimit-Limit"))
	left, err2 := strconv.Atoi(h.Get("RateLimit-Remaining"))
	reset, err3 := strconv.ParseInt(h.Get("RateLimit-Reset"), 10, 64)
	now := l.clock()
	at := time.Unix(reset, 0)
	if err1 != nil || err2 != nil || err3 != nil || most < kept || left < 0 || at.After(now.Add(maxWindow)) || at.Before(now) {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.by[host]
	if p == nil {
		if len(l.by) >= maxPDSes {
			clear(l.by)
		}
		p = &pdsLimit{}
		l.by[host] = p
	}
	// Several limits may hold at a PDS; answers that overtake each other say too much. The least counts until it ends.
	if now.Before(p.reset) && left > p.left && at.Sub(p.reset).Abs() < 2*time.Second {
		left = p.left
	}
	p.limit, p.left, p.reset = most, left, at
}

// wait waits for a call's turn. Errors: registry.ErrTooManyRequests when that would take too long, the context's.
func (l *pdsLimits) wait(ctx context.Context, host string, read bool) error {
	d, ok := l.take(host, read)
	if !ok {
		e := registry.ErrTooManyRequests.With("the account's server %s has been asked too often by this registry", host)
		e.RetryAfter = d
		return e
	}
	return limit.Wait(ctx, d)
}

// take returns when the turn comes, or when to ask again for one.
func (l *pdsLimits) take(host string, read bool) (wait time.Duration, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now, p := l.clock(), l.by[host]
	if p == nil || !now.Before(p.reset) {
		return 0, true
	}
	if !read && p.left <= p.limit/paceFrom {
		ends, left := p.reset.Sub(now), p.left-p.limit/kept
		if left <= 0 {
			return ends, false
		}
		if p.next.Before(now) {
			p.next = now
		}
		next := p.next.Add(ends / time.Duration(left))
		if wait = next.Sub(now); wait > longestTurn {
			return longestTurn / 2, false
		}
		p.next = next
	}
	p.left = max(p.left-1, 0)
	return wait, true
}
