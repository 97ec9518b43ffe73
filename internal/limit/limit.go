// Package limit bounds what one party, named by a key, may do in a time or at once. Both kinds hold bounded memory whatever keys come.
package limit

import (
	"container/list"
	"context"
	"sync"
	"time"
)

// MaxKeys is how many keys a [Rates] remembers. Beyond it the one that was used least recently is forgotten, which lets it do its
// burst anew: who has more keys than these isn't bounded by key.
const MaxKeys = 50_000

// Rates lets each key do something so often a second, and a burst of it at once. Safe for concurrent use.
type Rates struct {
	every time.Duration // between two, in the long run
	ahead time.Duration // how far a burst may be ahead of that

	mu    sync.Mutex
	byKey map[string]*list.Element // of *rate
	order *list.List               // most recently used in front
}

// rate is a key and when all that it did would have been done at the pace of one each Rates.every.
type rate struct {
	key  string
	next time.Time
}

// NewRates lets each key do perSecond a second, burst at once. Both are more than 0.
func NewRates(perSecond float64, burst int) *Rates {
	every := time.Duration(float64(time.Second) / perSecond)
	return &Rates{every: every, ahead: time.Duration(burst-1) * every, byKey: map[string]*list.Element{}, order: list.New()}
}

// Take does one and returns 0, or nothing and returns how long to wait before the next try can succeed.
func (r *Rates) Take(key string, now time.Time) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	el, ok := r.byKey[key]
	if !ok {
		el = r.order.PushFront(&rate{key: key, next: now})
		r.byKey[key] = el
		if r.order.Len() > MaxKeys {
			delete(r.byKey, r.order.Remove(r.order.Back()).(*rate).key)
		}
	}
	r.order.MoveToFront(el)
	at := el.Value.(*rate)
	if at.next.Before(now) {
		at.next = now
	}
	if most := now.Add(r.ahead + r.every); at.next.After(most) { // the clock was set back
		at.next = most
	}
	if wait := at.next.Sub(now) - r.ahead; wait > 0 {
		return wait
	}
	at.next = at.next.Add(r.every)
	return 0
}

// Return gives a part, up to 1, of one back that was taken.
func (r *Rates) Return(key string, part float64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if el, ok := r.byKey[key]; ok {
		at := el.Value.(*rate)
		at.next = at.next.Add(-time.Duration(part * float64(r.every)))
	}
}

// Wait waits for d, or until ctx ends, whose error it then returns.
func Wait(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Places lets each key have so many of something at once. Safe for concurrent use.
type Places struct {
	each int

	mu    sync.Mutex
	taken map[string]int // never 0: as many keys as there are places taken, at most
}

// NewPlaces gives each key so many places.
func NewPlaces(each int) *Places { return &Places{each: each, taken: map[string]int{}} }

// Enter takes a place, and reports whether there was one. Each that was taken is to be left once.
func (p *Places) Enter(key string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.taken[key] >= p.each {
		return false
	}
	p.taken[key]++
	return true
}

// Leave gives a place back.
func (p *Places) Leave(key string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.taken[key]--; p.taken[key] <= 0 {
		delete(p.taken, key)
	}
}
