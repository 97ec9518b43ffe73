package keylock

import (
	"context"
	"errors"
	"sync"
	"testing"
)

func TestLocks(t *testing.T) {
	var k Locks
	unlock, err := k.Lock(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := k.Try("a"); ok {
		t.Error("taken twice")
	}
	other, ok := k.Try("b")
	if !ok {
		t.Fatal("another key waits")
	}
	other()
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := k.Lock(ended, "a"); !errors.Is(err, context.Canceled) {
		t.Errorf("an ended wait: %v", err)
	}
	unlock()
	n := 0
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			unlock, err := k.Lock(context.Background(), "a")
			if err != nil {
				t.Error(err)
				return
			}
			defer unlock()
			n++ // the race detector sees two at a time
		})
	}
	wg.Wait()
	if n != 50 || len(k.keys) != 0 {
		t.Errorf("%d times, %d keys are kept", n, len(k.keys))
	}
}
