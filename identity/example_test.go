package identity_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
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

// A configuration is looked at before the first start, and its faults are named by the caller's own keys.
func ExampleCheck() {
	keys := map[string]string{"Method": "--did-method", "PublicURL": "--url"}
	for _, cfg := range []identity.Config{
		{Dir: "data", PublicURL: "https://hold.example.com"},
		{Dir: "data", PublicURL: "https://hold.example.com", Method: "key"},
	} {
		did, warnings, err := identity.Check(cfg)
		var wrong *identity.ConfigError
		if errors.As(err, &wrong) {
			fmt.Println(keys[wrong.Field]+":", wrong.Err)
			continue
		}
		fmt.Println(did, warnings, err)
	}
	// Output:
	// did:web:hold.example.com [] <nil>
	// --did-method: "key" is neither web nor plc
}

func ExampleWellKnown() {
	dir, _ := os.MkdirTemp("", "hold")
	defer os.RemoveAll(dir)
	id, err := identity.LoadOrCreateDID(context.Background(), identity.Config{Dir: dir, PublicURL: "https://hold.example.com"})
	if err != nil {
		fmt.Println(err)
		return
	}
	mux := http.NewServeMux()
	mux.Handle("/.well-known/", identity.WellKnown(id))
	server := httptest.NewServer(mux)
	defer server.Close()
	resp, err := http.Get(server.URL + "/.well-known/atproto-did")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer resp.Body.Close()
	did, _ := io.ReadAll(resp.Body)
	fmt.Printf("%s\n", did)
	// Output: did:web:hold.example.com
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
