package xrpc_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/atcr-dev/atcr/repo"
	"github.com/atcr-dev/atcr/repo/memstore"
	"github.com/atcr-dev/atcr/repo/repotest"
	"github.com/atcr-dev/atcr/repo/xrpc"
)

const (
	did  = "did:web:hold.example"
	coll = "io.atcr.tag"
)

func serve(t *testing.T, a xrpc.Account) string {
	t.Helper()
	srv := httptest.NewServer(xrpc.NewHandler(xrpc.One(a), nil))
	t.Cleanup(srv.Close)
	return srv.URL + "/xrpc/"
}

func get(t *testing.T, url string) (int, http.Header, []byte) {
	t.Helper()
	res, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, res.Header, body
}

func getJSON(t *testing.T, url string, into any) {
	t.Helper()
	status, _, body := get(t, url)
	if status != 200 {
		t.Fatalf("%s: %d %s", url, status, body)
	}
	if err := json.Unmarshal(body, into); err != nil {
		t.Fatal(err)
	}
}

func filled(t *testing.T) (*repo.Repo, repo.CID) {
	t.Helper()
	r := repotest.Open(t, memstore.New(), repo.Options{DID: did})
	blob := []byte("blob")
	var ws []repo.Write
	for i := range 120 {
		v, err := repo.RecordFromJSON(fmt.Appendf(nil, `{"$type":%q,"n":%d,"b":{"$type":"blob","ref":{"$link":%q},"mimeType":"text/html","size":4}}`, coll, i, repo.BlobCID(blob)))
		if err != nil {
			t.Fatal(err)
		}
		ws = append(ws, repo.Write{Action: repo.Put, Collection: coll, RKey: fmt.Sprintf("k%03d", i), Record: v,
			Blobs: []repo.Blob{{MediaType: "text/html", Data: blob}}})
	}
	if _, err := r.Apply(t.Context(), ws); err != nil {
		t.Fatal(err)
	}
	return r, repo.BlobCID(blob)
}

type page struct {
	Cursor  string
	Records []struct {
		URI, CID string
		Value    map[string]any
	}
}

func TestRecords(t *testing.T) {
	t.Parallel()
	r, _ := filled(t)
	url := serve(t, xrpc.Account{Repo: r, Handle: "hold.example"})
	var keys []string
	for _, reverse := range []string{"", "&reverse=true"} {
		keys = nil
		for cursor := ""; ; {
			var p page
			getJSON(t, url+"com.atproto.repo.listRecords?limit=50&repo=hold.example&collection="+coll+reverse+"&cursor="+cursor, &p)
			for _, rec := range p.Records {
				keys = append(keys, rec.URI[strings.LastIndexByte(rec.URI, '/')+1:])
			}
			if cursor = p.Cursor; cursor == "" {
				break
			}
		}
		if len(keys) != 120 || (keys[0] < keys[1]) != (reverse != "") {
			t.Fatalf("reverse %q: %d records, first %s", reverse, len(keys), keys[0])
		}
	}
	var rec struct {
		URI, CID string
		Value    map[string]any
	}
	getJSON(t, url+"com.atproto.repo.getRecord?repo="+did+"&collection="+coll+"&rkey=k007", &rec)
	if rec.URI != "at://"+did+"/"+coll+"/k007" || rec.Value["n"] != 7.0 {
		t.Fatalf("%+v", rec)
	}
	var desc struct {
		Handle, DID string
		Collections []string
	}
	getJSON(t, url+"com.atproto.repo.describeRepo?repo="+did, &desc)
	if desc.DID != did || desc.Handle != "hold.example" || len(desc.Collections) != 1 {
		t.Fatalf("%+v", desc)
	}
}

func TestSync(t *testing.T) {
	t.Parallel()
	r, blob := filled(t)
	url := serve(t, xrpc.Account{Repo: r})
	status, _, car := get(t, url+"com.atproto.sync.getRecord?did="+did+"&collection="+coll+"&rkey=k007")
	if _, err := repo.VerifyProof(car, did, r.PublicKey(), coll, "k007"); status != 200 || err != nil {
		t.Fatalf("%d, %v", status, err)
	}
	status, head, body := get(t, url+"com.atproto.sync.getBlob?did="+did+"&cid="+blob.String())
	if status != 200 || string(body) != "blob" || head.Get("X-Content-Type-Options") != "nosniff" ||
		!strings.HasPrefix(head.Get("Content-Disposition"), "attachment") ||
		head.Get("Content-Security-Policy") != "default-src 'none'; sandbox" {
		t.Fatalf("%d %v %s", status, head, body)
	}
	c, err := r.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var latest struct{ CID, Rev string }
	getJSON(t, url+"com.atproto.sync.getLatestCommit?did="+did, &latest)
	if latest.CID != c.CID.String() || latest.Rev != c.Rev {
		t.Fatalf("%+v", latest)
	}
	var repos struct {
		Repos []struct {
			DID, Head, Rev string
			Active         bool
		}
	}
	getJSON(t, url+"com.atproto.sync.listRepos", &repos)
	if len(repos.Repos) != 1 || repos.Repos[0].Head != c.CID.String() || !repos.Repos[0].Active {
		t.Fatalf("%+v", repos)
	}
	var blobs struct{ CIDs []string }
	getJSON(t, url+"com.atproto.sync.listBlobs?did="+did, &blobs)
	if len(blobs.CIDs) != 1 || blobs.CIDs[0] != blob.String() {
		t.Fatalf("%+v", blobs)
	}
	status, head, body = get(t, url+"com.atproto.sync.getRepo?did="+did)
	if status != 200 || head.Get("Content-Type") != "application/vnd.ipld.car" || len(body) < 10_000 {
		t.Fatalf("%d %v, %d bytes", status, head, len(body))
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	r, blob := filled(t)
	url := serve(t, xrpc.Account{Repo: r})
	gone := serve(t, xrpc.Account{Repo: r, Status: "deactivated"})
	rec := "repo=" + did + "&collection=" + coll
	for _, c := range []struct {
		url    string
		status int
		name   string
	}{
		{url + "com.atproto.repo.getRecord?" + rec + "&rkey=none", 400, "RecordNotFound"},
		{url + "com.atproto.repo.getRecord?" + rec, 400, "InvalidRequest"},
		{url + "com.atproto.repo.getRecord?" + rec + "&rkey=a%2Fb", 400, "InvalidRequest"},
		{url + "com.atproto.repo.getRecord?" + rec + "&rkey=k007&cid=" + blob.String(), 400, "RecordNotFound"},
		{url + "com.atproto.repo.getRecord?" + rec + "&rkey=k007&cid=x", 400, "InvalidRequest"},
		{url + "com.atproto.repo.listRecords?repo=did:web:other.example&collection=" + coll, 400, "InvalidRequest"},
		{url + "com.atproto.repo.listRecords?repo=" + did + "&collection=x", 400, "InvalidRequest"},
		{url + "com.atproto.repo.listRecords?" + rec + "&limit=101", 400, "InvalidRequest"},
		{url + "com.atproto.repo.listRecords?" + rec + "&limit=-1", 400, "InvalidRequest"},
		{url + "com.atproto.repo.describeRepo?repo=did:web:other.example", 400, "RepoNotFound"},
		{url + "com.atproto.sync.getBlob?did=" + did + "&cid=" + repo.BlobCID(nil).String(), 400, "InvalidRequest"},
		{url + "com.atproto.sync.getBlob?did=" + did + "&cid=zzz", 400, "InvalidRequest"},
		{url + "com.atproto.sync.getRepo?did=did:web:other.example", 400, "RepoNotFound"},
		{url + "com.atproto.sync.getRepo?did=" + did + "&since=x", 400, "InvalidRequest"},
		{url + "com.atproto.sync.listBlobs?did=" + did + "&cursor=x", 400, "InvalidRequest"},
		{url + "com.atproto.sync.nothing", 501, "MethodNotImplemented"},
		{gone + "com.atproto.sync.getLatestCommit?did=" + did, 400, "RepoDeactivated"},
		{gone + "com.atproto.repo.getRecord?" + rec + "&rkey=k007", 400, "RepoDeactivated"},
	} {
		status, _, body := get(t, c.url)
		var e xrpc.Error
		if err := json.Unmarshal(body, &e); err != nil || status != c.status || e.Name != c.name || e.Message == "" {
			t.Errorf("%s: %d %s, want %d %s", c.url, status, body, c.status, c.name)
		}
	}
	res, err := http.Post(url+"com.atproto.repo.getRecord?"+rec+"&rkey=k007", "", nil)
	if err != nil || res.StatusCode != 400 {
		t.Errorf("POST of a query: %v, %v", res.Status, err)
	}
	res.Body.Close()
	var status struct {
		Active bool
		Status string
	}
	getJSON(t, gone+"com.atproto.sync.getRepoStatus?did="+did, &status)
	if status.Active || status.Status != "deactivated" {
		t.Errorf("%+v", status)
	}
}
