package devnet_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"testing"

	"github.com/atcr-dev/atcr/internal/devnet"
	"github.com/atcr-dev/atcr/internal/durable"
)

func start(t *testing.T, c devnet.Config) *devnet.Net {
	t.Helper()
	n, err := devnet.Start(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	return n
}

// call does one XRPC call; in may be nil, raw bytes, or something for JSON.
func call(t *testing.T, method, url, token string, in any) (int, []byte) {
	t.Helper()
	var body io.Reader
	kind := "application/json"
	switch v := in.(type) {
	case nil:
		kind = ""
	case []byte:
		body, kind = bytes.NewReader(v), "application/vnd.oci.image.manifest.v1+json"
	default:
		raw, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		body = bytes.NewReader(raw)
	}
	req, err := http.NewRequestWithContext(t.Context(), method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	if kind != "" {
		req.Header.Set("Content-Type", kind)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	out, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, out
}

type dict = map[string]any

func session(t *testing.T, pds, id, password string) string {
	t.Helper()
	status, body := call(t, "POST", pds+"/xrpc/com.atproto.server.createSession", "", dict{"identifier": id, "password": password})
	var out struct{ AccessJwt string }
	if err := json.Unmarshal(body, &out); err != nil || status != 200 {
		t.Fatalf("createSession: %d %s", status, body)
	}
	return out.AccessJwt
}

// TestRestart: started again on its folder, and on other ports, it is the same network.
func TestRestart(t *testing.T) {
	dir := t.TempDir()
	n := start(t, devnet.Config{Dir: dir})
	if _, err := devnet.Start(t.Context(), devnet.Config{Dir: dir}); !errors.Is(err, durable.ErrLocked) {
		t.Fatalf("a second network on the folder: %v", err)
	}
	alice := n.Accounts()[0]
	if alice.Handle != "alice.test" || alice.Password == "" {
		t.Fatalf("%+v", alice)
	}
	token := session(t, n.PDSURL(), alice.DID, alice.Password)
	status, body := call(t, "POST", n.PDSURL()+"/xrpc/com.atproto.repo.putRecord", token,
		dict{"repo": alice.DID, "collection": "io.atcr.tag", "rkey": "a_b", "record": dict{"tag": "b"}})
	if status != 200 {
		t.Fatalf("putRecord: %d %s", status, body)
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}

	n = start(t, devnet.Config{Dir: dir, Accounts: []devnet.NewAccount{{Handle: "carol.test", Password: "known"}}})
	if again := n.Accounts(); len(again) != 3 || again[0] != alice || again[2].Password != "known" {
		t.Fatalf("accounts after a restart: %+v", again)
	}
	session(t, n.PDSURL(), "carol.test", "known")
	if status, body = call(t, "GET", n.PDSURL()+"/xrpc/com.atproto.server.getSession", token, nil); status != 200 {
		t.Fatalf("an old session after a restart: %d %s", status, body)
	}
	if status, body = call(t, "GET", n.PDSURL()+"/xrpc/com.atproto.repo.getRecord?collection=io.atcr.tag&rkey=a_b&repo="+alice.DID, "",
		nil); status != 200 {
		t.Fatalf("getRecord after a restart: %d %s", status, body)
	}
	status, body = call(t, "GET", n.PLCURL()+"/"+alice.DID, "", nil)
	var doc struct {
		Service []struct{ ServiceEndpoint string }
	}
	if err := json.Unmarshal(body, &doc); err != nil || status != 200 || len(doc.Service) != 1 ||
		doc.Service[0].ServiceEndpoint != n.PDSURL() {
		t.Fatalf("DID document after a restart: %d %s", status, body)
	}
	req, _ := http.NewRequest("GET", n.PDSURL()+"/.well-known/atproto-did", nil)
	req.Host = "alice.test"
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if did, _ := io.ReadAll(res.Body); string(did) != alice.DID {
		t.Fatalf("atproto-did: %s", did)
	}
}
