package hostile_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/opencontainers/go-digest"

	"github.com/atcr-dev/atcr"
	"github.com/atcr-dev/atcr/identity"
	"github.com/atcr-dev/atcr/internal/realtest/hostile"
)

// service is the address of a DID's PDS or hold, as a resolver of ours reads the document.
func service(t *testing.T, n *hostile.Network, did, id string) string {
	t.Helper()
	who, err := identity.NewResolver(identity.ResolverOptions{PLCURL: n.URL, TestMode: true}).LookupDID(t.Context(), syntax.DID(did))
	if err != nil {
		t.Fatal(err)
	}
	return who.GetServiceEndpoint(id)
}

func query(t *testing.T, limit time.Duration, base, method string, q url.Values) (int, []byte, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/xrpc/"+method+"?"+q.Encode(), nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 32<<20))
	return resp.StatusCode, b, err
}

func listed(did string) url.Values {
	return url.Values{"repo": {did}, "collection": {atcr.NSIDManifest}, "limit": {"100"}}
}

// An honest owner's images are all there: records, manifests at the PDS, blobs at the hold.
func TestHonest(t *testing.T) {
	n := hostile.Start(t, hostile.Options{Hosts: 2})
	o := n.Add(hostile.Party{Images: 2, Layers: 3})
	pds := service(t, n, o.DID, "atproto_pds")
	status, b, err := query(t, time.Minute, pds, "com.atproto.repo.listRecords", listed(o.DID))
	var page struct {
		Records []struct{ Value atcr.Manifest }
	}
	if err != nil || status != http.StatusOK || json.Unmarshal(b, &page) != nil || len(page.Records) != 2 {
		t.Fatal(status, string(b), err)
	}
	hold := service(t, n, n.Hold, "atcr_hold")
	for i, r := range page.Records {
		if err := r.Value.Check(); err != nil || r.Value.Digest != o.Images[i].Digest || r.Value.HoldDID != n.Hold {
			t.Errorf("%v: %+v", err, r.Value)
		}
		q := url.Values{"did": {o.DID}, "cid": {r.Value.ManifestBlob.CID}}
		if _, b, err := query(t, time.Minute, pds, "com.atproto.sync.getBlob", q); err != nil || digest.FromBytes(b).String() != r.Value.Digest {
			t.Errorf("its manifest: %s, %v", b, err)
		}
		for d := range o.Images[i].Blobs {
			q := url.Values{"did": {o.DID}, "cid": {d}}
			if _, b, err := query(t, time.Minute, hold, "com.atproto.sync.getBlob", q); err != nil || digest.FromBytes(b).String() != d {
				t.Errorf("its blob: %s, %v", b, err)
			}
		}
	}
	if n.Calls(o.DID, "com.atproto.repo.listRecords") != 1 || n.Calls(o.DID, "did") == 0 {
		t.Error("calls are not counted")
	}
}

// Each kind does what its name says, and a party can turn.
func TestKinds(t *testing.T) {
	n := hostile.Start(t, hostile.Options{Hosts: 2})
	var wg sync.WaitGroup
	defer wg.Wait()
	for _, c := range []struct {
		kind  hostile.Kind
		bytes int // at least
		ends  bool
	}{
		{hostile.Fill, 10 << 20, true}, {hostile.Drip, 1<<20 - 1024, false}, {hostile.Hog, 3 << 19, false}, {hostile.Trickle, 1, false},
		{hostile.Flood, 16 << 20, false}, {hostile.Huge, 1, false}, {hostile.Tarpit, 0, false}, {hostile.Broken, 1, true},
		{hostile.Slow, 1, true},
	} {
		o := n.Add(hostile.Party{PDS: c.kind})
		limit := 2 * time.Second
		if c.ends {
			limit = time.Minute
		}
		pds := service(t, n, o.DID, "atproto_pds")
		wg.Go(func() {
			_, b, err := query(t, limit, pds, "com.atproto.repo.listRecords", listed(o.DID))
			if len(b) < c.bytes || c.ends != (err == nil) && c.kind != hostile.Flood {
				t.Errorf("%s: %d bytes, %v", o.DID, len(b), err)
			}
		})
	}
	o := n.Add(hostile.Party{PDS: hostile.Gone})
	if _, _, err := query(t, time.Minute, service(t, n, o.DID, "atproto_pds"), "x", nil); err == nil {
		t.Error("somebody listens there")
	}
	n.Become(o.DID, hostile.Honest, hostile.Tarpit)
	pds, hold := service(t, n, o.DID, "atproto_pds"), service(t, n, o.DID, "atcr_hold")
	if status, _, err := query(t, time.Minute, pds, "com.atproto.repo.listRecords", listed(o.DID)); status != 200 {
		t.Error("it was mended", status, err)
	}
	q := url.Values{"did": {o.DID}, "cid": {"x"}}
	if _, _, err := query(t, time.Second, hold, "com.atproto.sync.getBlob", q); !errors.Is(err, context.DeadlineExceeded) {
		t.Error("its hold should answer nothing", err)
	}
}

// Every password signs in, and a link leads where it says.
func TestPasswordsAndLinks(t *testing.T) {
	n := hostile.Start(t, hostile.Options{Hosts: 1, TokenBytes: 100})
	o := n.Add(hostile.Party{PDS: hostile.Link, Hold: hostile.Link})
	resp, err := http.Post(service(t, n, o.DID, "atproto_pds")+"/xrpc/com.atproto.server.createSession", "application/json",
		strings.NewReader(`{"identifier":"`+o.DID+`","password":"whatever"}`))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var out struct{ Did, AccessJwt string }
	if err := json.NewDecoder(resp.Body).Decode(&out); err != nil || out.Did != o.DID || len(out.AccessJwt) != 100 {
		t.Errorf("%+v, %v", out, err)
	}
	client := hostile.ClientAt("127.0.0.9")
	defer client.CloseIdleConnections()
	hold := service(t, n, o.DID, "atcr_hold")
	for i, want := range hostile.Links() {
		resp, err := client.Get(hold + "/xrpc/com.atproto.sync.getBlob?did=" + o.DID + "&cid=" + hostile.LinkDigest(i))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if got := resp.Header.Get("Location"); got != want {
			t.Errorf("%d: %q", resp.StatusCode, got)
		}
	}
}

// Other DIDs are those of the directory behind it.
func TestBehind(t *testing.T) {
	honest := hostile.Start(t, hostile.Options{Hosts: 1})
	o := honest.Add(hostile.Party{Images: 1})
	n := hostile.Start(t, hostile.Options{Hosts: 1, Directory: honest.URL})
	if service(t, n, o.DID, "atproto_pds") != service(t, honest, o.DID, "atproto_pds") {
		t.Error("another document")
	}
	if resp, err := http.Get(honest.URL + "/did:plc:" + strings.Repeat("z", 24)); err != nil || resp.StatusCode != http.StatusNotFound {
		t.Error("somebody unknown", err)
	}
}
