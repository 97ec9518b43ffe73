// Package background runs what goes on when nobody waits for it. Holds and PDSes are untrusted: one that never answers must not take
// the place of others, so that how much runs is bounded by key.
package background

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/atcr-dev/atcr/internal/limit"
)

// Runner runs functions. Make it with [New]; safe for concurrent use.
type Runner struct {
	ctx  context.Context
	stop context.CancelFunc
	work sync.WaitGroup

	mu sync.Mutex
	in map[string]int // how many run, by key
}

// Bound is a key and how many may run under it.
type Bound struct {
	Key   string
	Limit int
}

// New makes a runner. Close it.
func New() *Runner {
	r := &Runner{in: map[string]int{}}
	r.ctx, r.stop = context.WithCancel(context.Background())
	return r
}

// Go runs f unless one of the bounds is reached, and reports whether it does. It never waits. The context ends by [Runner.Close].
func (r *Runner) Go(f func(ctx context.Context), bounds ...Bound) bool {
	if !r.enter(bounds) {
		return false
	}
	r.work.Go(func() {
		defer r.leave(bounds)
		f(r.ctx)
	})
	return true
}

func (r *Runner) enter(bounds []Bound) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, b := range bounds {
		if r.in[b.Key] >= b.Limit {
			return false
		}
	}
	for _, b := range bounds {
		r.in[b.Key]++
	}
	return true
}

func (r *Runner) leave(bounds []Bound) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, b := range bounds {
		if r.in[b.Key]--; r.in[b.Key] == 0 {
			delete(r.in, b.Key)
		}
	}
}

// Wait waits until nothing runs.
func (r *Runner) Wait() { r.work.Wait() }

// Close lets what runs go on for grace, then ends its context, and returns when it is over.
func (r *Runner) Close(grace time.Duration) {
	done := make(chan struct{})
	go func() { r.work.Wait(); close(done) }()
	wait := time.NewTimer(grace)
	defer wait.Stop()
	select {
	case <-done:
	case <-wait.C:
	}
	r.stop()
	<-done
}

// Pause waits between d and 2d, or until ctx ends, whose error it then returns.
func Pause(ctx context.Context, d time.Duration) error {
	return limit.Wait(ctx, d+rand.N(d))
}
