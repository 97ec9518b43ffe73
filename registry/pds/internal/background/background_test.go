package background_test

import (
	"context"
	"testing"
	"time"

	"github.com/atcr-dev/atcr/registry/pds/internal/background"
)

// TestBounds: what never ends takes no more places than its keys have, and gives them back when it is ended.
func TestBounds(t *testing.T) {
	r := background.New()
	both := func(owner string) []background.Bound { return []background.Bound{{"all", 3}, {"owner " + owner, 2}} }
	forever := func(ctx context.Context) { <-ctx.Done() }
	for i, owner := range []string{"a", "a", "a", "b", "b"} {
		if got, want := r.Go(forever, both(owner)...), i != 2 && i != 4; got != want {
			t.Errorf("%d of %s: %v", i, owner, got)
		}
	}
	done := make(chan struct{})
	if !r.Go(func(context.Context) { close(done) }) {
		t.Error("something without bounds does not run")
	}
	<-done
	r.Close(time.Millisecond) // hangs when the context is not ended
	again := 0
	for range 3 {
		if r.Go(func(context.Context) {}, both("a")...) {
			again++
			r.Wait()
		}
	}
	if again != 3 {
		t.Errorf("%d places after all have ended", again)
	}
}
