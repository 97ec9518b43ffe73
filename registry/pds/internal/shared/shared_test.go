package shared_test

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/atcr-dev/atcr/registry/pds/internal/shared"
)

// Many ask, one works; who goes away stops it only when nobody else waits.
func TestGroup(t *testing.T) {
	var g shared.Group[int]
	var runs atomic.Int64
	begun, release := make(chan struct{}, 1), make(chan struct{})
	work := func(ctx context.Context) (int, error) {
		runs.Add(1)
		begun <- struct{}{}
		select {
		case <-release:
			return 7, nil
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	gone, leave := context.WithCancel(t.Context())
	first := make(chan error, 1)
	go func() {
		_, err := g.Do(gone, "k", time.Minute, work)
		first <- err
	}()
	<-begun
	var wg sync.WaitGroup
	var asked atomic.Int64
	for range 5 {
		wg.Go(func() {
			asked.Add(1)
			if v, err := g.Do(t.Context(), "k", time.Minute, work); v != 7 || err != nil {
				t.Errorf("%d, %v", v, err)
			}
		})
	}
	for asked.Load() < 5 {
		runtime.Gosched()
	}
	time.Sleep(20 * time.Millisecond) // they asked; that they wait cannot be seen
	leave()
	if err := <-first; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	close(release)
	wg.Wait()
	if runs.Load() != 1 {
		t.Errorf("%d runs", runs.Load())
	}
}

// Work that nobody waits for ends, and the next who asks begins anew.
func TestNobodyWaits(t *testing.T) {
	var g shared.Group[int]
	ended := make(chan error, 1)
	ctx, leave := context.WithCancel(t.Context())
	begun := make(chan struct{})
	go func() {
		<-begun
		leave()
	}()
	_, err := g.Do(ctx, "k", time.Minute, func(ctx context.Context) (int, error) {
		close(begun)
		<-ctx.Done()
		ended <- ctx.Err()
		return 0, ctx.Err()
	})
	if !errors.Is(err, context.Canceled) || !errors.Is(<-ended, context.Canceled) {
		t.Error(err)
	}
	if v, err := g.Do(t.Context(), "k", time.Minute, func(context.Context) (int, error) { return 3, nil }); v != 3 || err != nil {
		t.Errorf("%d, %v", v, err)
	}
	_, err = g.Do(t.Context(), "k", time.Millisecond, func(ctx context.Context) (int, error) {
		<-ctx.Done()
		return 0, ctx.Err()
	})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("its limit: %v", err)
	}
}
