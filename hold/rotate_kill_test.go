package hold_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/did-method-plc/go-didplc/didplc"

	"github.com/atcr-dev/atcr/hold"
	"github.com/atcr-dev/atcr/identity"
	"github.com/atcr-dev/atcr/identity/plc"
	"github.com/atcr-dev/atcr/internal/realtest"
)

// writeOn writes a record again and again, until that fails or ctx ends. The log of events keeps 4096, so it takes its time.
func writeOn(ctx context.Context, h *hold.Server, collection string, written *atomic.Int64) error {
	for n := 0; ; n++ {
		if err := h.PutForTest(context.WithoutCancel(ctx), collection, "self", map[string]any{"n": n}); err != nil {
			return err
		}
		written.Add(1)
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return nil
		}
	}
}

// TestKilledRotating: a hold that rotates its signing key while it runs and writes is killed before the directory hears of
// it, after it has, before and after the new key has its name; the next start mends all: the directory, the disk and the
// log of events agree.
func TestKilledRotating(t *testing.T) {
	real := realtest.Network(t, realtest.NetworkOptions{Accounts: []string{"alice"}})
	for _, point := range []string{"update-signed", "update-submitted", "next-key-confirmed", "next-key-promoted"} {
		t.Run(point, func(t *testing.T) {
			h := newChild(t, newNetwork(t).user("alice"))
			h.cfg.PLC, h.cfg.Point = real.PLC, point
			h.start()
			cfg := hold.Config{
				Dir: h.cfg.Dir, PublicURL: "http://" + h.cfg.Addr, OwnerDID: h.cfg.Owner, TestMode: true, PLCURL: real.PLC, Log: slog.New(slog.DiscardHandler),
			}
			if realtest.OnPostgres() {
				cfg.DB = realtest.OpenDatabase(t, cfg.Dir)
				defer cfg.DB.Close() //nolint:errcheck // a test's
			}
			who := dataDir(t, cfg).Identity
			id, err := identity.Load(who)
			must(t, err)
			old, err := id.Key.PublicKey()
			must(t, err)
			commits := func(key atcrypto.PublicKey, many int) {
				t.Helper()
				must(t, realtest.WaitFor(time.Minute, func() error {
					n := 0
					for _, e := range storedEvents(t, cfg) {
						if e.Commit != nil && signer(t, e, []atcrypto.PublicKey{old, key}) == 2 {
							n++
						}
					}
					if n < many {
						return fmt.Errorf("%d commits", n)
					}
					return nil
				}))
			}
			fresh := request(t, who, plc.RotateOptions{Type: "p256"})
			select {
			case err := <-h.done:
				var exit *exec.ExitError
				if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
					t.Fatalf("the hold ended by itself: %v\n%s", err, h.log)
				}
			case <-time.After(time.Minute):
				t.Fatalf("it was not killed\n%s", h.log)
			}
			h.cmd = nil
			h.cfg.Point = ""
			h.start()
			commits(fresh, 5)
			h.kill()

			if got := signingKey(t, real.PLC, id.DID.String()); !got.Equal(fresh) {
				t.Error("the directory shows another key")
			}
			id, err = identity.Load(who)
			must(t, err)
			if pub, err := id.Key.PublicKey(); err != nil || !pub.Equal(fresh) {
				t.Errorf("another key is on disk: %v", err)
			}
			if _, err := os.Stat(filepath.Join(h.cfg.Dir, "keys", "signing.key.next")); !os.IsNotExist(err) {
				t.Errorf("left over: %v", err)
			}
			entries, err := (&didplc.Client{DirectoryURL: real.PLC}).AuditLog(t.Context(), id.DID.String())
			must(t, err)
			if len(entries) != 2 {
				t.Errorf("%d operations", len(entries))
			}
			if signed := checkLog(t, storedEvents(t, cfg), []atcrypto.PublicKey{old, fresh}); slices.Min(signed) < 5 {
				t.Errorf("commits by each key: %v", signed)
			}
		})
	}
}
