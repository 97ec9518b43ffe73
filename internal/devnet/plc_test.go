package devnet

import (
	"errors"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/did-method-plc/go-didplc/didplc"
)

func genesis(t *testing.T, key atcrypto.PrivateKeyExportable, handle string) (string, *didplc.RegularOp) {
	t.Helper()
	pub, err := key.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	op := didplc.RegularOp{
		Type: "plc_operation", RotationKeys: []string{pub.DIDKey()},
		VerificationMethods: map[string]string{"atproto": pub.DIDKey()},
		AlsoKnownAs:         []string{"at://" + handle},
		Services:            map[string]didplc.OpService{"atproto_pds": {Type: "AtprotoPersonalDataServer", Endpoint: "http://localhost:1"}},
	}
	if err := op.Sign(key); err != nil {
		t.Fatal(err)
	}
	did, err := op.DID()
	if err != nil {
		t.Fatal(err)
	}
	return did, &op
}

func TestDirectoryKeepsItsLog(t *testing.T) {
	ctx := t.Context()
	path := filepath.Join(t.TempDir(), "plc.jsonl")
	key, err := atcrypto.GeneratePrivateKeyK256()
	if err != nil {
		t.Fatal(err)
	}
	did, first := genesis(t, key, "alice.test")

	dir, err := OpenDirectory(ctx, path, nil)
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(dir)
	client := didplc.Client{DirectoryURL: srv.URL}
	if _, err := client.Resolve(ctx, did); !errors.Is(err, didplc.ErrDIDNotFound) {
		t.Fatalf("before the genesis: %v", err)
	}
	if err := client.Submit(ctx, did, first); err != nil {
		t.Fatal(err)
	}
	second := *first
	prev := first.CID().String()
	second.Prev, second.Sig, second.AlsoKnownAs = &prev, nil, []string{"at://alice2.test"}
	if err := second.Sign(key); err != nil {
		t.Fatal(err)
	}
	other, err := atcrypto.GeneratePrivateKeyK256()
	if err != nil {
		t.Fatal(err)
	}
	forged := second
	forged.Sig = nil
	if err := forged.Sign(other); err != nil {
		t.Fatal(err)
	}
	if err := client.Submit(ctx, did, &forged); err == nil {
		t.Fatal("an operation by a key that isn't in the list was taken")
	}
	if err := client.Submit(ctx, did, &second); err != nil {
		t.Fatal(err)
	}
	srv.Close()
	if err := dir.Close(); err != nil {
		t.Fatal(err)
	}

	// what a crash cut off was not acknowledged
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(`{"did":"did:plc:half`); err != nil {
		t.Fatal(err)
	}
	f.Close()

	dir, err = OpenDirectory(ctx, path, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	srv = httptest.NewServer(dir)
	defer srv.Close()
	client.DirectoryURL = srv.URL
	doc, err := client.Resolve(ctx, did)
	if err != nil {
		t.Fatal(err)
	}
	if doc.ID != did || len(doc.AlsoKnownAs) != 1 || doc.AlsoKnownAs[0] != "at://alice2.test" {
		t.Fatalf("document after a restart: %+v", doc)
	}
	log, err := client.AuditLog(ctx, did)
	if err != nil {
		t.Fatal(err)
	}
	if err := didplc.VerifyOpLog(log); err != nil || len(log) != 2 {
		t.Fatalf("audit log of %d: %v", len(log), err)
	}
}
