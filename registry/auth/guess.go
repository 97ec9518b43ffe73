package auth

import (
	"net/netip"
	"sync"
	"time"

	"github.com/atcr-dev/atcr/registry"
)

// Guesses that are let through at once, and how soon one more is.
const (
	pairBurst, pairEvery       = 5, 30 * time.Second // one client's at one account
	addressBurst, addressEvery = 20, 5 * time.Second // one client's at all accounts
	// Those at one account by all clients that never signed in to it: what a PDS itself lets through of createSession.
	accountBurst, accountEvery = 30, 10 * time.Second
	// rightCost is what remains of a guess when the password was right: new sessions are rows, and an own PDS takes any password.
	rightCost  = 0.1
	maxBuckets = 50_000
	maxKnown   = 50_000
)

// guessLimiter slows the guessing of passwords. A guess is paid before the PDS is asked, so that many at once pay too, and refunded
// but for rightCost when it was none. A client that has signed in to an account pays from a bucket of its own there, which
// nobody else can empty.
type guessLimiter struct {
	mu      sync.Mutex
	buckets *lru[*bucket]
	known   *lru[struct{}] // clients and the accounts that they signed in to
}

type bucket struct {
	spent float64 // guesses not yet forgiven
	at    time.Time
}

// allowance is a bucket's key and size.
type allowance struct {
	key   string
	burst float64
	every time.Duration
}

func newGuessLimiter() *guessLimiter {
	return &guessLimiter{buckets: newLRU[*bucket](maxBuckets), known: newLRU[struct{}](maxKnown)}
}

// addressKey joins the addresses that one guesser has: an IPv6 network of 64 bits.
func addressKey(a netip.Addr) string {
	a = a.Unmap()
	if a.Is6() {
		if p, err := a.WithZone("").Prefix(64); err == nil {
			return p.String()
		}
	}
	return a.String()
}

// allowances are what a guess is taken from. The lock is held.
func (g *guessLimiter) allowances(account string, addr netip.Addr) []allowance {
	client := addressKey(addr)
	pair := allowance{"p " + client + " " + account, pairBurst, pairEvery}
	if _, ok := g.known.get(client + " " + account); ok {
		return []allowance{pair}
	}
	return []allowance{{"a " + client, addressBurst, addressEvery}, {"u " + account, accountBurst, accountEvery}, pair}
}

// signedIn remembers that a client has signed in to an account.
func (g *guessLimiter) signedIn(account string, addr netip.Addr) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.known.put(addressKey(addr)+" "+account, struct{}{})
}

// pay takes a guess. Errors: ErrTooManyRequests with RetryAfter; then nothing is taken.
func (g *guessLimiter) pay(account string, addr netip.Addr, now time.Time) (refund func(), err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	from := g.allowances(account, addr)
	var wait time.Duration
	for _, a := range from {
		if b, ok := g.buckets.get(a.key); ok {
			b.forgive(a.every, now)
			wait = max(wait, b.missing(a))
		}
	}
	if wait > 0 {
		e := *registry.ErrTooManyRequests.With("too many failed sign-ins: wait %d seconds", int(wait.Seconds()+1))
		e.RetryAfter = wait
		return nil, &e
	}
	paid := make([]*bucket, len(from))
	for i, a := range from {
		b, ok := g.buckets.get(a.key)
		if !ok {
			b = &bucket{at: now}
			g.buckets.put(a.key, b)
		}
		b.spent++
		paid[i] = b
	}
	return func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		for _, b := range paid {
			b.spent = max(b.spent-(1-rightCost), 0)
		}
	}, nil
}

// forgive takes off what time has forgiven.
func (b *bucket) forgive(every time.Duration, now time.Time) {
	if passed := now.Sub(b.at); passed > 0 {
		b.spent, b.at = max(b.spent-float64(passed)/float64(every), 0), now
	}
}

func (b *bucket) missing(a allowance) time.Duration {
	if over := b.spent + 1 - a.burst; over > 0 {
		return time.Duration(over * float64(a.every))
	}
	return 0
}
