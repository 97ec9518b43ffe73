package hold

import (
	"testing"
	"time"
)

// TestRelayWatch: the relays are asked at the start whoever follows, soon after one has gone whoever still follows, and now and then while
// nobody does; those who come and go don't have them asked without end.
func TestRelayWatch(t *testing.T) {
	type look struct {
		at        time.Duration
		consumers int
		left      uint64
		due       bool
	}
	second, minute := time.Second, time.Minute
	for name, looks := range map[string][]look{
		"nobody comes": {{0, 0, 0, true}, {5 * second, 0, 0, false}, {9 * minute, 0, 0, false},
			{10 * minute, 0, 0, true}, {11 * minute, 0, 0, false}},
		"somebody is there": {{0, 1, 0, true}, {5 * second, 1, 0, false}, {99 * minute, 1, 0, false}},
		"the last one goes": {{0, 0, 0, true}, {5 * second, 1, 0, false}, {2 * minute, 0, 1, true},
			{2*minute + 5*second, 0, 1, false}, {12 * minute, 0, 1, true}},
		"it was there between looks": {{0, 0, 0, true}, {5 * second, 0, 1, true}, {10 * second, 0, 1, false}},
		"one of two goes": {{0, 0, 0, true}, {5 * second, 2, 0, false}, {3 * minute, 1, 1, true},
			{3*minute + 5*second, 1, 1, false}, {99 * minute, 1, 1, false}},
		"one goes, another comes": {{0, 0, 0, true}, {5 * second, 1, 0, false}, {3 * minute, 1, 1, true}},
		"one of two goes soon": {{0, 2, 0, true}, {5 * second, 1, 1, false}, {55 * second, 1, 1, false},
			{60 * second, 1, 1, true}, {65 * second, 1, 1, false}},
		"many come and go, one follows": {{0, 1, 0, true}, {minute, 1, 5, true}, {minute + 5*second, 1, 9, false},
			{2 * minute, 1, 20, false}, {3 * minute, 1, 20, true}, {6 * minute, 1, 30, false}, {7 * minute, 1, 30, true}, {40 * minute, 1,
				31, true}, {41 * minute, 1, 32, true}},
		"a stranger comes and goes": {{0, 0, 0, true}, {5 * second, 0, 1, true}, {10 * second, 0, 2, false},
			{13 * second, 0, 3, true}, {25 * second, 0, 4, false}, {29 * second, 0, 5, true}, {60 * second, 0, 6, false}, {61 * second, 0, 7, true}},
	} {
		t.Run(name, func(t *testing.T) {
			var w relayWatch
			start := time.Now()
			for _, l := range looks {
				if got := w.due(start.Add(l.at), l.consumers, l.left); got != l.due {
					t.Errorf("after %s with %d, %d gone: %v", l.at, l.consumers, l.left, got)
				}
			}
		})
	}
}
