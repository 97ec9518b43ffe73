package firehose_test

import (
	"context"
	"log"
	"net/http"

	"github.com/bluesky-social/indigo/atproto/atcrypto"

	"github.com/atcr-dev/atcr/repo"
	"github.com/atcr-dev/atcr/repo/firehose"
	"github.com/atcr-dev/atcr/repo/memstore"
	"github.com/atcr-dev/atcr/repo/xrpc"
)

// A repository with its firehose beside the other reads.
func Example() {
	key, err := atcrypto.GeneratePrivateKeyK256()
	if err != nil {
		log.Fatal(err)
	}
	r, err := repo.Open(context.Background(), memstore.New(), repo.Options{DID: "did:web:example.com", Key: key})
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()
	f := firehose.New(r, nil)
	defer f.Close()
	mux := http.NewServeMux()
	mux.Handle("/xrpc/", xrpc.NewHandler(xrpc.One(xrpc.Account{Repo: r}), &xrpc.Options{Subscribe: f}))
}
