package xrpc_test

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"

	"github.com/bluesky-social/indigo/atproto/atcrypto"

	"github.com/atcr-dev/atcr/repo"
	"github.com/atcr-dev/atcr/repo/memstore"
	"github.com/atcr-dev/atcr/repo/xrpc"
)

// The reads of one repository, mounted beside other routes.
func Example() {
	key, err := atcrypto.GeneratePrivateKeyK256()
	if err != nil {
		log.Fatal(err)
	}
	r, err := repo.Open(context.Background(), memstore.New(), repo.Options{DID: "did:web:hold.example.com", Key: key})
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()
	mux := http.NewServeMux()
	mux.Handle("/xrpc/", xrpc.NewHandler(xrpc.One(xrpc.Account{Repo: r, Handle: "hold.example.com"}), nil))

	answer := httptest.NewRecorder()
	mux.ServeHTTP(answer, httptest.NewRequest("GET", "/xrpc/com.atproto.sync.getRepoStatus?did=did:web:nobody.example", nil))
	fmt.Println(answer.Code, answer.Body)
	// Output:
	// 400 {"error":"RepoNotFound","message":"Could not find repo for DID: did:web:nobody.example"}
}
