package backup_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"filippo.io/age"

	"github.com/atcr-dev/atcr/hold"
	"github.com/atcr-dev/atcr/hold/backup"
	"github.com/atcr-dev/atcr/hold/datadir"
	"github.com/atcr-dev/atcr/internal/crashpoint"
	"github.com/atcr-dev/atcr/internal/realtest"
)

// childConfig is what a process that is to be killed is told.
type childConfig struct {
	Verb, Dir, Target, Key, Point string
}

const childEnv = "ATCR_TEST_BACKUP"

func TestMain(m *testing.M) {
	if text := os.Getenv(childEnv); text != "" {
		fmt.Fprintln(os.Stderr, child(text))
		os.Exit(1)
	}
	os.Exit(realtest.Main(m))
}

// child makes a backup or restores one, and kills itself at its crash point.
func child(text string) error {
	var c childConfig
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		return err
	}
	ctx := crashpoint.With(context.Background(), func(point string) error {
		if point == c.Point {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
		return nil
	})
	key, err := age.ParseX25519Identity(c.Key)
	if err != nil {
		return err
	}
	t, err := backup.OpenFolder(c.Target)
	if err != nil {
		return err
	}
	cfg, err := config(c.Dir).DataDir()
	if err != nil {
		return err
	}
	if c.Verb == "restore" {
		_, err = backup.Restore(ctx, t, "", cfg, backup.RestoreOptions{Keys: []age.Identity{key}, // nothing vouches for the set
			Confirm: func(context.Context, *backup.Claims) error { return nil }})
		return err
	}
	p, err := datadir.Read(ctx, cfg)
	if err != nil {
		return err
	}
	_, err = backup.Create(ctx, t, p, backup.Options{Recipients: []age.Recipient{key.Recipient()}, Layers: true})
	return err
}

// die runs a child and makes sure that it was killed at its crash point.
func die(t *testing.T, c childConfig) {
	t.Helper()
	text, err := json.Marshal(c)
	must(t, err)
	cmd := exec.Command(os.Args[0]) //nolint:gosec // ourselves
	cmd.Env = append(os.Environ(), childEnv+"="+string(text))
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("the child was to die at %s: %v\n%s", c.Point, err, out)
	}
}

// A backup that is killed leaves no set, and the one before it intact; the next one cleans up.
func TestKillDuringCreate(t *testing.T) {
	for _, point := range crashpoint.OfBackup() {
		t.Run(point, func(t *testing.T) {
			h, to := makeHold(t, 2), folder(t)
			key, o := keyPair(t)
			first := h.create(to, o)
			h.push(1)
			die(t, childConfig{"create", h.cfg.Dir, to.String(), key.String(), point})
			whole := 1
			if point == "set-whole" {
				whole = 2
			}
			m, err := backup.Find(t.Context(), to, "")
			must(t, err)
			if (m.Name == first.Name) != (whole == 1) {
				t.Errorf("the newest set is %s, the first was %s", m.Name, first.Name)
			}
			vo := backup.VerifyOptions{Trust: h.trust(), Keys: []age.Identity{key}}
			if _, err := backup.Verify(t.Context(), to, first.Name, vo); err != nil {
				t.Error(err)
			}
			// What another kill, in the middle of a file, would leave.
			must(t, os.WriteFile(filepath.Join(to.String(), ".tmp-1"), []byte("half"), 0o600))
			last := h.create(to, o)
			sets, err := backup.List(t.Context(), to)
			must(t, err)
			if len(sets) != whole+1 || !sets[0].Whole() || sets[0].Name != last.Name {
				t.Errorf("%d sets", len(sets))
			}
			left, err := os.ReadDir(to.String())
			must(t, err)
			if slices.ContainsFunc(left, func(e os.DirEntry) bool { return e.Name() == ".tmp-1" }) {
				t.Error("half a file is left")
			}
			for _, s := range sets {
				if _, err := backup.Verify(t.Context(), to, s.Name, vo); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// A restore that is killed leaves no hold, and is called again.
func TestKillDuringRestore(t *testing.T) {
	h, to := makeHold(t, 3), folder(t)
	key, o := keyPair(t)
	h.create(to, o)
	did, records, seq := state(t, h.cfg)
	ro := backup.RestoreOptions{Trust: h.trust(), Keys: []age.Identity{key}}
	for _, point := range crashpoint.OfRestore() {
		t.Run(point, func(t *testing.T) {
			cfg := config(filepath.Join(t.TempDir(), "new"))
			die(t, childConfig{"restore", cfg.Dir, to.String(), key.String(), point})
			if s, err := hold.New(t.Context(), cfg); !errors.Is(err, datadir.ErrRestoreInProgress) {
				t.Errorf("a hold restored in part starts: %v, %v", s, err)
			}
			if o, err := datadir.OpenRepo(t.Context(), dataDir(t, cfg)); !errors.Is(err, datadir.ErrRestoreInProgress) {
				t.Errorf("its repository opens: %v, %v", o, err)
			}
			if p, err := datadir.Read(t.Context(), dataDir(t, cfg)); !errors.Is(err, datadir.ErrRestoreInProgress) {
				t.Errorf("it can be backed up: %v, %v", p, err)
			}
			later := h.create(to, o) // the newest set is another now
			if _, err := backup.Restore(t.Context(), to, later.Name, dataDir(t, cfg), ro); !errors.Is(err, datadir.ErrRestoreInProgress) {
				t.Errorf("another set over it: %v", err)
			}
			res, err := backup.Restore(t.Context(), to, "", dataDir(t, cfg), ro)
			must(t, err)
			if res.Manifest.Name == later.Name {
				t.Error("it went on with another set")
			}
			same(t, cfg, did, records, seq, h.layers)
		})
	}
}
