package hold_test

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/atcr-dev/atcr/hold"
	"github.com/atcr-dev/atcr/hold/datadir"
	"github.com/atcr-dev/atcr/internal/realtest"
	"github.com/atcr-dev/atcr/repo"
)

// Backups keep their times through slow ones, failures and restarts, and never run twice at a time.
func TestBackupSchedule(t *testing.T) {
	n := newNetwork(t)
	ran := make(chan time.Time, 16)
	var mu sync.Mutex
	var fail error
	running := 0
	setFail := func(err error) { mu.Lock(); defer mu.Unlock(); fail = err }
	h := newHold(t, n, func(c *hold.Config) {
		c.Backup = &hold.BackupSchedule{Every: time.Hour, Run: func(ctx context.Context, p *datadir.Contents) error {
			mu.Lock()
			defer mu.Unlock()
			if running++; running > 1 {
				t.Error("two at a time")
			}
			defer func() { running-- }()
			if _, err := p.Repo.Head(ctx); err != nil {
				t.Errorf("the repository can't be read: %v", err)
			}
			ran <- n.clock()
			return fail
		}}
	})
	start := n.clock()
	next := float64(start.UnixMicro())/1e6 + 1 // past the first, which is due now
	stop := runHold(t, h)
	wait := func(what string, at time.Duration) {
		t.Helper()
		select {
		case got := <-ran:
			if d := got.Sub(start) - at; d < 0 || d > 30*time.Second {
				t.Errorf("%s: ran %s after the start, want %s", what, got.Sub(start), at)
			}
		case <-time.After(time.Minute):
			t.Fatalf("%s: no backup", what)
		}
		// The time of the next one is reckoned when one is done.
		must(t, realtest.WaitFor(time.Minute, func() error {
			if now := outcomes(t, h)["next"]; now > next {
				next = now
				return nil
			}
			return errors.New("it goes on")
		}))
	}
	forward := func(d time.Duration) { n.now.Add(int64(d / time.Second)) }
	wait("at the start", 0)
	forward(time.Hour + 5*time.Second)
	wait("after an hour", time.Hour)
	forward(90 * time.Minute) // one is left out
	wait("late", 2*time.Hour+30*time.Minute)
	setFail(errors.New("the target is gone"))
	forward(31 * time.Minute)
	wait("failing", 3*time.Hour+time.Minute)
	setFail(nil)
	forward(10*time.Minute + 5*time.Second)
	wait("again soon after a failure", 3*time.Hour+11*time.Minute)
	stop()
	if got := outcomes(t, h); got["ok"] != 4 || got["failed"] != 1 || got["last"] < float64(start.Unix()) {
		t.Errorf("counted %v", got)
	}

	h.stop()
	forward(30 * time.Minute)
	h.start()
	stop = runHold(t, h)
	defer stop()
	select {
	case at := <-ran:
		t.Errorf("a restart made a backup %s after the start", at.Sub(start))
	case <-time.After(2 * time.Second):
	}
	forward(30*time.Minute + 5*time.Second)
	wait("after a restart", 4*time.Hour+11*time.Minute)
}

// runHold runs the hold until the answer is called.
func runHold(t *testing.T, h *testHold) func() {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	server := h.Server
	go func() { done <- server.Run(ctx) }()
	return func() {
		cancel()
		must(t, <-done)
	}
}

func outcomes(t *testing.T, h *testHold) map[string]float64 {
	t.Helper()
	reg := prometheus.NewRegistry()
	for _, c := range h.Metrics() {
		must(t, reg.Register(c))
	}
	families, err := reg.Gather()
	must(t, err)
	out := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			switch f.GetName() {
			case "atcr_hold_backups_total":
				out[m.GetLabel()[0].GetValue()] = m.GetCounter().GetValue()
			case "atcr_hold_backup_last_success_timestamp_seconds":
				out["last"] = m.GetGauge().GetValue()
			case "atcr_hold_backup_next_timestamp_seconds":
				out["next"] = m.GetGauge().GetValue()
			}
		}
	}
	return out
}

// After a restore a token from before it is refused, since nobody knows any more whether it was used.
func TestTokensFromBeforeARestore(t *testing.T) {
	n := newNetwork(t)
	h := newHold(t, n)
	old, err := h.owner.token(t.Context(), h.DID(), "io.atcr.hold.getQuota")
	must(t, err)
	if status, _ := h.callWith("Bearer "+old, "GET", "io.atcr.hold.getQuota", "userDid="+h.owner.did, nil); status != http.StatusOK {
		t.Fatalf("before: %d", status)
	}
	h.stop()
	lost := h.cfg.Dir
	h.cfg.Dir = t.TempDir()
	n.now.Add(2)
	restoreInto(t, lost, h.cfg)
	h.start()
	if status, body := h.callWith("Bearer "+old, "GET", "io.atcr.hold.getQuota", "userDid="+h.owner.did,
		nil); status != http.StatusUnauthorized {
		t.Errorf("a token from before the restore: %d %v", status, body)
	}
	n.now.Add(2)
	if status, body := h.call(h.owner, "GET", "io.atcr.hold.getQuota", "userDid="+h.owner.did, nil); status != http.StatusOK {
		t.Errorf("a new token: %d %v", status, body)
	}
}

// restoreInto does by hand what hold/backup does.
func restoreInto(t *testing.T, from string, cfg hold.Config) {
	t.Helper()
	source := cfg
	source.Dir = from
	p, err := datadir.Read(t.Context(), dataDir(t, source))
	must(t, err)
	defer p.Close()
	var car bytes.Buffer
	must(t, repo.ExportCAR(t.Context(), p.Repo, &car, nil))
	seq, err := p.Repo.Seq(t.Context())
	must(t, err)
	r, err := datadir.BeginRestore(dataDir(t, cfg), syntax.DID(p.Repo.DID()), "test")
	must(t, err)
	defer r.Close()
	must(t, os.CopyFS(filepath.Join(cfg.Dir, "keys"), os.DirFS(filepath.Join(from, "keys"))))
	must(t, os.Chmod(filepath.Join(cfg.Dir, "keys"), 0o700))
	must(t, os.Chmod(filepath.Join(cfg.Dir, "keys", "signing.key"), 0o600))
	did, err := os.ReadFile(filepath.Join(from, "did.txt"))
	must(t, err)
	must(t, os.WriteFile(filepath.Join(cfg.Dir, "did.txt"), did, 0o600))
	_, err = r.Repo(t.Context(), repo.Source{Reader: &car}, seq)
	must(t, err)
	must(t, r.Done())
}
