package plc_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"net/http/httptest"
	"os"

	"github.com/bluesky-social/indigo/atproto/atcrypto"

	"github.com/atcr-dev/atcr/identity"
	"github.com/atcr-dev/atcr/identity/plc"
	"github.com/atcr-dev/atcr/internal/devnet"
)

// exampleManager is of a new did:plc in a directory in memory, in place of the public one.
func exampleManager(ctx context.Context) (m *plc.Manager, end func()) {
	directory, err := devnet.OpenDirectory(ctx, "", nil)
	if err != nil {
		log.Fatal(err)
	}
	server := httptest.NewServer(directory)
	dir, err := os.MkdirTemp("", "service")
	if err != nil {
		log.Fatal(err)
	}
	cfg := identity.Config{
		Dir: dir, PublicURL: "https://a.example.com", Method: "plc", Services: identity.HoldServices(),
		PLCURL: server.URL, TestMode: true, // both are for this example's directory
	}
	id, err := identity.LoadOrCreateDID(ctx, cfg)
	if err != nil {
		log.Fatal(err)
	}
	if m, err = plc.NewManager(id, cfg); err != nil {
		log.Fatal(err)
	}
	return m, func() { server.Close(); directory.Close(); os.RemoveAll(dir) }
}

// A service that is stopped gets a new signing key.
func ExampleManager_Rotate() {
	ctx := context.Background()
	m, end := exampleManager(ctx)
	defer end()
	before := m.Identity()
	plan, err := m.Rotate(ctx, plc.RotateOptions{Type: "p256"})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(plan.Submitted, len(plan.Changes), m.Identity().Key.Equal(before.Key))
	// Then repo.Repo.Rekey, so that followers see the key before the commits that it signs.

	// Output: true 1 false
}

// A dry run shows what would be submitted. Its operation has no signature, so that it can be shown to anybody.
func ExampleManager_Move_dryRun() {
	ctx := context.Background()
	m, end := exampleManager(ctx)
	defer end()
	plan, err := m.Move(ctx, plc.MoveOptions{PublicURL: "https://b.example.org", DryRun: true})
	if err != nil {
		log.Fatal(err)
	}
	for _, change := range plan.Changes {
		fmt.Println(change)
	}
	b, err := json.Marshal(plan)
	if err != nil {
		log.Fatal(err)
	}
	var read struct{ Operation map[string]any }
	if err := json.Unmarshal(b, &read); err != nil {
		log.Fatal(err)
	}
	fmt.Println(plan.Submitted, read.Operation["type"], read.Operation["sig"])
	// Output:
	// also known as: at://a.example.com -> at://b.example.org
	// service #atcr_hold: AtcrHoldService at https://a.example.com -> AtcrHoldService at https://b.example.org
	// service #atproto_pds: AtprotoPersonalDataServer at https://a.example.com -> AtprotoPersonalDataServer at https://b.example.org
	// false plc_operation <nil>
}

// A key of the operator's, kept off the machine, undoes what the service's own key did.
func ExampleManager_Recover() {
	ctx := context.Background()
	m, end := exampleManager(ctx)
	defer end()
	recovery, err := atcrypto.GeneratePrivateKeyP256()
	if err != nil {
		log.Fatal(err)
	}
	pub, err := recovery.PublicKey()
	if err != nil {
		log.Fatal(err)
	}
	if _, err := m.AddRecoveryKey(ctx, plc.AddRecoveryKeyOptions{DIDKey: pub.DIDKey()}); err != nil {
		log.Fatal(err)
	}
	if _, err := m.Move(ctx, plc.MoveOptions{PublicURL: "https://thief.example.com"}); err != nil {
		log.Fatal(err)
	}
	events, err := m.Revocable(ctx, recovery) // of the last 72 hours, by a lower key
	if err != nil {
		log.Fatal(err)
	}
	plan, err := m.Recover(ctx, plc.RecoverOptions{Undo: events[0].CID, Key: recovery})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(events), plan.Submitted)
	// Output: 1 true
}

func ExampleManager_AddRecoveryKey() {
	ctx := context.Background()
	m, end := exampleManager(ctx)
	defer end()
	plan, err := m.AddRecoveryKey(ctx, plc.AddRecoveryKeyOptions{DIDKey: "did:key:zQ3shXjHeiBuRCKmM36cuYnm7YEMzhGnCmCyW92sRJ9pribSF"})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(plan.Submitted, plan.Operation.Regular.RotationKeys[0])
	// Output: true did:key:zQ3shXjHeiBuRCKmM36cuYnm7YEMzhGnCmCyW92sRJ9pribSF
}

func ExampleManager_History() {
	ctx := context.Background()
	m, end := exampleManager(ctx)
	defer end()
	if _, err := m.Move(ctx, plc.MoveOptions{PublicURL: "https://b.example.org"}); err != nil {
		log.Fatal(err)
	}
	events, err := m.History(ctx)
	if err != nil {
		log.Fatal(err)
	}
	for _, e := range events {
		fmt.Println(len(e.Changes), "changes by the key of rank", e.Rank)
	}
	fmt.Println(events[1].Changes[0])
	// Output:
	// 5 changes by the key of rank 1
	// 3 changes by the key of rank 1
	// also known as: at://a.example.com -> at://b.example.org
}

// Another process than the one that runs as the identity asks for a rotation, and that one does it.
func ExampleManager_RequestRotation() {
	ctx := context.Background()
	m, end := exampleManager(ctx)
	defer end()
	pub, err := m.RequestRotation(ctx, plc.RotateOptions{})
	if err != nil {
		log.Fatal(err)
	}

	// In the process that runs, every second or so:
	if !m.RotationRequested().IsZero() {
		if err := m.CompleteRotations(ctx); err != nil {
			log.Println("is tried again:", err)
		}
	}
	now, err := m.Identity().Key.PublicKey()
	fmt.Println(now.Equal(pub), err)
	// Output: true <nil>
}

// A DID is given up for good.
func ExampleManager_Tombstone() {
	ctx := context.Background()
	m, end := exampleManager(ctx)
	defer end()
	plan, err := m.Tombstone(ctx, plc.TombstoneOptions{DryRun: true})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(plan.Submitted, plan.Changes)
	_, err = m.Tombstone(ctx, plc.TombstoneOptions{Confirm: "yes"}) // it must be the DID
	fmt.Println(err != nil)
	// Output:
	// false [the DID: given up for good]
	// true
}

// Where the rotation key is kept elsewhere, the operation is made here and signed there. The new key waits until the directory names it.
func ExampleManager_Rotate_unsigned() {
	ctx := context.Background()
	m, end := exampleManager(ctx)
	defer end()
	before := m.Identity()
	plan, err := m.Rotate(ctx, plc.RotateOptions{Unsigned: true})
	if err != nil {
		log.Fatal(err)
	}
	op, err := json.Marshal(plan.Operation) // goes to where the rotation key is, and from there to the directory
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(plan.Submitted, len(op) > 0, m.Identity().Key.Equal(before.Key))
	// When the directory has it: m.Rotate(ctx, plc.RotateOptions{}), or the next start.

	// Output: false true true
}
