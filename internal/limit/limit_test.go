package limit

import (
	"strconv"
	"sync"
	"testing"
	"time"
)

func TestRates(t *testing.T) {
	r, now := NewRates(5, 10), time.Unix(1_700_000_000, 0)
	take := func(key string) time.Duration { return r.Take(key, now) }
	for i := range 10 {
		if wait := take("a"); wait != 0 {
			t.Fatalf("number %d of the burst waits %s", i+1, wait)
		}
	}
	if wait := take("a"); wait != 200*time.Millisecond {
		t.Errorf("after the burst: %s", wait)
	}
	if wait := take("b"); wait != 0 {
		t.Errorf("another key waits %s", wait)
	}
	now = now.Add(199 * time.Millisecond)
	if wait := take("a"); wait != time.Millisecond {
		t.Errorf("a try that failed was counted, or time was not: %s", wait)
	}
	r.Return("a", 0.4)
	r.Return("a", 0.6)
	if wait := take("a"); wait != 0 {
		t.Errorf("after one was given back: %s", wait)
	}
	now = now.Add(time.Hour)
	for range 10 {
		if take("a") != 0 {
			t.Fatal("the burst is not whole after an hour")
		}
	}
	if take("a") == 0 {
		t.Error("an hour was saved up beyond the burst")
	}
	now = now.Add(-time.Hour)
	if wait := take("a"); wait > 200*time.Millisecond {
		t.Errorf("a clock that was set back keeps the key out for %s", wait)
	}
}

// A flood of keys takes a bounded memory, and does not push out who is there all the time.
func TestRatesManyKeys(t *testing.T) {
	r, now := NewRates(1, 1), time.Unix(1_700_000_000, 0)
	r.Take("busy", now)
	for i := range MaxKeys + 1000 {
		r.Take(strconv.Itoa(i), now)
		if i%1000 == 0 && r.Take("busy", now) == 0 {
			t.Fatal("the key in use was forgotten")
		}
	}
	if len(r.byKey) > MaxKeys || r.order.Len() != len(r.byKey) {
		t.Errorf("%d keys, %d in order", len(r.byKey), r.order.Len())
	}
}

func TestPlaces(t *testing.T) {
	p := NewPlaces(2)
	enter := func(key string, want bool) {
		t.Helper()
		if got := p.Enter(key); got != want {
			t.Errorf("%s: %v", key, got)
		}
	}
	enter("a", true)
	enter("a", true)
	enter("a", false)
	enter("b", true)
	p.Leave("a")
	enter("a", true)
	enter("a", false)
	for range 2 {
		p.Leave("a")
	}
	p.Leave("b")
	if len(p.taken) != 0 {
		t.Errorf("what is left over: %v", p.taken)
	}
}

func TestAtOnce(t *testing.T) {
	r, p, now := NewRates(0.001, 50), NewPlaces(50), time.Unix(1_700_000_000, 0)
	var mu sync.Mutex
	var taken, entered int
	var wg sync.WaitGroup
	for range 200 {
		wg.Go(func() {
			took, in := r.Take("a", now) == 0, p.Enter("a")
			mu.Lock()
			defer mu.Unlock()
			if took {
				taken++
			}
			if in {
				entered++
			}
		})
	}
	wg.Wait()
	if taken != 50 || entered != 50 {
		t.Errorf("%d taken, %d entered, want 50", taken, entered)
	}
}
