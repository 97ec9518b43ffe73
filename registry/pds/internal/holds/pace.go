package holds

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/atcr-dev/atcr/hold/holdclient"
	"github.com/atcr-dev/atcr/internal/limit"
	"github.com/atcr-dev/atcr/registry"
)

// A hold takes a token once, and remembers it while it is valid: three minutes, with the leeway. It remembers so many of one account
// (ours 5 000), and refuses more, so that pushing by many small calls would stop the account's pulls, too. Writes therefore take at
// most tokensOfWrites in that time, which leaves the rest for reads; after tokensFree they come at a pace that lasts until the first
// ones are forgotten, so that no call waits for long.
const (
	tokensOfWrites = 4000
	tokensFree     = 3000
	slotLength     = 5 * time.Second
	slotsOfWindow  = 39 // three minutes, the longest turn, and the slot that is being counted
	// longestTurn is how long a call waits for its token; one for which that is not enough is made again by Patiently.
	longestTurn = 8 * time.Second
	maxPaced    = 10_000 // accounts and holds
)

// patientFor is how long a client's request waits for a hold, or its account's PDS, that asks to slow down: PDSes count in spans of five
// minutes.
const patientFor = 6 * time.Minute

// reads reports whether a method is a read, which never waits for writes.
func reads(lxm string) bool { return lxm == "com.atproto.sync.getBlob" }

// pacer gives turns, by key. Safe for concurrent use.
type pacer struct {
	clock       func() time.Time
	limit, free int
	slot        time.Duration

	mu   sync.Mutex
	keys map[string]*turns
}

// turns counts those of one key, by when they were given.
type turns struct {
	counts [slotsOfWindow]int
	used   int       // their sum
	newest int64     // number of the slot that is being counted, since 1970
	next   time.Time // when the last turn that was promised comes
}

func newPacer(clock func() time.Time) *pacer {
	return &pacer{clock: clock, limit: tokensOfWrites, free: tokensFree, slot: slotLength, keys: map[string]*turns{}}
}

// wait takes a turn and waits until it comes; a read takes one and doesn't wait. Errors: registry.ErrTooManyRequests when that would
// take longer than a call may, and then no turn was taken; the context's.
func (p *pacer) wait(ctx context.Context, key string, read bool) error {
	d, ok := p.take(key, read)
	if !ok {
		e := registry.ErrTooManyRequests.With("too many calls to the hold at once")
		e.RetryAfter = d
		return e
	}
	return limit.Wait(ctx, d)
}

// take returns when the turn comes, or when to ask again for one.
func (p *pacer) take(key string, read bool) (wait time.Duration, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.clock()
	t := p.keys[key]
	if t == nil {
		p.makeRoom(now)
		t = &turns{}
		p.keys[key] = t
	}
	t.advance(now.UnixNano() / int64(p.slot))
	if !read && t.used >= p.free {
		ends := time.Unix(0, (t.oldest()+slotsOfWindow)*int64(p.slot)).Sub(now)
		if t.used >= p.limit {
			return ends, false
		}
		if t.next.Before(now) {
			t.next = now
		}
		next := t.next.Add(ends / time.Duration(p.limit-t.used))
		if wait = next.Sub(now); wait > longestTurn {
			return longestTurn / 2, false
		}
		t.next = next
	}
	t.counts[t.newest%slotsOfWindow]++
	t.used++
	return wait, true
}

// advance forgets what is older than the window.
func (t *turns) advance(slot int64) {
	if slot-t.newest >= slotsOfWindow {
		t.counts, t.used = [slotsOfWindow]int{}, 0
		t.newest = slot
	}
	for t.newest < slot {
		t.newest++
		t.used -= t.counts[t.newest%slotsOfWindow]
		t.counts[t.newest%slotsOfWindow] = 0
	}
}

// oldest is the number of the oldest slot with turns; there are some.
func (t *turns) oldest() int64 {
	n := t.newest - slotsOfWindow + 1
	for n < t.newest && t.counts[n%slotsOfWindow] == 0 {
		n++
	}
	return n
}

// makeRoom forgets keys whose turns have all come back, else any: a hold that minds says so. The caller holds mu.
func (p *pacer) makeRoom(now time.Time) {
	if len(p.keys) < maxPaced {
		return
	}
	for key, t := range p.keys {
		if t.advance(now.UnixNano() / int64(p.slot)); t.used == 0 {
			delete(p.keys, key)
		}
	}
	for key := range p.keys {
		if len(p.keys) < maxPaced {
			return
		}
		delete(p.keys, key)
	}
}

// Patiently calls f, and calls it again when the hold or the account's PDS asks to slow down, or the pace of tokens does: for what a
// push needs, whose client can wait. It gives up when ctx ends, or after six minutes, with f's error.
func Patiently(ctx context.Context, f func() error) error {
	end := time.Now().Add(patientFor)
	for try := 1; ; try++ {
		err := f()
		wait, slow := slowDown(err)
		if !slow {
			return err
		}
		// Without a time from the server it is asked less and less often.
		wait = max(wait, min(time.Duration(try)*200*time.Millisecond, 5*time.Second))
		if time.Now().Add(wait).After(end) || limit.Wait(ctx, wait) != nil {
			return err
		}
	}
}

// slowDown reports whether an error asks to come again, and when.
func slowDown(err error) (time.Duration, bool) {
	if e := (*registry.Error)(nil); errors.As(err, &e) {
		return e.RetryAfter, errors.Is(e, registry.ErrTooManyRequests)
	}
	if e := (*holdclient.Error)(nil); errors.As(err, &e) {
		// Uploads that are open do not end by waiting.
		return e.RetryAfter, e.Kind == holdclient.ErrRateLimited && e.Name != "TooManyOpenUploads"
	}
	return 0, false
}
