package repo_test

import (
	"bytes"
	"context"
	"fmt"
	"log"

	"github.com/bluesky-social/indigo/atproto/atcrypto"

	"github.com/atcr-dev/atcr/repo"
	"github.com/atcr-dev/atcr/repo/memstore"
)

// A repository is opened over a store, changed by Apply, and proves what it holds to anyone.
func Example() {
	ctx := context.Background()
	key, err := atcrypto.GeneratePrivateKeyK256()
	if err != nil {
		log.Fatal(err)
	}
	r, err := repo.Open(ctx, memstore.New(), repo.Options{DID: "did:web:example.com", Key: key})
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()

	value, err := repo.RecordFromJSON([]byte(`{"$type":"io.atcr.tag","repository":"app","tag":"v1"}`))
	if err != nil {
		log.Fatal(err)
	}
	commit, err := r.Apply(ctx, []repo.Write{{Action: repo.Create, Collection: "io.atcr.tag", RKey: "app_v1", Record: value}})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(commit.Results[0].Action, commit.Results[0].URI(r.DID()))

	var proof bytes.Buffer
	if err := r.Prove(ctx, &proof, "io.atcr.tag", "app_v1"); err != nil {
		log.Fatal(err)
	}
	rec, err := repo.VerifyProof(proof.Bytes(), "did:web:example.com", r.PublicKey(), "io.atcr.tag", "app_v1")
	if err != nil {
		log.Fatal(err)
	}
	text, err := rec.JSON()
	fmt.Println(string(text), err)
	// Output:
	// create at://did:web:example.com/io.atcr.tag/app_v1
	// {"$type":"io.atcr.tag","repository":"app","tag":"v1"} <nil>
}

// A guard makes a change depend on what is there: here, on nobody having committed in between.
func ExampleSwapCommit() {
	ctx := context.Background()
	key, err := atcrypto.GeneratePrivateKeyK256()
	if err != nil {
		log.Fatal(err)
	}
	r, err := repo.Open(ctx, memstore.New(), repo.Options{DID: "did:web:example.com", Key: key})
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()
	seen, err := r.Head(ctx)
	if err != nil {
		log.Fatal(err)
	}
	for range 2 {
		_, err = r.Apply(ctx, nil, repo.SwapCommit(seen.CID))
		fmt.Println(err == nil)
	}
	// Output:
	// true
	// false
}
