// Package shared does once what several ask for at the same time, and for as long as one of them waits.
package shared

import (
	"context"
	"math"
	"sync"
	"time"

	"github.com/atcr-dev/atcr/internal/budget"
	"github.com/atcr-dev/atcr/internal/httpx"
	"github.com/atcr-dev/atcr/registry"
)

// PerClient is how much work of one kind may go on that one client has begun, unless the work is large.
const PerClient = 64

const patience = 10 * time.Second // of a client that has begun as much as it may

// Group is work by key. Make it with [New]; safe for concurrent use.
type Group[V any] struct {
	mu    sync.Mutex
	calls map[string]*call[V]
	begun *budget.Budget // by client
}

type call[V any] struct {
	done    chan struct{}
	v       V
	err     error
	waiting int
	cancel  context.CancelFunc
}

// New makes a Group in which so much work may go on that one client ([httpx.WithClient]) has begun: what the work takes counts to no
// client's share, since others may wait for it.
func New[V any](perClient int64) *Group[V] {
	return &Group[V]{calls: map[string]*call[V]{}, begun: budget.New(math.MaxInt64/2, perClient)}
}

// Do runs f, or waits for the one that runs under the key already, and returns what it returned. The context of f has the values of the
// first caller's, and is [httpx.Shared]; it ends after limit, or when the last of its callers has gone. Errors: those of f, the context's;
// registry.ErrTooManyRequests for a client that has begun too much.
func (g *Group[V]) Do(ctx context.Context, key string, limit time.Duration, f func(context.Context) (V, error)) (V, error) {
	g.mu.Lock()
	c := g.calls[key]
	over := func() {}
	if c == nil {
		g.mu.Unlock()
		var err error
		if over, err = g.enter(ctx); err != nil {
			var zero V
			return zero, err
		}
		g.mu.Lock()
		if c = g.calls[key]; c != nil { // another was faster
			over()
		}
	}
	if c == nil {
		work, cancel := context.WithTimeout(httpx.Shared(context.WithoutCancel(ctx)), limit)
		c = &call[V]{done: make(chan struct{}), cancel: cancel}
		g.calls[key] = c
		go func() {
			defer over()
			defer cancel()
			c.v, c.err = f(work)
			g.leave(key, c, false)
			close(c.done)
		}()
	}
	c.waiting++
	g.mu.Unlock()
	select {
	case <-c.done:
		return c.v, c.err
	case <-ctx.Done():
		g.leave(key, c, true)
		var zero V
		return zero, ctx.Err()
	}
}

// enter waits until the client of ctx may begin something.
func (g *Group[V]) enter(ctx context.Context) (over func(), err error) {
	client := httpx.Client(ctx)
	if !client.IsValid() {
		return func() {}, nil
	}
	wait, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	over, err = g.begun.Take(wait, 1, false, client.String())
	if err != nil && ctx.Err() == nil {
		e := registry.ErrTooManyRequests.With("too much is being asked for in your address's name at once: try again").Wrap(err)
		e.RetryAfter = time.Second
		err = e
	}
	return over, err
}

// leave makes room for a new call under the key, when this one is over or nobody waits for it.
func (g *Group[V]) leave(key string, c *call[V], gone bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if gone {
		if c.waiting--; c.waiting > 0 {
			return
		}
		c.cancel()
	}
	if g.calls[key] == c {
		delete(g.calls, key)
	}
}
