package holdclient_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/atcr-dev/atcr/hold/holdclient"
	"github.com/atcr-dev/atcr/identity"
)

// pushBlob brings a blob to a hold.
func pushBlob(t *testing.T, c *holdclient.Client, text string) digest.Digest {
	t.Helper()
	d := digest.FromString(text)
	id, err := c.InitiateUpload(t.Context(), d)
	must(t, err)
	part, err := c.UploadPart(t.Context(), id, 1, int64(len(text)), strings.NewReader(text))
	must(t, err)
	must(t, c.CompleteUpload(t.Context(), id, d, []holdclient.Part{part}))
	return d
}

// readRanges opens parts of "hello, layer" and compares them.
func readRanges(t *testing.T, at *holdclient.Located) {
	t.Helper()
	for _, r := range []struct {
		start, end int64
		want       string
	}{{0, 0, "hello, layer"}, {7, 0, "layer"}, {7, 10, "lay"}, {0, 5, "hello"}, {11, 400, "r"}, {12, 0, ""}} {
		body, err := at.Open(t.Context(), r.start, r.end)
		must(t, err)
		got, err := io.ReadAll(body)
		if err = errors.Join(err, body.Close()); err != nil || string(got) != r.want {
			t.Errorf("bytes %d to %d: %q %v, want %q", r.start, r.end, got, err, r.want)
		}
	}
}

// TestLocateGivesBytes: a public hold that gives bytes is the address itself, and isn't asked again for a minute.
func TestLocateGivesBytes(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "layer.bin", time.Time{}, strings.NewReader("hello, layer"))
	}))
	t.Cleanup(srv.Close)
	now := time.Now()
	w := &wire{base: http.DefaultTransport}
	c := holdclient.New(holdclient.Options{
		DID: "did:web:hold.test", URL: srv.URL, HTTP: &http.Client{Transport: w}, Clock: func() time.Time { return now },
	})
	d := digest.FromString("hello, layer")
	at, err := c.Locate(t.Context(), "did:web:a.test", d, holdclient.LocateOptions{Size: 12})
	must(t, err)
	w.expect(t, "private", "GET getBlob")
	if at.Link != "" {
		t.Errorf("readers of a private hold are sent to %s", at.Link)
	}
	if at, err = c.Locate(t.Context(), "did:web:a.test", d, holdclient.LocateOptions{Public: true}); err != nil {
		t.Fatal(err)
	}
	w.expect(t, "public", "HEAD getBlob", "GET getBlob")
	if at.Size != 12 || at.Link != srv.URL+"/xrpc/com.atproto.sync.getBlob?cid="+url.QueryEscape(d.String())+"&did=did%3Aweb%3Aa.test" {
		t.Errorf("%+v", at)
	}
	readRanges(t, at)
	w.seen = nil
	for _, o := range []holdclient.LocateOptions{{Public: true, Size: 12}, {Public: true, Size: 12, NoLink: true}} {
		got, err := c.Locate(t.Context(), "did:web:a.test", d, o)
		must(t, err)
		w.expect(t, "known")
		if (got.Link == "") != o.NoLink {
			t.Errorf("%+v: link %q", o, got.Link)
		}
	}
	now = now.Add(time.Minute)
	_, err = c.Locate(t.Context(), "did:web:a.test", d, holdclient.LocateOptions{Public: true, Size: 12})
	must(t, err)
	w.expect(t, "a minute later", "GET getBlob")
}

// TestLocatePrivate: a private hold of ours has an address for its crew, and a token that was refused once is replaced once.
func TestLocatePrivate(t *testing.T) {
	dir := identity.NewMockDirectory()
	alice := newPerson(t, dir, "alice")
	did, addr := ours(t, dir, alice.did, false)
	c, w := newClient(did, addr, true)
	d := pushBlob(t, c.As(alice.token), "hello, layer")
	if _, err := c.Locate(t.Context(), alice.did, d, holdclient.LocateOptions{Size: 12}); !errors.Is(err, holdclient.ErrUnauthorized) {
		t.Errorf("without a token: %v", err)
	}
	at, err := c.As(alice.token).Locate(t.Context(), alice.did, d, holdclient.LocateOptions{Size: 12})
	must(t, err)
	if at.Link == "" {
		t.Error("no link")
	}
	readRanges(t, at)
	if _, err := c.As(alice.token).Locate(t.Context(), alice.did, digest.FromString("none"),
		holdclient.LocateOptions{}); !errors.Is(err, holdclient.ErrNotFound) {
		t.Errorf("no such blob: %v", err)
	}
	w.seen = nil
	bad := 1
	_, err = c.As(func(ctx context.Context, aud, lxm string) (string, error) {
		if bad--; bad >= 0 {
			return "spent", nil
		}
		return alice.token(ctx, aud, lxm)
	}).Locate(t.Context(), alice.did, d, holdclient.LocateOptions{Size: 12})
	must(t, err)
	w.expect(t, "a spent token", "GET getBlob +bare", "GET getBlob +#")
}

// TestLocateInBucket: a hold that sends readers to its bucket; the bucket gives the whole where a part was asked.
func TestLocateInBucket(t *testing.T) {
	status := http.StatusOK
	bucket := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" {
			t.Error("a token went to the bucket")
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, "hello, layer")
	}))
	t.Cleanup(bucket.Close)
	c := hostile(t, http.StatusTemporaryRedirect, http.Header{"Location": {bucket.URL + "/x?signature=1"}}, "")
	at, err := c.Locate(t.Context(), "did:web:a.test", digest.FromString("hello, layer"), holdclient.LocateOptions{Public: true, Size: 12})
	must(t, err)
	if at.Link != bucket.URL+"/x?signature=1" {
		t.Errorf("link %q", at.Link)
	}
	readRanges(t, at)
	if _, err := at.Open(t.Context(), 13, 0); !errors.Is(err, holdclient.ErrUnavailable) {
		t.Errorf("a part beyond the end of what came: %v", err)
	}
	status = http.StatusForbidden
	if _, err := at.Open(t.Context(), 0, 0); !errors.Is(err, holdclient.ErrUnavailable) || !strings.Contains(err.Error(), "403") {
		t.Errorf("the bucket refuses: %v", err)
	}
}

// Send a reader to the bytes of a blob, or pass them on.
func ExampleClient_Locate() {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "layer")
	}))
	defer srv.Close()

	ctx := context.Background()
	hold := holdclient.New(holdclient.Options{DID: "did:web:hold.example.com", URL: srv.URL, HTTP: srv.Client()})
	at, err := hold.Locate(ctx, "did:plc:ewvi7nxzyoun6zhxrhs64oiz", digest.FromString("layer"), holdclient.LocateOptions{Size: 5})
	if err != nil {
		fmt.Println(err)
		return
	}
	if at.Link != "" {
		fmt.Println("get it from", at.Link)
		return
	}
	body, err := at.Open(ctx, 0, 0)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer body.Close()
	b, err := io.ReadAll(body)
	fmt.Println(string(b), err)
	// Output: layer <nil>
}
