package storage_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"testing"
	"time"

	"github.com/atcr-dev/atcr/storage"
	"github.com/atcr-dev/atcr/storage/memstore"
	"github.com/opencontainers/go-digest"
)

// waits notes how long a retry wants to sleep.
type waits []time.Duration

func (w *waits) sleep(ctx context.Context, d time.Duration) error {
	*w = append(*w, d)
	return ctx.Err()
}

func TestRetryWaitsLongerEachTime(t *testing.T) {
	f := storage.NewFaults(memstore.New(), storage.Fault{Op: storage.OpStat, Times: 99})
	var w waits
	var told []storage.Op
	s := storage.WithRetry(f, &storage.RetryOptions{
		Attempts: 6, First: 100 * time.Millisecond, Max: 400 * time.Millisecond, Sleep: w.sleep,
		OnRetry: func(op storage.Op, _ error) { told = append(told, op) },
	})
	_, err := s.Stat(t.Context(), digest.FromString("x"))
	if !errors.Is(err, storage.ErrInjected) || f.Calls(storage.OpStat) != 6 || f.Fired() != 6 {
		t.Errorf("%d calls, %d fired, %v; want 6 and the fault", f.Calls(storage.OpStat), f.Fired(), err)
	}
	most := []time.Duration{100, 200, 400, 400, 400}
	if len(w) != len(most) || len(told) != len(most) {
		t.Fatalf("waited %v, told of %v", w, told)
	}
	for i, d := range w {
		if most := most[i] * time.Millisecond; d > most || d < most/2 {
			t.Errorf("wait %d is %v, want between %v and %v", i+1, d, most/2, most)
		}
	}
}

func TestRetryKnowsWhatIsFinal(t *testing.T) {
	d := digest.FromString("x")
	for _, final := range []error{
		storage.ErrNotFound, storage.ErrNoLink, storage.ErrUploadUnknown, storage.ErrUploadBusy, storage.ErrDigestMismatch,
		storage.ErrDigestInvalid, storage.ErrNoSpace, context.Canceled, context.DeadlineExceeded,
	} {
		f := storage.NewFaults(memstore.New(), storage.Fault{Op: storage.OpStat, Err: fmt.Errorf("wrapped: %w", final)})
		_, err := storage.WithRetry(f, nil).Stat(t.Context(), d)
		if !errors.Is(err, final) || f.Calls(storage.OpStat) != 1 || f.Fired() != 1 {
			t.Errorf("%v: %d calls, %v; want one call and that error", final, f.Calls(storage.OpStat), err)
		}
	}
}

func TestRetryStopsWithTheContext(t *testing.T) {
	f := storage.NewFaults(memstore.New(), storage.Fault{Op: storage.OpStat, Times: 99})
	ctx, cancel := context.WithCancel(t.Context())
	s := storage.WithRetry(f, &storage.RetryOptions{First: time.Hour, Max: time.Hour, OnRetry: func(storage.Op, error) { cancel() }})
	_, err := s.Stat(ctx, digest.FromString("x"))
	if !errors.Is(err, context.Canceled) || !errors.Is(err, storage.ErrInjected) || f.Calls(storage.OpStat) != 1 {
		t.Errorf("%d calls, %v; want one call, and both errors", f.Calls(storage.OpStat), err)
	}
}

// brokenWalk fails after every third item.
type brokenWalk struct{ storage.Store }

func (b brokenWalk) Walk(ctx context.Context, after digest.Digest) iter.Seq2[storage.Info, error] {
	return func(yield func(storage.Info, error) bool) {
		n := 0
		for info, err := range b.Store.Walk(ctx, after) {
			if n++; n > 3 {
				yield(storage.Info{}, errors.New("cut off"))
				return
			}
			if !yield(info, err) {
				return
			}
		}
	}
}

func TestRetryGoesOnBehindTheLastItem(t *testing.T) {
	mem := memstore.New()
	var want []digest.Digest
	for i := range 10 {
		want = append(want, put(t, mem, fmt.Sprint(i)))
	}
	slices.Sort(want)
	var w waits
	s := storage.WithRetry(brokenWalk{mem}, &storage.RetryOptions{Sleep: w.sleep})
	var got []digest.Digest
	for info, err := range s.Walk(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, info.Digest)
	}
	if !slices.Equal(got, want) || len(w) != 3 {
		t.Errorf("got %v after %d waits, want %v after 3", got, len(w), want)
	}
}

func TestFaultsAdd(t *testing.T) {
	f := storage.NewFaults(memstore.New())
	d := put(t, f, "x")
	own := errors.New("own")
	f.Add(storage.Fault{Op: storage.OpStat, Nth: 2, Err: own})
	for i, want := range []error{nil, own, nil} {
		if _, err := f.Stat(t.Context(), d); !errors.Is(err, want) {
			t.Errorf("call %d: %v, want %v", i+1, err, want)
		}
	}
	if len(f.Unfired()) != 0 || f.Fired() != 1 {
		t.Errorf("fired %d, unfired %v", f.Fired(), f.Unfired())
	}
	f.Add(storage.Fault{Op: storage.OpDelete})
	if len(f.Unfired()) != 1 {
		t.Errorf("unfired %v, want the delete", f.Unfired())
	}
}

// TestFailedCloseLetsGo prevents an upload that stays busy for ever.
func TestFailedCloseLetsGo(t *testing.T) {
	f := storage.NewFaults(memstore.New(), storage.Fault{Op: storage.OpClose})
	up, err := f.Create(t.Context(), storage.Hint{})
	if err != nil {
		t.Fatal(err)
	}
	if err := up.Close(); !errors.Is(err, storage.ErrInjected) {
		t.Errorf("close: %v", err)
	}
	if _, err := f.Resume(t.Context(), up.ID()); err != nil {
		t.Errorf("resume: %v", err)
	}
}

func TestRemoveStaleUploadsGoesOn(t *testing.T) {
	f := storage.NewFaults(memstore.New())
	for range 3 {
		up, err := f.Create(t.Context(), storage.Hint{})
		if err != nil {
			t.Fatal(err)
		}
		up.Close()
	}
	f.Add(storage.Fault{Op: storage.OpCancel, Nth: 2})
	n, err := storage.RemoveStaleUploads(t.Context(), f, time.Now().Add(time.Hour))
	if n != 2 || !errors.Is(err, storage.ErrInjected) {
		t.Errorf("removed %d, %v; want 2 and the fault", n, err)
	}
	f.Add(storage.Fault{Op: storage.OpUploads})
	if _, err := storage.RemoveStaleUploads(t.Context(), f, time.Now()); !errors.Is(err, storage.ErrInjected) {
		t.Errorf("a list that fails: %v", err)
	}
	n, err = storage.RemoveStaleUploads(t.Context(), f, time.Now().Add(time.Hour))
	if n != 1 || err != nil {
		t.Errorf("removed %d, %v; want the one that was left", n, err)
	}
}

func put(t *testing.T, s storage.Store, content string) digest.Digest {
	t.Helper()
	d := digest.FromString(content)
	up, err := s.Create(t.Context(), storage.Hint{Digest: d})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := up.ReadFrom(bytes.NewReader([]byte(content))); err != nil {
		t.Fatal(err)
	}
	if _, err := up.Commit(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	return d
}
