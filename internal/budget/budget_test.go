package budget_test

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/atcr-dev/atcr/internal/budget"
)

// waits reports whether a taker has to wait, and gives what it took back.
func waits(t *testing.T, b *budget.Budget, n int64, keys ...string) bool {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	release, err := b.Take(ctx, n, false, keys...)
	if err == nil {
		release()
	}
	return err != nil
}

func TestShares(t *testing.T) {
	b := budget.New(100, 25)
	a, err := b.Take(t.Context(), 25, false, "a", "client")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		keys  []string
		waits bool
	}{{[]string{"a"}, true}, {[]string{"client"}, true}, {[]string{"b", "client"}, true}, {[]string{"b"}, false}, {nil, false}} {
		if got := waits(t, b, 1, c.keys...); got != c.waits {
			t.Errorf("%v: waits %v", c.keys, got)
		}
		if got := b.Try(1, 100, c.keys...); got == c.waits {
			t.Errorf("%v: tried %v", c.keys, got)
		} else if got {
			b.Give(1, c.keys...)
		}
	}
	if _, err := b.Take(t.Context(), 26, false); !errors.Is(err, budget.ErrTooMuch) {
		t.Errorf("more than a share: %v", err)
	}
	if b.Try(30, 50, "b") {
		t.Error("past the share")
	}
	if b.Try(25, 49, "b") || !b.Try(25, 50, "b") {
		t.Error("the ceiling is of what all use")
	}
	b.Give(25, "b")
	a()
	a() // once
	if b.Used() != 0 || waits(t, b, 25, "a", "client") {
		t.Error("it was given back", b.Used())
	}
}

// All that wait get theirs in turn: the large one is not passed for ever, one whose share is used up holds up nobody, urgent ones go first.
func TestTurns(t *testing.T) {
	b := budget.New(4, 4)
	hold := func(n int64, keys ...string) func() {
		release, err := b.Take(t.Context(), n, false, keys...)
		if err != nil {
			t.Fatal(err)
		}
		return release
	}
	first := hold(3, "x")
	var mu sync.Mutex
	var order []string
	var wg sync.WaitGroup
	start := func(name string, n int64, urgent bool, keys ...string) {
		before := b.Waiting()
		wg.Go(func() {
			release, err := b.Take(t.Context(), n, urgent, keys...)
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			order = append(order, name)
			mu.Unlock()
			release()
		})
		for b.Waiting() == before {
			runtime.Gosched()
		}
	}
	start("share", 2, false, "x")  // x has one left
	start("large", 4, false, "y")  // waits for all
	start("small", 1, false, "z")  // would fit, and waits behind it
	start("urgent", 2, true, "yy") // goes before them
	mu.Lock()
	if len(order) != 0 {
		t.Errorf("before anything was given back: %v", order)
	}
	mu.Unlock()
	first()
	wg.Wait()
	if order[0] != "urgent" && order[0] != "share" || b.Used() != 0 {
		t.Errorf("order %v, used %d", order, b.Used())
	}
	for i, name := range order {
		if name == "large" && i > 2 {
			t.Errorf("the large one was passed: %v", order)
		}
	}
}

// Who gives up while waiting leaves nothing behind, also when it is granted at that moment.
func TestGivingUp(t *testing.T) {
	b := budget.New(1, 1)
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			for range 50 {
				ctx, cancel := context.WithTimeout(t.Context(), time.Microsecond)
				if release, err := b.Take(ctx, 1, false, "k"); err == nil {
					release()
				}
				cancel()
			}
		})
	}
	wg.Wait()
	if b.Used() != 0 || waits(t, b, 1, "k") {
		t.Errorf("%d are lost", b.Used())
	}
}

// What is given back twice is not there twice.
func TestGivenTwice(t *testing.T) {
	b := budget.New(10, 10)
	if !b.Try(4, 10, "k") || b.UsedBy("k") != 4 || b.UsedBy("other") != 0 {
		t.Fatalf("%d are used", b.UsedBy("k"))
	}
	b.Give(4, "k")
	b.Give(4, "k")
	if b.Used() != 0 || b.UsedBy("k") != 0 || b.Try(11, 20) || !b.Try(10, 10, "k") {
		t.Errorf("%d are used", b.Used())
	}
}
