package plc_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/did-method-plc/go-didplc/didplc"

	"github.com/atcr-dev/atcr/identity"
	"github.com/atcr-dev/atcr/identity/plc"
)

// post sends a text to the directory as an operation, and returns what that says.
func (n *plcNet) post(t *testing.T, did syntax.DID, body []byte) (status int, text string) {
	t.Helper()
	resp, err := http.Post(n.PLC+"/"+did.String(), "application/json", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// withSig is an operation's JSON with a signature that is not its own.
func withSig(t *testing.T, op []byte, sig any) []byte {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal(op, &m); err != nil {
		t.Fatal(err)
	}
	m["sig"] = sig
	b, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// sign signs a plan as somebody does who has the key elsewhere: all that is known is the text.
func sign(t *testing.T, text []byte, key atcrypto.PrivateKey) []byte {
	t.Helper()
	var op didplc.OpEnum
	if err := json.Unmarshal(text, &op); err != nil {
		t.Fatal(err)
	}
	if err := op.AsOperation().Sign(key); err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(&op)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// testPLCDryRunsPosted: what a dry run gives, posted to the directory, is refused, also with another operation's signature, and changes
// nothing. It is the signature that is missing: with one the directory takes it.
func testPLCDryRunsPosted(t *testing.T, n *plcNet) {
	recovery, err := atcrypto.GeneratePrivateKeyP256()
	if err != nil {
		t.Fatal(err)
	}
	for name := range verbs(nil, nil, "") {
		t.Run(name, func(t *testing.T) {
			ctx, cfg := t.Context(), n.config(t.TempDir())
			id, _ := mustBoot(t, cfg)
			m := manage(t, id, cfg)
			must(m.AddRecoveryKey(ctx, plc.AddRecoveryKeyOptions{DIDKey: didKey(t, recovery)}))(t)
			stolen := must(m.Move(ctx, plc.MoveOptions{PublicURL: "https://thief.example.com"}))(t)
			plan := must(verbs(m, recovery, stolen.CID)[name](ctx, true))(t)
			whole, err := json.Marshal(plan)
			if err != nil {
				t.Fatal(err)
			}
			op, err := json.Marshal(plan.Operation)
			if err != nil {
				t.Fatal(err)
			}
			before := n.log(t, id.DID)
			earlier := before.Head().Operation.Regular.Sig
			for what, body := range map[string][]byte{
				"as it is": op, "the whole plan": whole, "an empty signature": withSig(t, op, ""), "a null": withSig(t, op, nil),
				"an earlier signature": withSig(t, op, earlier),
			} {
				if status, text := n.post(t, id.DID, body); status < 400 || status >= 500 {
					t.Errorf("%s: the directory answers %d %s", what, status, text)
				}
			}
			if now := n.log(t, id.DID); len(now.Entries) != len(before.Entries) {
				t.Fatalf("%d operations, before %d", len(now.Entries), len(before.Entries))
			}
			key := atcrypto.PrivateKey(id.Rotation)
			if name == "recover" {
				key = recovery
			}
			if status, text := n.post(t, id.DID, sign(t, op, key)); status != http.StatusOK {
				t.Errorf("signed, so that the test above shows something: %d %s", status, text)
			}
		})
	}
}

// testPLCSignedElsewhere: a service without a rotation key gets each operation to be signed elsewhere; a new key is kept, and taken into
// use when the directory names it, however that is found out, and not before.
func testPLCSignedElsewhere(t *testing.T, n *plcNet) {
	ctx := t.Context()
	elsewhere := func(t *testing.T) (identity.Config, *identity.Identity, atcrypto.PrivateKey) {
		cfg := n.config(t.TempDir())
		id, _ := mustBoot(t, cfg)
		if err := os.Remove(filepath.Join(cfg.Dir, "keys", "rotation.key")); err != nil {
			t.Fatal(err)
		}
		without, _ := mustBoot(t, cfg)
		return cfg, without, id.Rotation
	}
	submit := func(t *testing.T, p *plc.Plan, key atcrypto.PrivateKey) {
		t.Helper()
		op, err := json.Marshal(p.Operation)
		if err != nil || strings.Contains(string(op), `"sig"`) {
			t.Fatalf("%s, %v", op, err)
		}
		if status, text := n.post(t, p.DID, sign(t, op, key)); status != http.StatusOK {
			t.Fatalf("%d %s", status, text)
		}
	}
	for how, take := range map[string]func(*testing.T, identity.Config, *plc.Manager) *identity.Identity{
		"a start": func(t *testing.T, cfg identity.Config, _ *plc.Manager) *identity.Identity {
			id, s := mustBoot(t, cfg)
			if len(s.Drift) > 0 {
				t.Errorf("it differs: %v", s.Drift)
			}
			return id
		},
		"a look of the running process": func(t *testing.T, cfg identity.Config, m *plc.Manager) *identity.Identity {
			if err := m.CompleteRotations(ctx); err != nil {
				t.Fatal(err)
			}
			return m.Identity()
		},
		"rotate again": func(t *testing.T, _ identity.Config, m *plc.Manager) *identity.Identity {
			if p := must(m.Rotate(ctx, plc.RotateOptions{}))(t); len(p.Changes) > 0 || p.Submitted {
				t.Errorf("%+v", p)
			}
			return m.Identity()
		},
		"a request": func(t *testing.T, _ identity.Config, m *plc.Manager) *identity.Identity {
			must(m.RequestRotation(ctx, plc.RotateOptions{}))(t)
			if err := m.CompleteRotations(ctx); err != nil {
				t.Fatal(err)
			}
			return m.Identity()
		},
	} {
		t.Run(how, func(t *testing.T) {
			cfg, id, key := elsewhere(t)
			m := manage(t, id, cfg)
			if _, err := m.Rotate(ctx, plc.RotateOptions{DryRun: true}); !errors.Is(err, identity.ErrNoRotationKey) {
				t.Errorf("a dry run: %v", err)
			}
			plan := must(m.Rotate(ctx, plc.RotateOptions{Unsigned: true}))(t)
			if again := must(m.Rotate(ctx, plc.RotateOptions{Unsigned: true}))(t); again.Changes[0] != plan.Changes[0] {
				t.Errorf("another key: %v, %v", again.Changes, plan.Changes)
			}
			if plan.Submitted || len(plan.Changes) != 1 {
				t.Fatalf("%+v", plan)
			}
			if _, err := m.Rotate(ctx, plc.RotateOptions{}); !errors.Is(err, identity.ErrNoRotationKey) {
				t.Errorf("before it is submitted: %v", err)
			}
			if err := m.CompleteRotations(ctx); err != nil || !m.RotationRequested().IsZero() || m.Identity() != id {
				t.Errorf("before it is submitted: %v", err)
			}
			if same, _ := mustBoot(t, cfg); !same.Key.Equal(id.Key) {
				t.Error("a start takes the key before the directory has it")
			}
			submit(t, plan, key)
			fresh := take(t, cfg, m)
			if want := plan.Changes[0]; fresh.Key.Equal(id.Key) || !strings.HasSuffix(want, didKey(t, fresh.Key)) {
				t.Errorf("the key is %s, want %s", didKey(t, fresh.Key), want)
			}
			if left, _ := filepath.Glob(filepath.Join(cfg.Dir, "keys", "*.offered")); len(left) > 0 {
				t.Errorf("left %v", left)
			}
			if again, s := mustBoot(t, cfg); !again.Key.Equal(fresh.Key) || len(s.Drift) > 0 {
				t.Errorf("the next start: %v", s.Drift)
			}
		})
	}
	t.Run("with a rotation key here, too", func(t *testing.T) {
		cfg := n.config(t.TempDir())
		id, _ := mustBoot(t, cfg)
		m := manage(t, id, cfg)
		plan := must(m.Rotate(ctx, plc.RotateOptions{Unsigned: true}))(t)
		if err := m.CompleteRotations(ctx); err != nil || m.Identity() != id {
			t.Errorf("it is rotated, though it is to be signed elsewhere: %v", err)
		}
		submit(t, plan, id.Rotation)
		// The process that runs must not put the old key back, whatever it looks at first.
		if s, err := identity.EnsurePLCCurrent(ctx, id, cfg); err != nil || s.Updated {
			t.Errorf("the old key went back into the directory: %+v, %v", s, err)
		}
		if fresh, _ := mustBoot(t, cfg); fresh.Key.Equal(id.Key) {
			t.Error("the new key is not in use")
		}
		plan = must(manage(t, id, cfg).Rotate(ctx, plc.RotateOptions{Key: plc.RotationKey, Unsigned: true}))(t)
		submit(t, plan, id.Rotation)
		if fresh, s := mustBoot(t, cfg); fresh.Rotation.Equal(id.Rotation) || !s.MayUpdate {
			t.Error("the new rotation key is not in use")
		}
		// Signed here after all.
		now, _ := mustBoot(t, cfg)
		m = manage(t, now, cfg)
		plan = must(m.Rotate(ctx, plc.RotateOptions{Unsigned: true}))(t)
		if done := must(m.Rotate(ctx, plc.RotateOptions{}))(t); !done.Submitted || done.Changes[0] != plan.Changes[0] {
			t.Errorf("%+v, want %v", done, plan.Changes)
		}
	})
	t.Run("the others", func(t *testing.T) {
		cfg, id, key := elsewhere(t)
		m := manage(t, id, cfg)
		recovery, err := atcrypto.GeneratePrivateKeyP256()
		if err != nil {
			t.Fatal(err)
		}
		submit(t, must(m.AddRecoveryKey(ctx, plc.AddRecoveryKeyOptions{DIDKey: didKey(t, recovery), Unsigned: true}))(t), key)
		submit(t, must(m.Move(ctx, plc.MoveOptions{PublicURL: "https://moved.example.org", Unsigned: true}))(t), key)
		if m.Identity() != id {
			t.Error("it has moved before the operation was submitted")
		}
		undo := n.log(t, id.DID).Head().CID
		submit(t, must(m.Recover(ctx, plc.RecoverOptions{Undo: undo, Unsigned: true}))(t), recovery)
		submit(t, must(m.Tombstone(ctx, plc.TombstoneOptions{Unsigned: true}))(t), key)
		if !n.log(t, id.DID).Tombstoned() {
			t.Error("it is not given up")
		}
	})
	t.Run("a did:web has none", func(t *testing.T) {
		cfg := n.config(t.TempDir())
		cfg.Method = "web"
		id, _ := mustBoot(t, cfg)
		if _, err := manage(t, id, cfg).Rotate(ctx, plc.RotateOptions{Unsigned: true}); !errors.Is(err, plc.ErrNotPLC) {
			t.Error(err)
		}
	})
	t.Run("the directory is down", func(t *testing.T) {
		cfg, id, _ := elsewhere(t)
		n.proxy.SetTarget("http://127.0.0.1:1")
		defer n.proxy.SetTarget(n.PLC)
		if _, err := manage(t, id, cfg).Rotate(ctx, plc.RotateOptions{Unsigned: true}); !errors.Is(err, identity.ErrPLCUnavailable) {
			t.Error(err)
		}
		if left, _ := filepath.Glob(filepath.Join(cfg.Dir, "keys", "*.offered")); len(left) > 0 {
			t.Errorf("left %v", left)
		}
	})
}
