package hold_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/atcr-dev/atcr/hold"
	"github.com/atcr-dev/atcr/hold/datadir"
	"github.com/atcr-dev/atcr/internal/durable"
	"github.com/atcr-dev/atcr/internal/realtest"
)

// TestChangeCrewBesideNoHold: who has the folder makes no changes. Nothing waits when the command gave up, and when the
// folder is free again the command makes the change itself. What a killed command left is done by the next start, once.
func TestChangeCrewBesideNoHold(t *testing.T) {
	ctx := t.Context()
	cfg := hold.Config{Dir: t.TempDir(), PublicURL: "http://localhost:1", OwnerDID: "did:web:owner.test", TestMode: true,
		Log: slog.New(slog.DiscardHandler)}
	dir, err := cfg.DataDir()
	if err != nil {
		t.Fatal(err)
	}
	run := func(f func()) {
		t.Helper()
		server, err := hold.New(ctx, cfg)
		if err != nil {
			t.Fatal(err)
		}
		running, stop := context.WithCancel(ctx)
		done := make(chan error, 1)
		go func() { done <- server.Run(running) }()
		f()
		stop()
		if err := errors.Join(<-done, server.Close()); err != nil {
			t.Fatal(err)
		}
	}
	run(func() {})
	lock, err := durable.LockDir(cfg.Dir)
	if err != nil {
		t.Fatal(err)
	}
	short, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancel()
	add := datadir.CrewChange{Member: "did:web:alice.test"}
	if _, err := datadir.ChangeCrew(short, dir, add); !errors.Is(err, context.DeadlineExceeded) ||
		!strings.Contains(err.Error(), "Nothing waits") {
		t.Fatal(err)
	}
	waits := func() []string {
		names, err := filepath.Glob(filepath.Join(cfg.Dir, "crew", "*"))
		if err != nil {
			t.Fatal(err)
		}
		return names
	}
	if left := waits(); len(left) > 0 {
		t.Fatal("left over:", left)
	}
	type result struct {
		did string
		err error
	}
	done := make(chan result, 1)
	go func() {
		did, err := datadir.ChangeCrew(ctx, dir, add)
		done <- result{did, err}
	}()
	var asked []byte
	err = realtest.WaitFor(30*time.Second, func() error {
		left := waits()
		if len(left) != 1 {
			return errors.New("nothing is asked")
		}
		asked, err = os.ReadFile(left[0])
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}
	if got := <-done; got.err != nil || got.did != "added" || len(waits()) > 0 {
		t.Fatal(got, waits())
	}
	// As a killed command leaves it: the same change, and another that nobody could ask for.
	if err := os.WriteFile(filepath.Join(cfg.Dir, "crew", "3a.json"), asked, 0o600); err != nil {
		t.Fatal(err)
	}
	other := strings.Replace(string(asked), "alice", "bob", 1)
	if err := os.WriteFile(filepath.Join(cfg.Dir, "crew", "3b.json"), []byte(other), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(cfg.Dir, "crew", "3c.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	run(func() {
		err := realtest.WaitFor(30*time.Second, func() error {
			for _, name := range waits() {
				if strings.HasSuffix(name, ".json") {
					return errors.New("it waits: " + name)
				}
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	})
	crew, err := datadir.ReadCrew(ctx, dir)
	if err != nil || len(crew) != 2 {
		t.Fatal(crew, err)
	}
}

// TestChangeCrewAfterKilledCommand: a change that a killed command left waiting is not made after a later one of the same member.
func TestChangeCrewAfterKilledCommand(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	cfg := hold.Config{Dir: t.TempDir(), PublicURL: "http://localhost:1", OwnerDID: "did:web:owner.test", TestMode: true,
		Log: slog.New(slog.DiscardHandler)}
	dir, err := cfg.DataDir()
	if err != nil {
		t.Fatal(err)
	}
	// As a command leaves it that is killed while a hold that hangs has the folder.
	waits := filepath.Join(cfg.Dir, "crew", "3a.json")
	if err := os.Mkdir(filepath.Dir(waits), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(waits, []byte(`{"member":"did:web:alice.test","permissions":["crew:admin"]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	bob := filepath.Join(cfg.Dir, "crew", "3b.json")
	if err := os.WriteFile(bob, []byte(`{"member":"did:web:bob.test"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if did, err := datadir.ChangeCrew(ctx, dir, datadir.CrewChange{Member: "did:web:alice.test", Remove: true}); err != nil ||
		did != "absent" {
		t.Fatal(did, err)
	}
	server, err := hold.New(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	running, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- server.Run(running) }()
	err = realtest.WaitFor(30*time.Second, func() error {
		if _, err := os.Stat(bob); err == nil {
			return errors.New("bob waits")
		}
		return nil
	})
	stop()
	if err := errors.Join(err, <-done, server.Close()); err != nil {
		t.Fatal(err)
	}
	crew, err := datadir.ReadCrew(ctx, dir)
	if err != nil || len(crew) != 1 || crew[0].Member != "did:web:bob.test" {
		t.Fatalf("who was removed is back: %v, %v", crew, err)
	}
}
