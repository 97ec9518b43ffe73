package auth

import (
	"net/http"
	"strconv"
	"testing"
	"time"
)

// A PDS with the reference's limit, asked by four connections of pushes at once and by reads: it never has to refuse, the writes come at
// a steady pace, and reads never wait.
func TestPDSLimits(t *testing.T) {
	const limit, window = 3000, 5 * time.Minute
	now := time.Unix(1_800_000_000, 0)
	start := now
	l := newPDSLimits(func() time.Time { return now })
	left, reset := limit, now.Add(window)
	refused, calls := 0, 0
	call := func(at time.Time) {
		if !at.Before(reset) {
			left, reset = limit, at.Add(window)
		}
		if left == 0 {
			refused++
		} else {
			left--
		}
		calls++
		was := now
		now = at
		l.saw("pds.test", http.Header{
			"Ratelimit-Limit": {strconv.Itoa(limit)}, "Ratelimit-Remaining": {strconv.Itoa(left)},
			"Ratelimit-Reset": {strconv.FormatInt(reset.Unix(), 10)},
		})
		now = was
	}
	free := make([]time.Time, 4)
	for i := range free {
		free[i] = now
	}
	longest := time.Duration(0)
	reads := 0
	for calls < 9000 {
		next := 0
		for i := range free {
			if free[i].Before(free[next]) {
				next = i
			}
		}
		now = free[next]
		if int(now.Sub(start)/(5*time.Second)) > reads {
			reads++
			if d, ok := l.take("pds.test", true); d != 0 || !ok {
				t.Fatalf("a read waits %s %t", d, ok)
			}
			call(now)
		}
		d, ok := l.take("pds.test", false)
		if !ok && d <= 0 {
			t.Fatalf("to be asked again in %s", d)
		}
		if ok {
			longest = max(longest, d)
			call(now.Add(d))
		}
		free[next] = now.Add(d + 10*time.Millisecond)
	}
	took := now.Sub(start)
	t.Logf("%d calls, %d reads among them, in %s; the longest turn %s; %d refused", calls, reads, took, longest, refused)
	if refused > 0 {
		t.Errorf("the PDS refused %d calls", refused)
	}
	if took > 20*time.Minute || longest > longestTurn {
		t.Errorf("it took %s, a call %s", took, longest)
	}
}

// What a PDS says that can't be is not believed.
func TestPDSLimitsOfLiars(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	for _, h := range []http.Header{
		{},
		{"Ratelimit-Limit": {"3000"}, "Ratelimit-Remaining": {"0"}, "Ratelimit-Reset": {"9999999999"}},
		{"Ratelimit-Limit": {"3000"}, "Ratelimit-Remaining": {"0"}, "Ratelimit-Reset": {"1"}},
		{"Ratelimit-Limit": {"0"}, "Ratelimit-Remaining": {"0"}, "Ratelimit-Reset": {"1800000100"}},
		{"Ratelimit-Limit": {"x"}, "Ratelimit-Remaining": {"-1"}, "Ratelimit-Reset": {"1800000100"}},
	} {
		l := newPDSLimits(func() time.Time { return now })
		l.saw("pds.test", h)
		if d, ok := l.take("pds.test", false); d != 0 || !ok {
			t.Errorf("%v: a write waits %s %t", h, d, ok)
		}
	}
}
