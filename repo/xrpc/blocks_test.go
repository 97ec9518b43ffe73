package xrpc_test

import (
	"bytes"
	"fmt"
	"net/http"
	"net/url"
	"testing"

	"github.com/atcr-dev/atcr/repo"
	"github.com/atcr-dev/atcr/repo/xrpc"
)

func TestSince(t *testing.T) {
	t.Parallel()
	r, _ := filled(t)
	url := serve(t, xrpc.Account{Repo: r}) + "com.atproto.sync.getRepo?did=" + did
	status, _, whole := get(t, url)
	info, err := repo.VerifyCAR(t.Context(), repo.Source{Reader: bytes.NewReader(whole), DID: did, Key: r.PublicKey()})
	if status != 200 || err != nil || info.Records != 120 {
		t.Fatalf("%d %+v %v", status, info, err)
	}
	if _, err := r.Apply(t.Context(), []repo.Write{{Action: repo.Delete, Collection: coll, RKey: "k000"}}); err != nil {
		t.Fatal(err)
	}
	status, _, part := get(t, url+"&since="+info.Rev)
	if status != 200 || len(part) == 0 || len(part) > len(whole)/2 {
		t.Errorf("%d, %d bytes of %d", status, len(part), len(whole))
	}
	if status, _, _ := get(t, url+"&since=x"); status != 400 {
		t.Errorf("malformed since: %d", status)
	}
}

func TestGetBlocks(t *testing.T) {
	t.Parallel()
	r, blob := filled(t)
	head, err := r.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	rec, err := r.Get(t.Context(), coll, "k077")
	if err != nil {
		t.Fatal(err)
	}
	base := serve(t, xrpc.Account{Repo: r}) + "com.atproto.sync.getBlocks?did=" + did
	ask := func(ids ...repo.CID) (int, []byte) {
		q := ""
		for _, id := range ids {
			q += "&cids=" + url.QueryEscape(id.String())
		}
		status, _, body := get(t, base+q)
		return status, body
	}
	status, car := ask(head.CID, head.Data, rec.CID, rec.CID)
	if status != http.StatusOK || bytes.Count(car, rec.Value) != 1 || bytes.Count(car, head.CID.Bytes()) != 2 {
		t.Fatalf("%d, %d bytes", status, len(car))
	}
	for name, id := range map[string]repo.CID{"a blob": blob, "nothing": repo.RecordCID(nil)} {
		if status, body := ask(head.CID, id); status != 400 || !bytes.Contains(body, []byte("BlockNotFound")) ||
			!bytes.Contains(body, []byte(id.String())) {
			t.Errorf("%s: %d %s", name, status, body)
		}
	}
	if status, _ := ask(); status != 400 {
		t.Errorf("none: %d", status)
	}
	if status, _, _ := get(t, base+"&cids=x"); status != 400 {
		t.Errorf("malformed: %d", status)
	}
	var many []repo.CID
	for i := range 101 {
		many = append(many, repo.RecordCID(fmt.Append(nil, i)))
	}
	if status, _ := ask(many...); status != 400 {
		t.Errorf("too many: %d", status)
	}
}
