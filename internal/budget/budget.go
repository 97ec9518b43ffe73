// Package budget shares an amount, of bytes or of places, among parties that nobody vouches for: all of them together have a total,
// and each one a share, so that one who takes all that it can get keeps the rest from nobody.
//
//	memory := budget.New(64<<20, 16<<20)
//	release, err := memory.Take(ctx, 1<<20, false, "did:plc:…", "192.0.2.7")
package budget

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
)

// ErrTooMuch is wrapped when more was asked for than a share: it will never be there.
var ErrTooMuch = errors.New("more than a share")

// Budget is an amount that is shared. Make it with [New]; safe for concurrent use.
type Budget struct {
	total, share int64

	mu      sync.Mutex
	used    int64
	by      map[string]int64
	waiting []*waiter // urgent ones first, then in the order they came
}

type waiter struct {
	n       int64
	keys    []string
	urgent  bool
	granted chan struct{}
}

// New returns a budget of a total, of which one key has at most share.
func New(total, share int64) *Budget {
	return &Budget{total: total, share: min(share, total), by: map[string]int64{}}
}

// Take waits until n are free and each of the keys has as many left of its share, and takes them. Who came first goes first, unless
// its share is used up; urgent ones go before the others. Errors: [ErrTooMuch], the context's.
func (b *Budget) Take(ctx context.Context, n int64, urgent bool, keys ...string) (release func(), err error) {
	if n > b.share {
		return nil, fmt.Errorf("%w: %d of %d", ErrTooMuch, n, b.share)
	}
	w := &waiter{n: n, keys: keys, urgent: urgent, granted: make(chan struct{})}
	b.mu.Lock()
	at := len(b.waiting)
	if urgent {
		if at = slices.IndexFunc(b.waiting, func(o *waiter) bool { return !o.urgent }); at < 0 {
			at = len(b.waiting)
		}
	}
	b.waiting = slices.Insert(b.waiting, at, w)
	b.grant()
	b.mu.Unlock()
	select {
	case <-w.granted:
	case <-ctx.Done():
		b.mu.Lock()
		defer b.mu.Unlock()
		if i := slices.Index(b.waiting, w); i >= 0 {
			b.waiting = slices.Delete(b.waiting, i, i+1)
			b.grant() // who came later may need less
			return nil, ctx.Err()
		}
		// It was granted at the same moment.
	}
	return sync.OnceFunc(func() { b.Give(n, keys...) }), nil
}

// Try takes n at once, and reports whether it did: only while no more than ceiling are used in all, and past those who wait.
func (b *Budget) Try(n, ceiling int64, keys ...string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.used+n > min(ceiling, b.total) || !b.within(n, keys) {
		return false
	}
	b.take(n, keys)
	return true
}

// Give returns what [Budget.Try] took.
func (b *Budget) Give(n int64, keys ...string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.used = max(b.used-n, 0) // given back twice, it would be there for all from then on
	for _, k := range keys {
		if b.by[k] -= n; b.by[k] <= 0 {
			delete(b.by, k)
		}
	}
	b.grant()
}

// Used returns how much is taken.
func (b *Budget) Used() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.used
}

// UsedBy returns how much of its share a key has taken.
func (b *Budget) UsedBy(key string) int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.by[key]
}

// Waiting returns how many wait.
func (b *Budget) Waiting() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.waiting)
}

func (b *Budget) within(n int64, keys []string) bool {
	for _, k := range keys {
		if b.by[k]+n > b.share {
			return false
		}
	}
	return true
}

func (b *Budget) take(n int64, keys []string) {
	b.used += n
	for _, k := range keys {
		b.by[k] += n
	}
}

// grant gives those who wait what there is. One for whom the total does not suffice is waited for: else it would never be its turn.
func (b *Budget) grant() {
	kept := b.waiting[:0]
	full := false
	for _, w := range b.waiting {
		full = full || b.used+w.n > b.total && b.within(w.n, w.keys)
		if full || !b.within(w.n, w.keys) {
			kept = append(kept, w)
			continue
		}
		b.take(w.n, w.keys)
		close(w.granted)
	}
	clear(b.waiting[len(kept):])
	b.waiting = kept
}
