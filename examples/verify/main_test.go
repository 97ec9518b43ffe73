package main

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/bluesky-social/indigo/atproto/atcrypto"

	"github.com/atcr-dev/atcr/repo"
	"github.com/atcr-dev/atcr/repo/memstore"
)

func TestVerify(t *testing.T) {
	key, err := atcrypto.GeneratePrivateKeyK256()
	if err != nil {
		t.Fatal(err)
	}
	r, err := repo.Open(t.Context(), memstore.New(), repo.Options{DID: "did:web:a.example", Key: key})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := r.Apply(t.Context(), []repo.Write{{Action: repo.Create, Collection: "io.atcr.tag", RKey: "a",
		Record: []byte{0xa0}}}); err != nil {
		t.Fatal(err)
	}
	var car, out bytes.Buffer
	if err := repo.ExportCAR(t.Context(), r, &car, nil); err != nil {
		t.Fatal(err)
	}
	whole := car.Bytes()
	if err := verify(t.Context(), []string{r.PublicKey().DIDKey()}, bytes.NewReader(whole), &out); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "io.atcr.tag/a bafyrei") || !strings.Contains(out.String(), ": 1 records") {
		t.Errorf("%s", &out)
	}
	if !strings.HasSuffix(out.String(), "signature good\n") {
		t.Errorf("%s", &out)
	}
	out.Reset()
	if err := verify(t.Context(), nil, bytes.NewReader(whole), &out); err != nil || !strings.Contains(out.String(), "signature not checked") {
		t.Errorf("without a key: %v, %s", err, &out)
	}
	if err := verify(t.Context(), nil, bytes.NewReader(whole[:len(whole)-1]), &out); !errors.Is(err, repo.ErrInvalidCAR) {
		t.Errorf("a torn one: %v", err)
	}
}
