package pds

import "sync"

// Bounds of what goes on in the background. Holds and PDSes are strangers': one that never answers must not take the place of
// others.
const (
	maxTails     = 64 // in all
	tailsPerHold = 8
	tailsOfOwner = 2
	maxCounts    = 16 // notices of pulls
)

// gate counts who is inside, by key. The zero value is ready.
type gate struct {
	mu sync.Mutex
	in map[string]int
}

// bound is a key and how many may be inside under it.
type bound struct {
	key   string
	limit int
}

// enter answers a function to leave by, or nil when one of the bounds is reached. It never waits.
func (g *gate) enter(bounds ...bound) (leave func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.in == nil {
		g.in = map[string]int{}
	}
	for _, b := range bounds {
		if g.in[b.key] >= b.limit {
			return nil
		}
	}
	for _, b := range bounds {
		g.in[b.key]++
	}
	return sync.OnceFunc(func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		for _, b := range bounds {
			if g.in[b.key]--; g.in[b.key] == 0 {
				delete(g.in, b.key)
			}
		}
	})
}
