package auth

import (
	"net/netip"
	"sync"
	"time"

	"github.com/atcr-dev/atcr/internal/limit"
)

// Guesses that are let through at once, and how soon one more is.
const (
	pairBurst, pairEvery       = 5, 30 * time.Second // one client's at one account
	addressBurst, addressEvery = 20, 5 * time.Second // one client's at all accounts
	// Those at one account by all clients that never signed in to it: what a PDS itself lets through of createSession.
	accountBurst, accountEvery = 30, 10 * time.Second
	// rightCost is what remains of a guess when the password was right: new sessions are rows, and an own PDS takes any password.
	rightCost = 0.1
	maxKnown  = 50_000
)

// guessLimiter slows the guessing of passwords. A guess is paid before the PDS is asked, so that many at once pay too, and refunded
// but for rightCost when it was none. A client that has signed in to an account pays for its pair with it alone, which nobody else can
// use up.
type guessLimiter struct {
	addresses, accounts, pairs *limit.Rates

	mu    sync.Mutex
	known *lru[struct{}] // clients and the accounts that they signed in to
}

func newGuessLimiter() *guessLimiter {
	rates := func(burst int, every time.Duration) *limit.Rates { return limit.NewRates(1/every.Seconds(), burst) }
	return &guessLimiter{
		addresses: rates(addressBurst, addressEvery), accounts: rates(accountBurst, accountEvery), pairs: rates(pairBurst, pairEvery),
		known: newLRU[struct{}](maxKnown),
	}
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

// signedIn remembers that a client has signed in to an account.
func (g *guessLimiter) signedIn(account string, addr netip.Addr) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.known.put(addressKey(addr)+" "+account, struct{}{})
}

// pay takes a guess. Errors: ErrTooManyRequests with RetryAfter; then nothing is taken.
func (g *guessLimiter) pay(account string, addr netip.Addr, now time.Time) (refund func(), err error) {
	type share struct {
		rates *limit.Rates
		key   string
	}
	client := addressKey(addr)
	pair := client + " " + account
	g.mu.Lock()
	defer g.mu.Unlock() // for all of it: what is returned at once was never gone for others
	from := []share{{g.addresses, client}, {g.accounts, account}, {g.pairs, pair}}
	if _, ok := g.known.get(pair); ok {
		from = from[2:]
	}
	give := func(shares []share, part float64) {
		for _, s := range shares {
			s.rates.Return(s.key, part)
		}
	}
	for i, s := range from { // no further than the first refusal: it makes no new key
		if wait := s.rates.Take(s.key, now); wait > 0 {
			give(from[:i], 1)
			return nil, slowed("too many failed sign-ins", wait)
		}
	}
	return func() { give(from, 1-rightCost) }, nil
}
