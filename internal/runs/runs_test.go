package runs

import (
	"errors"
	"net/http"
	"sync/atomic"
	"testing"
)

// Close waits for every call that began, and refuses those that come later.
func TestCalls(t *testing.T) {
	t.Parallel()
	var calls Calls
	var over atomic.Int32
	for range 4 {
		ctx, ended, err := calls.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			<-ctx.Done()
			over.Add(1)
			ended()
		}()
	}
	calls.Close()
	if n := over.Load(); n != 4 {
		t.Errorf("Close returned after %d of 4 calls", n)
	}
	if _, _, err := calls.Begin(t.Context()); !errors.Is(err, http.ErrServerClosed) {
		t.Errorf("after Close: %v", err)
	}
	calls.Close()
}
