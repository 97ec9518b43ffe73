package serviceauth

import (
	"cmp"
	"container/heap"
	"crypto/sha256"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"github.com/atcr-dev/atcr/internal/party"
)

// replayCache remembers used tokens until they expire. When it is full, tokens of whoever takes most of it are forgotten, who is
// the one that filled it: refusing all new ones would let a single user with many DIDs shut everybody out, and forgetting those that
// expire soonest would open the tokens of all others, which live for a minute, to be used again.
type replayCache struct {
	max, maxPerIssuer int

	mu        sync.Mutex
	seen      map[[16]byte]struct{}
	byExpiry  expiries
	perIssuer map[syntax.DID]int
}

type usedToken struct {
	id     [16]byte
	issuer syntax.DID
	until  int64 // unix seconds
}

func newReplayCache(limit, perIssuer int) *replayCache {
	return &replayCache{max: limit, maxPerIssuer: perIssuer, seen: map[[16]byte]struct{}{}, perIssuer: map[syntax.DID]int{}}
}

// use records a token, or says that it was used before or is one too many.
func (c *replayCache) use(issuer syntax.DID, jti string, until, now time.Time) error {
	sum := sha256.Sum256([]byte(issuer.String() + " " + jti))
	id := [16]byte(sum[:16])
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.byExpiry) > 0 && c.byExpiry[0].until < now.Unix() {
		c.forgetFirst()
	}
	if _, ok := c.seen[id]; ok {
		return &Error{Kind: Replay, Message: "the token was used before: ask for a new one for each call"}
	}
	if c.perIssuer[issuer] >= c.maxPerIssuer {
		return &Error{Kind: TooMany, Message: "too many tokens of this issuer are still valid: ask for shorter ones"}
	}
	if len(c.byExpiry) >= c.max {
		c.forgetSome(max(c.max/100, 1), now.Unix())
	}
	c.seen[id] = struct{}{}
	c.perIssuer[issuer]++
	heap.Push(&c.byExpiry, usedToken{id, issuer, until.Unix()})
	return nil
}

func (c *replayCache) forgetFirst() { c.forget(heap.Pop(&c.byExpiry).(usedToken)) }

// forgetSome forgets n tokens, of the party that weighs most those that expire soonest, then of the next one. A party weighs as many
// tokens as it has here, times the square of how long they live: who has many DIDs fills the cache with few long-lived ones of each,
// and those who push have many that live for a minute.
func (c *replayCache) forgetSome(n int, now int64) {
	count, sum, weight := map[string]float64{}, map[string]float64{}, map[string]float64{}
	whose := make(map[syntax.DID]string, len(c.perIssuer))
	for _, u := range c.byExpiry {
		p, ok := whose[u.issuer]
		if !ok {
			p = party.Of(u.issuer.String())
			whose[u.issuer] = p
		}
		count[p]++
		sum[p] += float64(u.until - now)
	}
	for p := range count {
		weight[p] = sum[p] * sum[p] / count[p]
	}
	parties := slices.SortedFunc(maps.Keys(weight), func(a, b string) int {
		return cmp.Or(cmp.Compare(weight[b], weight[a]), cmp.Compare(a, b))
	})
	rank := make(map[string]int, len(parties))
	for i, p := range parties {
		rank[p] = i
	}
	all := c.byExpiry
	slices.SortFunc(all, func(a, b usedToken) int {
		x, y := rank[whose[a.issuer]], rank[whose[b.issuer]]
		return cmp.Or(cmp.Compare(x, y), cmp.Compare(a.until, b.until))
	})
	for _, u := range all[:n] {
		c.forget(u)
	}
	c.byExpiry = slices.Clone(all[n:])
	heap.Init(&c.byExpiry)
}

func (c *replayCache) forget(u usedToken) {
	delete(c.seen, u.id)
	if c.perIssuer[u.issuer]--; c.perIssuer[u.issuer] == 0 {
		delete(c.perIssuer, u.issuer)
	}
}

type expiries []usedToken

func (e expiries) Len() int           { return len(e) }
func (e expiries) Less(i, j int) bool { return e[i].until < e[j].until }
func (e expiries) Swap(i, j int)      { e[i], e[j] = e[j], e[i] }
func (e *expiries) Push(x any)        { *e = append(*e, x.(usedToken)) }
func (e *expiries) Pop() any {
	last := (*e)[len(*e)-1]
	*e = (*e)[:len(*e)-1]
	return last
}
