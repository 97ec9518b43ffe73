package hold_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/atcr-dev/atcr/hold"
	"github.com/atcr-dev/atcr/internal/realtest"
	"github.com/atcr-dev/atcr/sqldb/sqlite"
	"github.com/atcr-dev/atcr/storage/memstore"
)

// goroutines are the stacks of those that run, or were made, in package hold; tests that wait for their turn are in it, too.
func goroutines() (ours []string) {
	b := make([]byte, 1<<20)
	for _, g := range strings.Split(string(b[:runtime.Stack(b, true)]), "\n\n") {
		if strings.Contains(g, "atcr/hold.") && !strings.Contains(g, "_test.go:") {
			ours = append(ours, g)
		}
	}
	return ours
}

// othersEnd waits for the goroutines of an earlier test, which may be ending.
func othersEnd(t *testing.T) {
	t.Helper()
	must(t, realtest.WaitFor(10*time.Second, func() error {
		if ours := goroutines(); len(ours) > 0 {
			return fmt.Errorf("before New:\n%s", strings.Join(ours, "\n\n"))
		}
		return nil
	}))
}

// TestNewStartsNothing: until Run, and after it, no goroutine of a hold is there. The database brings its own.
func TestNewStartsNothing(t *testing.T) {
	othersEnd(t)
	dir := t.TempDir()
	db, err := sqlite.Open(t.Context(), filepath.Join(dir, "all.db"))
	must(t, err)
	defer db.Close()
	h, err := hold.New(t.Context(), hold.Config{
		Dir: filepath.Join(dir, "hold"), PublicURL: "http://localhost:1", TestMode: true, OwnerDID: "did:web:owner.test",
		DB: db, Storage: memstore.New(), Log: slog.New(slog.DiscardHandler),
	})
	must(t, err)
	defer h.Close()
	if ours := goroutines(); len(ours) > 0 {
		t.Errorf("after New:\n%s", strings.Join(ours, "\n\n"))
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- h.Run(ctx) }()
	must(t, realtest.WaitFor(10*time.Second, func() error {
		if len(goroutines()) < 3 { // upkeep of identity and data, and who follows the repository: the test can fail
			return context.DeadlineExceeded
		}
		return nil
	}))
	cancel()
	must(t, <-done)
	if ours := goroutines(); len(ours) > 0 {
		t.Errorf("after Run:\n%s", strings.Join(ours, "\n\n"))
	}
}

// TestCloseEndsRun: a program that closes the hold while Run is under way finds it ended, and no line of a closed database in its log.
func TestCloseEndsRun(t *testing.T) {
	othersEnd(t)
	log := &lockedBuffer{}
	h, err := hold.New(t.Context(), hold.Config{
		Dir: t.TempDir(), PublicURL: "http://localhost:1", Addr: "127.0.0.1:0", TestMode: true, OwnerDID: "did:web:owner.test",
		Log: slog.New(slog.NewTextHandler(log, nil)),
	})
	must(t, err)
	done := make(chan error, 1)
	go func() { done <- h.Run(t.Context()) }()
	must(t, realtest.WaitFor(10*time.Second, func() error {
		if len(goroutines()) < 3 {
			return context.DeadlineExceeded
		}
		return nil
	}))
	must(t, h.Close())
	if ours := goroutines(); len(ours) > 0 {
		t.Errorf("after Close:\n%s", strings.Join(ours, "\n\n"))
	}
	must(t, <-done)
	if strings.Contains(log.String(), "level=ERROR") {
		t.Errorf("log: %s", log)
	}
	if err := h.Run(t.Context()); !errors.Is(err, http.ErrServerClosed) {
		t.Errorf("Run after Close: %v", err)
	}
	must(t, h.Close())
}
