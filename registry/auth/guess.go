package auth

import (
	"container/list"
	"net/netip"
	"sync"
	"time"

	"github.com/atcr-dev/atcr/registry"
)

// Guesses that are let through at once, and how soon one more is.
const (
	accountBurst, accountEvery = 5, 30 * time.Second
	addressBurst, addressEvery = 20, 5 * time.Second
	maxBuckets                 = 50_000
)

// guessLimiter slows the guessing of passwords: a bucket per account and one per address. A guess is paid before the
// PDS is asked, so that many at once pay too, and refunded when the password was right.
type guessLimiter struct {
	mu    sync.Mutex
	byKey map[string]*list.Element // of *bucket
	order *list.List               // most recently used in front
}

type bucket struct {
	key   string
	spent float64 // guesses not yet forgiven
	at    time.Time
}

func newGuessLimiter() *guessLimiter {
	return &guessLimiter{byKey: map[string]*list.Element{}, order: list.New()}
}

// addressKey joins the addresses that one guesser has: an IPv6 network of 64 bits.
func addressKey(a netip.Addr) string {
	if a.Is6() {
		if p, err := a.WithZone("").Prefix(64); err == nil {
			return "a " + p.String()
		}
	}
	return "a " + a.String()
}

// pay takes a guess from both buckets. Errors: ErrTooManyRequests with RetryAfter; then nothing is taken.
func (g *guessLimiter) pay(account string, addr netip.Addr, now time.Time) (refund func(), err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	// The address first: it is made before the account's and so stays while the account's is made.
	a, b := g.bucket(addressKey(addr), addressEvery, now), g.bucket("u "+account, accountEvery, now)
	wait := max(missing(a, addressBurst, addressEvery), missing(b, accountBurst, accountEvery))
	if wait > 0 {
		e := *registry.ErrTooManyRequests.With("too many failed sign-ins: wait %d seconds", int(wait.Seconds()+1))
		e.RetryAfter = wait
		return nil, &e
	}
	a.spent++
	b.spent++
	return func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		a.spent = max(a.spent-1, 0)
		b.spent = max(b.spent-1, 0)
	}, nil
}

func missing(b *bucket, burst float64, every time.Duration) time.Duration {
	if over := b.spent + 1 - burst; over > 0 {
		return time.Duration(over * float64(every))
	}
	return 0
}

// bucket finds or makes a bucket and forgives what time has forgiven. The lock is held.
func (g *guessLimiter) bucket(key string, every time.Duration, now time.Time) *bucket {
	if el, ok := g.byKey[key]; ok {
		g.order.MoveToFront(el)
		b := el.Value.(*bucket)
		if passed := now.Sub(b.at); passed > 0 {
			b.spent, b.at = max(b.spent-float64(passed)/float64(every), 0), now
		}
		return b
	}
	b := &bucket{key: key, at: now}
	g.byKey[key] = g.order.PushFront(b)
	if g.order.Len() > maxBuckets {
		delete(g.byKey, g.order.Remove(g.order.Back()).(*bucket).key)
	}
	return b
}
