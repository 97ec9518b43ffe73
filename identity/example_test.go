package identity_test

import (
	"context"
	"fmt"
	"os"

	"github.com/atcr-dev/atcr/identity"
)

func ExampleLoadOrCreateDID() {
	dir, _ := os.MkdirTemp("", "hold")
	defer os.RemoveAll(dir)
	id, err := identity.LoadOrCreateDID(context.Background(), identity.Config{
		Dir:       dir,
		PublicURL: "https://hold.example.com",
		Services:  identity.HoldServices(),
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(id.DID, id.Handle)
	// http.Handle("/.well-known/", identity.WellKnown(id))

	// Output: did:web:hold.example.com hold.example.com
}

func ExampleNormalizeDID() {
	did, _ := identity.NormalizeDID("did:web:127.0.0.1:8080")
	fmt.Println(did)
	// Output: did:web:127.0.0.1%3A8080
}

func ExampleNewMockDirectory() {
	dir := identity.NewMockDirectory()
	dir.Insert(identity.Account{DID: "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa", Handle: "alice.test"})
	var any identity.Directory = dir // what a server takes
	alice, _ := any.LookupHandle(context.Background(), "alice.test")
	fmt.Println(alice.DID)
	// Output: did:plc:aaaaaaaaaaaaaaaaaaaaaaaa
}
