package holds

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/atcr-dev/atcr/hold/holdclient"
	"github.com/atcr-dev/atcr/registry"
)

// Many small writes by several connections: in no three minutes more than their part, all of them at last and in good time, reads
// beside them at once, and no call waits for long.
func TestPace(t *testing.T) {
	const (
		writes  = 12_000
		workers = 4
		window  = 3 * time.Minute
	)
	now := time.Unix(1_800_000_000, 0)
	start := now
	p := newPacer(func() time.Time { return now })
	var when []time.Time // of each token
	free := make([]time.Time, workers)
	for i := range free {
		free[i] = now
	}
	var longest time.Duration
	for reads := 0; len(when) < writes; {
		next := 0
		for i := range free {
			if free[i].Before(free[next]) {
				next = i
			}
		}
		now = free[next]
		if int(now.Sub(start)/(2*time.Second)) > reads {
			reads++
			if d, ok := p.take("alice", true); d != 0 || !ok {
				t.Fatalf("a read waits %s %t", d, ok)
			}
		}
		d, ok := p.take("alice", false)
		if ok {
			longest = max(longest, d)
			when = append(when, now.Add(d))
		} else if d <= 0 {
			t.Fatalf("to be asked again in %s", d)
		}
		free[next] = now.Add(d + 5*time.Millisecond)
	}
	most, first := 0, 0
	for i, at := range when { // in order but for what is promised at the same time
		for when[first].Add(window).Before(at) {
			first++
		}
		most = max(most, i-first+1)
	}
	took := when[len(when)-1].Sub(start)
	t.Logf("%d tokens by %d connections in %s, at most %d in %s, the longest wait %s", writes, workers, took, most, window, longest)
	if most > tokensOfWrites {
		t.Errorf("%d tokens within %s, more than %d", most, window, tokensOfWrites)
	}
	if took > 11*time.Minute {
		t.Errorf("it took %s", took)
	}
	if longest > longestTurn {
		t.Errorf("a call waited %s", longest)
	}
	if d, ok := p.take("bob", false); d != 0 || !ok {
		t.Errorf("another account waits %s %t", d, ok)
	}
}

// A bounded number of keys is kept.
func TestPaceForgets(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	p := newPacer(func() time.Time { return now })
	for i := range maxPaced + 10 {
		p.take(string(rune(i)), false)
	}
	if len(p.keys) > maxPaced {
		t.Errorf("%d keys", len(p.keys))
	}
	now = now.Add(time.Hour)
	p.take("one more", false)
	if len(p.keys) > maxPaced {
		t.Errorf("%d keys", len(p.keys))
	}
}

func TestPatiently(t *testing.T) {
	soon := *registry.ErrTooManyRequests
	soon.RetryAfter = time.Millisecond
	for _, test := range []struct {
		name  string
		err   error
		again bool
	}{
		{"the hold's limit", &holdclient.Error{Kind: holdclient.ErrRateLimited, Name: "RateLimitExceeded"}, true},
		{"the PDS's limit", &soon, true},
		{"open uploads", &holdclient.Error{Kind: holdclient.ErrRateLimited, Name: "TooManyOpenUploads"}, false},
		{"another refusal", &holdclient.Error{Kind: holdclient.ErrForbidden}, false},
		{"a session that ended", registry.ErrUnauthorized, false},
	} {
		calls := 0
		err := Patiently(t.Context(), func() error {
			if calls++; calls < 3 {
				return test.err
			}
			return nil
		})
		if test.again && (err != nil || calls != 3) || !test.again && (!errors.Is(err, test.err) || calls != 1) {
			t.Errorf("%s: %d calls, %v", test.name, calls, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	calls := 0
	err := Patiently(ctx, func() error { calls++; cancel(); return &soon })
	if calls != 1 || !errors.Is(err, registry.ErrTooManyRequests) {
		t.Errorf("after the client has gone: %d calls, %v", calls, err)
	}
}
