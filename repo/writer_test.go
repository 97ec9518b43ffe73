package repo_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/atcr-dev/atcr/repo"
	"github.com/atcr-dev/atcr/repo/memstore"
	"github.com/atcr-dev/atcr/repo/repotest"
)

// gated is a store whose Updates are counted, may be held up, and may fail at their end, as a COMMIT can.
type gated struct {
	repo.Store
	updates atomic.Int32
	gate    chan struct{} // nil: open
	fail    atomic.Bool
	failed  atomic.Int32
}

var errCommit = errors.New("commit failed")

func (g *gated) Update(ctx context.Context, f func(repo.Reader) (*repo.Changes, error)) error {
	g.updates.Add(1)
	if g.gate != nil {
		<-g.gate
	}
	return g.Store.Update(ctx, func(r repo.Reader) (*repo.Changes, error) {
		c, err := f(r)
		if err == nil && g.fail.Load() {
			g.failed.Add(1)
			return nil, errCommit
		}
		return c, err
	})
}

// TestGroup: Applies that wait together share one transaction, each its own commit; one whose guard fails is alone in it.
func TestGroup(t *testing.T) {
	t.Parallel()
	g := &gated{Store: memstore.New()}
	r := repotest.Open(t, g, repo.Options{})
	g.gate = make(chan struct{})
	before := g.updates.Load()
	var wg sync.WaitGroup
	var queued sync.WaitGroup
	revs := make([]string, 20)
	for i := range revs {
		queued.Add(1)
		wg.Go(func() {
			w := write(t, repo.Put, fmt.Sprintf("k%d", i), "x")
			queued.Done()
			if i == 7 {
				if _, err := r.Apply(t.Context(), []repo.Write{w}, repo.SwapCommit(repo.RecordCID(nil))); !errors.Is(err, repo.ErrInvalidSwap) {
					t.Errorf("the bad one: %v", err)
				}
				return
			}
			c, err := r.Apply(t.Context(), []repo.Write{w})
			if err != nil {
				t.Errorf("a neighbour: %v", err)
			}
			revs[i] = c.Rev
		})
	}
	queued.Wait()
	close(g.gate)
	wg.Wait()
	if n := g.updates.Load() - before; n > 19 {
		t.Errorf("20 Applies took %d transactions", n)
	} else {
		t.Logf("20 Applies took %d transactions", n)
	}
	seen := map[string]bool{}
	for i, rev := range revs {
		if i != 7 && (rev == "" || seen[rev]) {
			t.Errorf("rev %q of Apply %d", rev, i)
		}
		seen[rev] = true
	}
	repotest.Check(t, r, g)
}

// TestFailedTransaction: when the database fails, everyone in the group hears it, nothing has changed, and the next works.
func TestFailedTransaction(t *testing.T) {
	t.Parallel()
	g := &gated{Store: memstore.New()}
	r := repotest.Open(t, g, repo.Options{})
	if _, err := r.Apply(t.Context(), []repo.Write{write(t, repo.Put, "a", "1")}); err != nil {
		t.Fatal(err)
	}
	before, err := r.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	g.fail.Store(true)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			ws := []repo.Write{write(t, repo.Put, fmt.Sprintf("b%d", i), "1"), write(t, repo.Put, "a", "2")}
			if _, err := r.Apply(t.Context(), ws); !errors.Is(err, errCommit) {
				t.Errorf("in a failed transaction: %v", err)
			}
		})
	}
	wg.Wait()
	if g.failed.Load() == 0 {
		t.Fatal("the fault did not fire")
	}
	g.fail.Store(false)
	if after, err := r.Head(t.Context()); err != nil || after.CID != before.CID {
		t.Fatalf("head %v after a failure, was %v: %v", after.CID, before.CID, err)
	}
	c, err := r.Apply(t.Context(), []repo.Write{write(t, repo.Create, "b1", "3")})
	if err != nil || c.Since != before.Rev {
		t.Fatalf("after the failure: %+v, %v", c, err)
	}
	repotest.Check(t, r, g)
}

// TestWithdraw: an Apply whose context ends while it waits has no effect.
func TestWithdraw(t *testing.T) {
	t.Parallel()
	g := &gated{Store: memstore.New()}
	r := repotest.Open(t, g, repo.Options{})
	g.gate = make(chan struct{})
	first := make(chan error)
	go func() {
		_, err := r.Apply(t.Context(), []repo.Write{write(t, repo.Put, "first", "1")})
		first <- err
	}()
	for g.updates.Load() < 2 { // the first is at the gate
		time.Sleep(time.Millisecond)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := r.Apply(ctx, []repo.Write{write(t, repo.Put, "second", "1")}); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("%v", err)
	}
	close(g.gate)
	if err := <-first; err != nil {
		t.Fatal(err)
	}
	if _, err := r.Apply(t.Context(), []repo.Write{write(t, repo.Put, "third", "1")}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Get(t.Context(), "io.atcr.tag", "second"); !errors.Is(err, repo.ErrNotFound) {
		t.Fatalf("withdrawn, and written: %v", err)
	}
}

// TestPrune: unnamed blobs go after a day, events beyond the number that is kept.
func TestPrune(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	s := memstore.New()
	r := repotest.Open(t, s, repo.Options{Clock: func() time.Time { return now }, KeepEvents: 10})
	old, err := r.PutBlob(t.Context(), repo.Blob{Data: []byte("old")})
	if err != nil {
		t.Fatal(err)
	}
	now = now.Add(25 * time.Hour)
	fresh, err := r.PutBlob(t.Context(), repo.Blob{Data: []byte("fresh")})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 520 {
		if _, err := r.Apply(t.Context(), []repo.Write{write(t, repo.Put, "a", fmt.Sprint(i))}); err != nil {
			t.Fatal(err)
		}
	}
	for c, want := range map[repo.CID]bool{old.CID: false, fresh.CID: true} {
		if has, err := s.Read(t.Context()).HasBlob(c); err != nil || has != want {
			t.Errorf("%s is there: %v, want %v (%v)", c, has, want, err)
		}
	}
	n := 0
	for range r.Events(t.Context(), 0) {
		n++
	}
	if n < 10 || n > 10+256 {
		t.Errorf("%d events kept", n)
	}
	quiet := repotest.Open(t, memstore.New(), repo.Options{KeepEvents: -1})
	if _, err := quiet.Apply(t.Context(), []repo.Write{write(t, repo.Put, "a", "1")}); err != nil {
		t.Fatal(err)
	}
	for e := range quiet.Events(t.Context(), 0) {
		t.Errorf("an event: %d", e.Seq)
	}
}
