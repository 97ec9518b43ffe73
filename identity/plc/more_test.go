package plc_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/did-method-plc/go-didplc/didplc"

	"github.com/atcr-dev/atcr/identity"
	"github.com/atcr-dev/atcr/identity/internal/plclog"
	"github.com/atcr-dev/atcr/identity/plc"
	"github.com/atcr-dev/atcr/internal/durable"
)

// testPLCLimits: an operation over 7500 bytes, which this directory would take and the public one refuses, is not sent.
func testPLCLimits(t *testing.T, n *plcNet) {
	cfg := n.config(t.TempDir())
	id, _ := mustBoot(t, cfg)
	for i := range 5 { // the directory takes one of 8 KiB when it comes from elsewhere
		n.otherTool(t, id, func(op *didplc.RegularOp) {
			op.AlsoKnownAs = append(op.AlsoKnownAs, fmt.Sprintf("https://%d.example.com/%s", i, strings.Repeat("x", 1600)))
		})
	}
	n.proxy.Requests()
	cfg.PublicURL = "https://moved.example.org"
	_, _, err := boot(t, cfg)
	if !errors.Is(err, identity.ErrPLCRefused) || !strings.Contains(err.Error(), "the directory takes 7500") {
		t.Error(err)
	}
	for _, r := range n.proxy.Requests() {
		if strings.HasPrefix(r, "POST") {
			t.Error(r)
		}
	}
	op := n.head(t, id.DID)
	client := plc.Client{URL: n.proxy.URL, HTTP: cfg.HTTP}
	if err := client.Submit(t.Context(), id.DID, &op); !errors.Is(err, identity.ErrPLCRefused) {
		t.Error(err)
	}
}

// testPLCAdopted: a did:plc that was made elsewhere is checked before it is stored.
func testPLCAdopted(t *testing.T, n *plcNet) {
	cfg := n.config(t.TempDir())
	id, _ := mustBoot(t, cfg)
	other := n.config(t.TempDir())
	other.DID = id.DID.String()
	refused := func(what string, cfg identity.Config, want error, text string) {
		t.Helper()
		_, err := identity.LoadOrCreateDID(t.Context(), cfg)
		if !errors.Is(err, want) || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: %v", what, err)
		}
		if _, err := os.Stat(filepath.Join(cfg.Dir, "did.txt")); cfg.Dir == other.Dir && !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: did.txt was written", what)
		}
	}
	refused("no key", other, identity.ErrKeyMissing, "rotation.key")
	unknown := other
	unknown.DID = "did:plc:ewvi7nxzyoun6zhxrhs64oiz"
	refused("not in the directory", unknown, identity.ErrPLCNotFound, "")
	down := other
	down.PLCURL = "http://127.0.0.1:1"
	refused("directory down", down, identity.ErrPLCUnavailable, "start again when the directory answers")
	stranger := other
	stranger.Dir = t.TempDir()
	if _, _, err := plclog.LoadOrCreateKey(filepath.Join(stranger.Dir, "keys", "signing.key"), ""); err != nil {
		t.Fatal(err)
	}
	refused("another signing key", stranger, identity.ErrNoRotationKey, "put the right key there")

	// With the signing key alone it is taken, and told that it may not update it.
	signing := n.config(t.TempDir())
	signing.DID, signing.PublicURL = id.DID.String(), "https://moved.example.org"
	if err := durable.ReplaceSecret(filepath.Join(signing.Dir, "keys", "signing.key"), []byte(id.Key.Multibase())); err != nil {
		t.Fatal(err)
	}
	if same, s := mustBoot(t, signing); !same.Key.Equal(id.Key) || s.MayUpdate || s.Updated || len(s.Drift) != 3 {
		t.Errorf("with the signing key alone: %+v", s)
	}

	// With the rotation key alone it gets a new signing key.
	other.RotationKey = id.Rotation.Multibase()
	taken, s := mustBoot(t, other)
	if taken.DID != id.DID || !s.Updated || taken.Key.Equal(id.Key) {
		t.Errorf("taken over: %s, %+v", taken.DID, s)
	}
	// The two contradict each other from here on, and each is told so.
	contradicts := n.config(other.Dir)
	contradicts.DID = "did:plc:ewvi7nxzyoun6zhxrhs64oiz"
	refusedText := func(what string, cfg identity.Config, words ...string) {
		t.Helper()
		_, err := identity.LoadOrCreateDID(t.Context(), cfg)
		if !errors.Is(err, identity.ErrContradiction) {
			t.Errorf("%s: %v", what, err)
			return
		}
		for _, w := range words {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%s: %v does not name %s", what, err, w)
			}
		}
	}
	refusedText("configured and stored", contradicts, contradicts.DID, id.DID.String(), "either", "or,")
	foreign, _ := mustBoot(t, n.config(t.TempDir()))
	mixed := n.config(t.TempDir())
	mustBoot(t, mixed)
	if err := os.WriteFile(filepath.Join(mixed.Dir, "did.txt"), []byte(foreign.DID+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	refusedText("did.txt and genesis.json", mixed, foreign.DID.String(), "genesis.json", "either", "or ")
	lost := n.config(t.TempDir())
	mustBoot(t, lost)
	for _, name := range []string{"did.txt", "keys/signing.key"} {
		if err := os.Remove(filepath.Join(lost.Dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	refusedText("genesis.json and keys", lost, "genesis.json", "either restore", "or remove")
	if _, err := os.Stat(filepath.Join(lost.Dir, "keys", "signing.key")); !errors.Is(err, fs.ErrNotExist) {
		t.Error("a refused start made a key")
	}

	// A tombstone is not taken over.
	if _, err := manage(t, taken, other).Tombstone(t.Context(), plc.TombstoneOptions{Confirm: taken.DID.String()}); err != nil {
		t.Fatal(err)
	}
	fresh := other
	fresh.Dir = t.TempDir()
	refused("a tombstone", fresh, identity.ErrPLCTombstone, "leave it empty to get a new DID")
	if _, _, err := boot(t, other); !errors.Is(err, identity.ErrPLCTombstone) {
		t.Error(err)
	}
}

// testPLCUndone: an operation of a stolen key is undone by a higher one within 72 hours, and not after, nor by a lower one.
func testPLCUndone(t *testing.T, n *plcNet) {
	cfg := n.config(t.TempDir())
	id, _ := mustBoot(t, cfg)
	recovery, err := atcrypto.GeneratePrivateKeyP256()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := manage(t, id, cfg).AddRecoveryKey(t.Context(), plc.AddRecoveryKeyOptions{DIDKey: didKey(t, recovery)}); err != nil {
		t.Fatal(err)
	}
	n.otherTool(t, id, func(op *didplc.RegularOp) {
		op.Services = map[string]didplc.OpService{"atcr_hold": {Type: "AtcrHoldService", Endpoint: "https://thief.example.com"}}
		op.RotationKeys = op.RotationKeys[1:]
	})
	bad := n.log(t, id.DID).Head().CID
	if _, err := manage(t, id, cfg).Recover(t.Context(), plc.RecoverOptions{Undo: bad}); !errors.Is(err, identity.ErrPLCRefused) {
		t.Errorf("by the key that signed it: %v", err)
	}
	late := cfg
	late.Clock = func() time.Time { return time.Now().Add(73 * time.Hour) }
	dry := plc.RecoverOptions{Undo: bad, Key: recovery, DryRun: true}
	if _, err := manage(t, id, late).Recover(t.Context(), dry); !errors.Is(err, identity.ErrPLCRefused) ||
		!strings.Contains(err.Error(), "72h") {
		t.Errorf("after 73 hours: %v", err)
	}
	// the key was first listed by the operation before it
	if u, err := manage(t, id, cfg).Revocable(t.Context(), recovery); err != nil || len(u) != 1 || u[0].CID != bad {
		t.Errorf("revocable: %v, %v", u, err)
	}
	if u, err := manage(t, id, late).Revocable(t.Context(), recovery); err != nil || len(u) != 0 {
		t.Errorf("revocable after 73 hours: %v, %v", u, err)
	}
	if c, err := manage(t, id, cfg).Recover(t.Context(), plc.RecoverOptions{Undo: bad, Key: recovery}); err != nil || !c.Submitted {
		t.Fatal(err)
	}
	op := n.head(t, id.DID)
	if op.Services["atcr_hold"].Endpoint != cfg.PublicURL ||
		!slices.Equal(op.RotationKeys, []string{didKey(t, recovery), didKey(t, id.Rotation)}) {
		t.Errorf("%+v", op)
	}
	if _, s := mustBoot(t, cfg); len(s.Drift) > 0 {
		t.Errorf("%+v", s)
	}
	history := n.log(t, id.DID).History()
	if len(history) != 4 || !history[2].Nullified || history[3].Nullified || history[3].Rank != 1 || history[2].Rank != 2 ||
		history[3].Signer != didKey(t, recovery) {
		t.Errorf("%+v", history)
	}
}

// testPLCRecoveryKey: the configured key stands above ours from the genesis on, or from the next start.
func testPLCRecoveryKey(t *testing.T, n *plcNet) {
	recovery, err := atcrypto.GeneratePrivateKeyK256()
	if err != nil {
		t.Fatal(err)
	}
	cfg := n.config(t.TempDir())
	cfg.KeyType, cfg.RecoveryDIDKey = "p256", didKey(t, recovery)
	id, _ := mustBoot(t, cfg)
	if _, ok := id.Key.(*atcrypto.PrivateKeyP256); !ok {
		t.Errorf("the key is a %T", id.Key)
	}
	if op := n.head(t, id.DID); !slices.Equal(op.RotationKeys, []string{didKey(t, recovery), didKey(t, id.Rotation)}) {
		t.Errorf("at the genesis: %v", op.RotationKeys)
	}
	cfg = n.config(t.TempDir())
	id, _ = mustBoot(t, cfg)
	cfg.RecoveryDIDKey = didKey(t, recovery)
	mustBoot(t, cfg)
	if op := n.head(t, id.DID); !slices.Equal(op.RotationKeys, []string{didKey(t, recovery), didKey(t, id.Rotation)}) {
		t.Errorf("later: %v", op.RotationKeys)
	}
	if _, s := mustBoot(t, cfg); s.Updated {
		t.Errorf("again: %+v", s)
	}
	cfg.RecoveryDIDKey = "did:key:nonsense"
	if _, err := identity.LoadOrCreateDID(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "Config.RecoveryDIDKey") {
		t.Error(err)
	}
}
