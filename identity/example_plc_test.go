package identity_test

import (
	"context"
	"fmt"
	"log"
	"net/http/httptest"
	"os"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"github.com/atcr-dev/atcr/identity"
	"github.com/atcr-dev/atcr/internal/devnet"
)

// exampleDirectory is a did:plc directory in memory, in place of the public one.
func exampleDirectory() (url string, end func()) {
	plc, err := devnet.OpenDirectory(context.Background(), "", nil)
	if err != nil {
		log.Fatal(err)
	}
	s := httptest.NewServer(plc)
	return s.URL, func() { s.Close(); plc.Close() }
}

// A did:plc outlives its name: the service moves, and the next start tells the directory.
func ExampleEnsurePLCCurrent() {
	ctx := context.Background()
	plc, end := exampleDirectory()
	defer end()
	dir, err := os.MkdirTemp("", "service")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	for _, url := range []string{"https://a.example.com", "https://a.example.com", "https://b.example.com"} {
		cfg := identity.Config{Dir: dir, PublicURL: url, Method: "plc", Services: identity.HoldServices(), PLCURL: plc, TestMode: true}
		id, err := identity.LoadOrCreateDID(ctx, cfg)
		if err != nil {
			log.Fatal(err)
		}
		status, err := identity.EnsurePLCCurrent(ctx, id, cfg)
		if err != nil {
			log.Println("goes on, and tries again later:", err) // the directory is down
			continue
		}
		fmt.Println(status.Updated, len(status.Log.Entries))
	}
	// Output:
	// false 1
	// false 1
	// true 2
}

// Look-ups of untrusted names, with limits, caches and a guard on the address that is connected to.
func ExampleNewResolver() {
	ctx := context.Background()
	plc, end := exampleDirectory()
	defer end()
	dir, err := os.MkdirTemp("", "service")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	id, err := identity.LoadOrCreateDID(ctx, identity.Config{
		Dir: dir, PublicURL: "https://pds.example.com", Method: "plc", Services: identity.HoldServices(), PLCURL: plc, TestMode: true,
	})
	if err != nil {
		log.Fatal(err)
	}
	resolver := identity.NewResolver(identity.ResolverOptions{PLCURL: plc, TestMode: true}) // both are for this example's directory
	who, err := resolver.DIDs().LookupDID(ctx, id.DID)                                      // DIDs asks for no handles
	if err != nil {
		log.Fatal(err)
	}
	key, err := who.PublicKey()
	if err != nil {
		log.Fatal(err)
	}
	ours, err := id.Key.PublicKey()
	fmt.Println(who.PDSEndpoint(), key.Equal(ours), err)

	// Somebody says that the DID has changed (an #identity event): the next look-up asks the network.
	if err := resolver.Purge(ctx, syntax.DID(id.DID).AtIdentifier()); err != nil {
		log.Fatal(err)
	}
	// Output: https://pds.example.com true <nil>
}
