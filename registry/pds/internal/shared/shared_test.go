package shared_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atcr-dev/atcr/internal/httpx"
	"github.com/atcr-dev/atcr/registry/pds/internal/shared"
)

// Many ask, one works; who goes away stops it only when nobody else waits.
func TestGroup(t *testing.T) { synctest.Test(t, testGroup) }

func testGroup(t *testing.T) {
	g := shared.New[int](1)
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
	for range 5 {
		wg.Go(func() {
			if v, err := g.Do(t.Context(), "k", time.Minute, work); v != 7 || err != nil {
				t.Errorf("%d, %v", v, err)
			}
		})
	}
	synctest.Wait() // until all wait
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
	g := shared.New[int](1)
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

// as returns a context of a request from an address.
func as(ctx context.Context, addr string) (out context.Context) {
	r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/", nil)
	r.RemoteAddr = addr + ":1"
	httpx.WithClient(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { out = r.Context() }), httpx.VisitOptions{}).
		ServeHTTP(httptest.NewRecorder(), r)
	return out
}

// A client waits when it has begun much that is not over; others don't, nor does it for what others have begun.
func TestBegunByOneClient(t *testing.T) { synctest.Test(t, testBegunByOneClient) }

func testBegunByOneClient(t *testing.T) {
	g := shared.New[int](1)
	begun, release := make(chan struct{}), make(chan struct{})
	work := func(context.Context) (int, error) {
		begun <- struct{}{}
		<-release
		return 7, nil
	}
	var wg sync.WaitGroup
	for _, addr := range []string{"192.0.2.7", "192.0.2.8"} {
		wg.Go(func() {
			if v, err := g.Do(as(t.Context(), addr), addr, time.Minute, work); v != 7 || err != nil {
				t.Errorf("%d, %v", v, err)
			}
		})
		<-begun
	}
	soon, cancel := context.WithTimeout(as(t.Context(), "192.0.2.7"), 50*time.Millisecond)
	defer cancel()
	_, err := g.Do(soon, "third", time.Minute, func(context.Context) (int, error) {
		t.Error("it began")
		return 0, nil
	})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	wg.Go(func() {
		if v, err := g.Do(as(t.Context(), "192.0.2.7"), "192.0.2.8", time.Minute, work); v != 7 || err != nil {
			t.Errorf("joined: %d, %v", v, err)
		}
	})
	synctest.Wait() // until it waits
	close(release)
	wg.Wait()
	three := func(context.Context) (int, error) { return 3, nil }
	if v, err := g.Do(as(t.Context(), "192.0.2.7"), "third", time.Minute, three); v != 3 || err != nil {
		t.Errorf("%d, %v", v, err)
	}
}
