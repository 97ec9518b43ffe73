package plc_test

import (
	"strings"
	"testing"

	"github.com/atcr-dev/atcr/identity"
	"github.com/atcr-dev/atcr/identity/plc"
)

// TestDryRunOrUnsigned: a plan is for the key here or for one elsewhere. A dry run keeps no key, Unsigned keeps one.
func TestDryRunOrUnsigned(t *testing.T) {
	cfg := identity.Config{Dir: t.TempDir(), PublicURL: "https://hold.example.com", Services: identity.HoldServices()}
	id, err := identity.LoadOrCreateDID(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	m, ctx := manage(t, id, cfg), t.Context()
	for verb, call := range map[string]func() error{
		"Rotate": func() error {
			_, err := m.Rotate(ctx, plc.RotateOptions{DryRun: true, Unsigned: true})
			return err
		},
		"RequestRotation": func() error {
			_, err := m.RequestRotation(ctx, plc.RotateOptions{DryRun: true, Unsigned: true})
			return err
		},
		"AddRecoveryKey": func() error {
			_, err := m.AddRecoveryKey(ctx, plc.AddRecoveryKeyOptions{DIDKey: didKey(t, id.Key), DryRun: true, Unsigned: true})
			return err
		},
		"Move": func() error {
			_, err := m.Move(ctx, plc.MoveOptions{PublicURL: "https://moved.example.org", DryRun: true, Unsigned: true})
			return err
		},
		"Tombstone": func() error {
			_, err := m.Tombstone(ctx, plc.TombstoneOptions{DryRun: true, Unsigned: true})
			return err
		},
		"Recover": func() error {
			_, err := m.Recover(ctx, plc.RecoverOptions{Undo: "bafy", DryRun: true, Unsigned: true})
			return err
		},
	} {
		if err := call(); err == nil || !strings.Contains(err.Error(), "DryRun and Unsigned") {
			t.Errorf("%s: %v", verb, err)
		}
	}
	if !m.RotationRequested().IsZero() {
		t.Error("a rotation is under way")
	}
}
