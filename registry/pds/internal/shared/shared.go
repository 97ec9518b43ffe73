// Package shared does once what several ask for at the same time, and for as long as one of them waits.
package shared

import (
	"context"
	"sync"
	"time"
)

// Group is work by key. The zero value is ready; safe for concurrent use.
type Group[V any] struct {
	mu    sync.Mutex
	calls map[string]*call[V]
}

type call[V any] struct {
	done    chan struct{}
	v       V
	err     error
	waiting int
	cancel  context.CancelFunc
}

// Do runs f, or waits for the one that runs under the key already, and returns what it returned. The context of f has the values of the
// first caller's; it ends after limit, or when the last of its callers has gone. Errors: those of f, the context's.
func (g *Group[V]) Do(ctx context.Context, key string, limit time.Duration, f func(context.Context) (V, error)) (V, error) {
	g.mu.Lock()
	c := g.calls[key]
	if c == nil {
		work, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit)
		c = &call[V]{done: make(chan struct{}), cancel: cancel}
		if g.calls == nil {
			g.calls = map[string]*call[V]{}
		}
		g.calls[key] = c
		go func() {
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
