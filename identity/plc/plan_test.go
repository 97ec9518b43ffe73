package plc_test

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/bluesky-social/indigo/atproto/atcrypto"

	"github.com/atcr-dev/atcr/identity"
	"github.com/atcr-dev/atcr/identity/internal/plclog"
	"github.com/atcr-dev/atcr/identity/plc"
	"github.com/atcr-dev/atcr/internal/devnet"
)

func TestLimits(t *testing.T) {
	if plc.MaxOperation != plclog.MaxOperation || plc.MaxLog != plclog.MaxLog || plc.RecoveryWindow != plclog.RecoveryWindow ||
		identity.DefaultPLCURL != plclog.DefaultURL {
		t.Error("what is documented is not what holds")
	}
}

// inMemory is a manager of a new identity, and its configuration.
func inMemory(t *testing.T, method string) (*plc.Manager, identity.Config) {
	t.Helper()
	directory, err := devnet.OpenDirectory(t.Context(), "", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = directory.Close() })
	server := httptest.NewServer(directory)
	t.Cleanup(server.Close)
	cfg := identity.Config{
		Dir: t.TempDir(), PublicURL: "https://hold.example.com", Method: method, Services: identity.HoldServices(), PLCURL: server.URL, TestMode: true,
	}
	id, err := identity.LoadOrCreateDID(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return manage(t, id, cfg), cfg
}

// files are the names and contents of a folder.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		all[path] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// verbs are all that change a did:plc, each with something to do after an AddRecoveryKey by recovery.
func verbs(m *plc.Manager, recovery atcrypto.PrivateKey, undo string) map[string]func(context.Context, bool) (*plc.Plan, error) {
	return map[string]func(context.Context, bool) (*plc.Plan, error){
		"rotate signing key": func(ctx context.Context, dry bool) (*plc.Plan, error) {
			return m.Rotate(ctx, plc.RotateOptions{DryRun: dry})
		},
		"rotate rotation key": func(ctx context.Context, dry bool) (*plc.Plan, error) {
			return m.Rotate(ctx, plc.RotateOptions{Key: plc.RotationKey, DryRun: dry})
		},
		"add recovery key": func(ctx context.Context, dry bool) (*plc.Plan, error) {
			return m.AddRecoveryKey(ctx, plc.AddRecoveryKeyOptions{DIDKey: "did:key:zQ3shXjHeiBuRCKmM36cuYnm7YEMzhGnCmCyW92sRJ9pribSF", DryRun: dry})
		},
		"move": func(ctx context.Context, dry bool) (*plc.Plan, error) {
			return m.Move(ctx, plc.MoveOptions{PublicURL: "https://moved.example.org", DryRun: dry})
		},
		"recover": func(ctx context.Context, dry bool) (*plc.Plan, error) {
			return m.Recover(ctx, plc.RecoverOptions{Undo: undo, Key: recovery, DryRun: dry})
		},
		"tombstone": func(ctx context.Context, dry bool) (*plc.Plan, error) {
			return m.Tombstone(ctx, plc.TombstoneOptions{Confirm: m.Identity().DID.String(), DryRun: dry})
		},
	}
}

// TestPlan: no plan holds a signature, a dry run changes neither directory nor folder nor identity, and a plan marshals to JSON and back.
func TestPlan(t *testing.T) {
	recovery, err := atcrypto.GeneratePrivateKeyP256()
	if err != nil {
		t.Fatal(err)
	}
	for name := range verbs(nil, nil, "") {
		t.Run(name, func(t *testing.T) {
			ctx := t.Context()
			m, cfg := inMemory(t, "plc")
			if _, err := m.AddRecoveryKey(ctx, plc.AddRecoveryKeyOptions{DIDKey: didKey(t, recovery)}); err != nil {
				t.Fatal(err)
			}
			if _, err := m.Move(ctx, plc.MoveOptions{PublicURL: "https://thief.example.com"}); err != nil {
				t.Fatal(err)
			}
			revocable, err := m.Revocable(ctx, recovery)
			if err != nil || len(revocable) != 1 {
				t.Fatalf("%v, %v", revocable, err)
			}
			verb := verbs(m, recovery, revocable[0].CID)[name]
			before, log, id := files(t, cfg.Dir), len(must(m.Log(ctx))(t).Entries), m.Identity()
			for _, dry := range []bool{true, false} {
				plan, err := verb(ctx, dry)
				if err != nil {
					t.Fatal(err)
				}
				b, err := json.Marshal(plan)
				if err != nil {
					t.Fatal(err)
				}
				if plan.Operation == nil || plan.Operation.AsOperation().IsSigned() || strings.Contains(string(b), `"sig"`) {
					t.Errorf("dry run %v: a signature: %s", dry, b)
				}
				var back plc.Plan
				if err := json.Unmarshal(b, &back); err != nil || !reflect.DeepEqual(&back, plan) {
					t.Errorf("dry run %v: not the same from JSON: %+v, %v", dry, back, err)
				}
				if len(plan.Changes) == 0 || plan.Submitted == dry || (plan.CID == "") != dry || plan.DID != id.DID {
					t.Errorf("dry run %v: %s", dry, b)
				}
				if now := len(must(m.Log(ctx))(t).Entries); dry && now != log || !dry && now != log+1 {
					t.Errorf("dry run %v: %d operations, before %d", dry, now, log)
				}
				if dry && (!reflect.DeepEqual(files(t, cfg.Dir), before) || m.Identity() != id) {
					t.Error("a dry run changed something")
				}
			}
		})
	}
}

func must[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// A did:web has a signing key to rotate, and nothing else.
func TestWeb(t *testing.T) {
	ctx := t.Context()
	m, cfg := inMemory(t, "web")
	before := m.Identity()
	plan, err := m.Rotate(ctx, plc.RotateOptions{DryRun: true})
	if err != nil || plan.Submitted || plan.Operation != nil || len(plan.Changes) != 1 || m.Identity() != before {
		t.Errorf("dry run: %+v, %v", plan, err)
	}
	others := verbs(m, before.Key, "bafy")
	delete(others, "rotate signing key")
	for name, verb := range others {
		for _, dry := range []bool{true, false} {
			if _, err := verb(ctx, dry); !errors.Is(err, plc.ErrNotPLC) || !strings.Contains(err.Error(), before.DID.String()) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	if _, err := m.History(ctx); !errors.Is(err, plc.ErrNotPLC) {
		t.Errorf("history: %v", err)
	}
	if _, err := m.Revocable(ctx, before.Key); !errors.Is(err, plc.ErrNotPLC) {
		t.Errorf("revocable: %v", err)
	}
	if r, err := m.Describe(ctx); err != nil || r.DID != before.DID || len(r.RotationKeys) != 0 {
		t.Errorf("%+v, %v", r, err)
	}
	if plan, err = m.Rotate(ctx, plc.RotateOptions{Type: "p256"}); err != nil || !plan.Submitted {
		t.Fatalf("%+v, %v", plan, err)
	}
	if id := must(identity.Load(cfg))(t); m.Identity().Key.Equal(before.Key) || !id.Key.Equal(m.Identity().Key) {
		t.Error("the new key is not in use")
	}
}

// A change of a DID that the directory does not have yet says how it gets there; what can't be right is refused without asking.
func TestErrorsSayWhatToDo(t *testing.T) {
	t.Parallel()
	directory, err := devnet.OpenDirectory(t.Context(), "", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = directory.Close() })
	var up atomic.Bool
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !up.Load() {
			http.Error(w, "down", http.StatusBadGateway)
			return
		}
		directory.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	cfg := identity.Config{
		Dir: t.TempDir(), PublicURL: "https://hold.example.com", Method: "plc", Services: identity.HoldServices(), PLCURL: server.URL, TestMode: true,
	}
	id, err := identity.LoadOrCreateDID(t.Context(), cfg)
	if err != nil || id.Registered {
		t.Fatalf("%+v, %v", id, err)
	}
	m := manage(t, id, cfg)
	if _, err := m.Rotate(t.Context(), plc.RotateOptions{Key: 7, DryRun: true}); err == nil || !strings.Contains(err.Error(), "RotateOptions.Key 7") {
		t.Errorf("no key of an identity: %v", err)
	}
	if _, err := m.RequestRotation(t.Context(), plc.RotateOptions{Key: -1}); err == nil || !m.RotationRequested().IsZero() {
		t.Errorf("no key of an identity: %v", err)
	}
	if _, err := m.Recover(t.Context(), plc.RecoverOptions{}); !errors.Is(err, identity.ErrPLCRefused) || !strings.Contains(err.Error(), "Undo") {
		t.Errorf("nothing to undo: %v", err)
	}
	if _, err := m.Rotate(t.Context(), plc.RotateOptions{DryRun: true}); !errors.Is(err, identity.ErrPLCUnavailable) {
		t.Errorf("while the directory is down: %v", err)
	}
	up.Store(true)
	_, err = m.Rotate(t.Context(), plc.RotateOptions{DryRun: true})
	if !errors.Is(err, identity.ErrPLCNotFound) || !strings.Contains(err.Error(), "EnsurePLCCurrent") {
		t.Errorf("before the DID is there: %v", err)
	}
	if _, err := identity.EnsurePLCCurrent(t.Context(), id, cfg); err != nil {
		t.Fatal(err)
	}
	if plan, err := m.Rotate(t.Context(), plc.RotateOptions{DryRun: true}); err != nil || len(plan.Changes) != 1 || plan.Submitted {
		t.Errorf("%+v, %v", plan, err)
	}
}
