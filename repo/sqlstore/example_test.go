package sqlstore_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/bluesky-social/indigo/atproto/atcrypto"

	"github.com/atcr-dev/atcr/repo"
	"github.com/atcr-dev/atcr/repo/sqlstore"
)

// A repository in one file: it is there again after the program was started anew.
func Example() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "repo")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	key, err := atcrypto.GeneratePrivateKeyK256()
	if err != nil {
		log.Fatal(err)
	}
	for range 2 {
		store, err := sqlstore.Open(ctx, filepath.Join(dir, "repo.db"))
		if err != nil {
			log.Fatal(err)
		}
		r, err := repo.Open(ctx, store, repo.Options{DID: "did:web:example.com", Key: key})
		if err != nil {
			log.Fatal(err)
		}
		value, err := repo.RecordFromJSON([]byte(`{"$type":"io.atcr.tag","tag":"v1"}`))
		if err != nil {
			log.Fatal(err)
		}
		c, err := r.Apply(ctx, []repo.Write{{Action: repo.Put, Collection: "io.atcr.tag", RKey: "app_v1", Record: value}})
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(c.Results[0].Action)
		if err := r.Close(); err != nil {
			log.Fatal(err)
		}
		if err := store.Close(); err != nil {
			log.Fatal(err)
		}
	}
	// Output:
	// create
	// update
}
