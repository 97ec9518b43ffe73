package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/atcr-dev/atcr/internal/sqlx"
)

const day = 24 * 60 * 60

// answer is a settle function that reads all there is, or fails.
func (f *fixture) answer(settled *int, fail error) func(context.Context, string) (time.Time, error) {
	return func(_ context.Context, did string) (time.Time, error) {
		if did != alice {
			f.t.Errorf("asked for %s", did)
		}
		*settled++
		return f.o.Clock(), fail
	}
}

// A lease lives for a day from its last touch, for a week from its first, and in its week ends only when its owner's manifests were
// looked at.
func TestLeases(t *testing.T) {
	f, ctx := newFixture(t), t.Context()
	blobs := []Blob{{blob(1), 101}}
	settled := 0
	for range 5 {
		must(t, f.Take(ctx, alice, "app", blobs))
		f.ahead.Add(day - 60)
		must(t, f.Settle(ctx, f.answer(&settled, nil)))
	}
	if settled != 0 || !f.live(1) {
		t.Fatalf("a lease that is touched ended: settled %d times", settled)
	}
	must(t, f.Take(ctx, alice, "app", blobs))
	f.ahead.Add(day + 600)
	must(t, f.Settle(ctx, f.answer(&settled, errors.New("no PDS"))))
	if settled != 1 || !f.live(1) {
		t.Errorf("while the PDS is down: settled %d times, live: %v", settled, f.live(1))
	}
	must(t, f.Settle(ctx, f.answer(&settled, nil)))
	if settled != 1 {
		t.Error("asked again at once")
	}
	f.ahead.Add(2 * 60 * 60)
	must(t, f.Settle(ctx, f.answer(&settled, nil)))
	if settled != 2 || f.live(1) {
		t.Errorf("after it: settled %d times, live: %v", settled, f.live(1))
	}
}

// What a user has leased counts once, however many of the user's repositories lease it.
func TestLeased(t *testing.T) {
	f, ctx := newFixture(t), t.Context()
	must(t, f.Take(ctx, alice, "app", []Blob{{blob(1), 10}, {blob(2), 5}}))
	must(t, f.Take(ctx, alice, "other", []Blob{{blob(1), 10}}))
	must(t, f.Take(ctx, bob, "app", []Blob{{blob(1), 10}}))
	got, err := f.Leased(ctx)
	if want := map[string]int64{alice: 15, bob: 10}; err != nil || !maps.Equal(got, want) {
		t.Errorf("%v, %v, want %v", got, err, want)
	}
}

// A PDS that is gone for good, or has more records than anybody reads, keeps a lease for a week, whether it is touched or not.
func TestLeasesEnd(t *testing.T) {
	for _, touched := range []bool{false, true} {
		t.Run(fmt.Sprint("touched ", touched), func(t *testing.T) {
			f, ctx := newFixture(t), t.Context()
			settled := 0
			for hour := 0; hour <= 8*24; hour += 4 {
				if hour == 0 || touched && hour <= 6*24 {
					must(t, f.Take(ctx, alice, "app", []Blob{{blob(1), 101}}))
				}
				must(t, f.Settle(ctx, f.answer(&settled, errors.New("no PDS"))))
				if got, want := f.live(1), hour < 7*24; got != want && hour != 7*24 {
					t.Fatalf("after %d hours: live %v", hour, got)
				}
				f.ahead.Add(4 * 60 * 60)
			}
			if settled == 0 {
				t.Error("nobody was asked")
			}
			if got := f.usage(alice); got != "0 of 0" {
				t.Errorf("used: %s", got)
			}
		})
	}
}

// One DID has leases on so many digests, each counted once however it was leased.
func TestLeaseLimit(t *testing.T) {
	f, ctx := newFixture(t), t.Context()
	many := make([]Blob, maxLeases)
	for i := range many {
		many[i] = Blob{blob(i), 1}
	}
	for _, repository := range []string{"", "app"} {
		must(t, f.Take(ctx, alice, repository, many))
	}
	must(t, f.Take(ctx, bob, "app", []Blob{{blob(maxLeases), 1}}))
	err := sqlx.InTx(ctx, f.o.DB.Write(), func(tx *sql.Tx) error { return f.Lease(ctx, tx, alice, "", []Blob{{blob(maxLeases + 1), 1}}) })
	var limit *LeaseLimitError
	if !errors.As(err, &limit) || limit.DID != alice || f.live(maxLeases+1) {
		t.Errorf("one more: %v, live: %v", err, f.live(maxLeases+1))
	}
	if n, err := f.Record(ctx, manifest(alice, 1), layers(1)); err != nil || n != 1 {
		t.Fatal(err)
	}
	must(t, f.Take(ctx, alice, "third", []Blob{{blob(2), 1}}))
}

// Users whose PDSes hang take their time and nobody else's: few at once, each for a while, who waited longest first.
func TestSettleFair(t *testing.T) {
	f, ctx := newFixture(t), t.Context()
	var want []string
	for i := range 3 * settleAtOnce {
		did := fmt.Sprintf("did:web:h%02d.test", 99-i)
		want = append(want, did)
		must(t, f.Take(ctx, did, "app", []Blob{{blob(i), 1}}))
		f.ahead.Add(60)
	}
	f.ahead.Add(2 * day)
	if dids, err := f.expired(ctx, f.o.Clock()); err != nil || !slices.Equal(dids, want) {
		t.Errorf("%v, %v; want %v", dids, err, want)
	}
	var mu sync.Mutex
	now, most, asked := 0, 0, 0
	full := make(chan struct{})
	settle := func(ctx context.Context, did string) (time.Time, error) {
		mu.Lock()
		asked++
		if now++; now > most {
			if most = now; most == settleAtOnce {
				close(full)
			}
		}
		mu.Unlock()
		defer func() {
			mu.Lock()
			now--
			mu.Unlock()
		}()
		select {
		case <-full:
		case <-ctx.Done():
			t.Error("they are not asked at once")
		}
		return time.Time{}, errors.New("no PDS")
	}
	f.settleWait = time.Minute
	must(t, f.Settle(ctx, settle))
	if most != settleAtOnce || asked != len(want) {
		t.Errorf("%d were asked, %d at once", asked, most)
	}
	// Who failed comes after those who have not been asked, and nobody waits longer than was said.
	f.ahead.Add(-day)
	must(t, f.Take(ctx, alice, "app", []Blob{{blob(1), 1}}))
	f.ahead.Add(day + 2*60*60)
	if dids, err := f.expired(ctx, f.o.Clock()); err != nil || len(dids) != len(want)+1 || dids[0] != alice {
		t.Errorf("%v, %v", dids, err)
	}
	f.settleWait = 10 * time.Millisecond
	must(t, f.Settle(ctx, func(ctx context.Context, did string) (time.Time, error) {
		if did == alice {
			return f.o.Clock(), nil
		}
		<-ctx.Done()
		return time.Time{}, ctx.Err()
	}))
	if !f.live(1) || f.usage(alice) != "0 of 0" { // another has a lease on that blob, too
		t.Errorf("alice's lease did not end: %s", f.usage(alice))
	}
}

// What ran out after the reading began is not ended by it.
func TestSettledAsOf(t *testing.T) {
	f, ctx := newFixture(t), t.Context()
	must(t, f.Take(ctx, alice, "app", []Blob{{blob(1), 101}}))
	f.ahead.Add(2 * 60 * 60)
	must(t, f.Take(ctx, alice, "app", []Blob{{blob(2), 102}}))
	f.ahead.Add(day - 60*60)
	began := f.o.Clock()
	f.ahead.Add(2 * 60 * 60)
	asked := 0
	must(t, f.Settle(ctx, func(context.Context, string) (time.Time, error) { asked++; return began, nil }))
	if asked != 1 || f.live(1) || !f.live(2) {
		t.Errorf("asked %d times, live: %v and %v; want the second alone", asked, f.live(1), f.live(2))
	}
}
