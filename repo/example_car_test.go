package repo_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/bluesky-social/indigo/atproto/atcrypto"

	"github.com/atcr-dev/atcr/repo"
	"github.com/atcr-dev/atcr/repo/memstore"
)

func openExample(did string) *repo.Repo {
	key, err := atcrypto.GeneratePrivateKeyK256()
	if err != nil {
		log.Fatal(err)
	}
	r, err := repo.Open(context.Background(), memstore.New(), repo.Options{DID: did, Key: key})
	if err != nil {
		log.Fatal(err)
	}
	return r
}

// The records of one repository are brought to another one, which signs them anew.
func ExampleImportCAR() {
	ctx := context.Background()
	old, now := openExample("did:web:old.example"), openExample("did:web:new.example")
	defer old.Close()
	defer now.Close()
	value, err := repo.RecordFromJSON([]byte(`{"$type":"io.atcr.tag","tag":"v1"}`))
	if err != nil {
		log.Fatal(err)
	}
	if _, err := old.Apply(ctx, []repo.Write{{Action: repo.Put, Collection: "io.atcr.tag", RKey: "app_v1", Record: value}}); err != nil {
		log.Fatal(err)
	}
	var car bytes.Buffer
	if err := repo.ExportCAR(ctx, old, &car, nil); err != nil {
		log.Fatal(err)
	}
	got, err := repo.ImportCAR(ctx, now, repo.Source{Reader: &car, DID: "did:web:old.example", Key: old.PublicKey()})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(got.Created, got.Keys[0].Path)
	// Output: 1 io.atcr.tag/app_v1
}

// What is wrong with a CAR is told with its place.
func ExampleVerifyCAR() {
	ctx := context.Background()
	r := openExample("did:web:a.example")
	defer r.Close()
	var car bytes.Buffer
	if err := repo.ExportCAR(ctx, r, &car, nil); err != nil {
		log.Fatal(err)
	}
	info, err := repo.VerifyCAR(ctx, repo.Source{Reader: bytes.NewReader(car.Bytes()), Key: r.PublicKey()})
	fmt.Println(info.DID, info.Records, info.SignatureChecked, err)

	torn := car.Bytes()[:20]
	_, err = repo.VerifyCAR(ctx, repo.Source{Reader: bytes.NewReader(torn), Key: r.PublicKey()})
	var where *repo.CARError
	fmt.Println(errors.Is(err, repo.ErrInvalidCAR), errors.As(err, &where) && where.Offset == 0)

	_, err = repo.VerifyCAR(ctx, repo.Source{Reader: bytes.NewReader(car.Bytes())}) // by whose key?
	fmt.Println(errors.Is(err, repo.ErrInvalidOptions))
	// Output:
	// did:web:a.example 0 true <nil>
	// true true
	// true
}
