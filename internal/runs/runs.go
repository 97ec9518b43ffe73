// Package runs ends what a server does by itself when the server is closed.
package runs

import (
	"context"
	"fmt"
	"net/http"
	"sync"
)

// Calls are the calls of a server's Run that are under way. The zero value is ready for use, by many goroutines.
type Calls struct {
	mu     sync.Mutex
	closed bool
	ends   []context.CancelFunc
	under  sync.WaitGroup
}

// Begin returns the context of one call, which Close ends, and what the call calls when it has ended. After Close it is refused with
// [http.ErrServerClosed].
func (c *Calls) Begin(ctx context.Context) (_ context.Context, ended func(), err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, nil, fmt.Errorf("run after Close: %w", http.ErrServerClosed)
	}
	ctx, end := context.WithCancel(ctx)
	c.ends = append(c.ends, end)
	c.under.Add(1)
	return ctx, func() { end(); c.under.Done() }, nil
}

// Close ends the calls and waits for them.
func (c *Calls) Close() {
	c.mu.Lock()
	c.closed = true
	for _, end := range c.ends {
		end()
	}
	c.mu.Unlock()
	c.under.Wait()
}
