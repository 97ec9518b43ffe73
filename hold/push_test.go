package hold_test

import (
	"bytes"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/atcr-dev/atcr/hold"
	"github.com/atcr-dev/atcr/hold/holdclient"
)

func TestPushPullDelete(t *testing.T) {
	n := newNetwork(t)
	alice := n.user("alice")
	h := newHold(t, n, func(c *hold.Config) {
		c.Public = true
		c.Crew = []hold.CrewMember{{Member: alice.did, Permissions: []string{"blob:write"}}}
	})
	ctx, c := t.Context(), h.client(alice)
	config := h.push(alice, []byte("{}"))
	layer1, layer2 := h.push(alice, data(1, 300_000)), h.push(alice, data(2, 2_000_000))
	present, err := c.CheckBlobs(ctx, alice.did, "app", []digest.Digest{config, layer1, layer2, digest.FromString("missing")})
	must(t, err)
	if len(present) != 3 || present[layer2] != 2_000_000 {
		t.Fatalf("present: %v", present)
	}
	d, _ := alice.putManifest(t, h, "app", config, layer1, layer2, layer1)
	for i := range 3 { // told again and again, recorded once
		res, err := c.NotifyManifest(ctx, holdclient.Notice{Operation: holdclient.Push, Repository: "app", UserDID: alice.did, Digest: d})
		must(t, err)
		if want := []int{3, 0, 0}[i]; res.LayersCreated != want || res.StatsUpdated != (i == 0) {
			t.Fatalf("push %d: %+v, want %d layers", i, res, want)
		}
	}
	if got := h.layers(); len(got) != 3 {
		t.Fatalf("layer records: %+v", got)
	}
	q, err := c.GetQuota(ctx, alice.did)
	must(t, err)
	if q.UniqueBlobs != 3 || q.TotalSize != 2_300_002 {
		t.Fatalf("quota: %+v", q)
	}
	if got := h.read(nil, layer2); !bytes.Equal(got, data(2, 2_000_000)) {
		t.Fatal("the layer came back as something else")
	}
	for i := range 2 {
		res, err := c.NotifyManifest(ctx, holdclient.Notice{Operation: holdclient.Pull, Repository: "app", UserDID: alice.did, Digest: d})
		must(t, err)
		if res.StatsUpdated != (i == 0) {
			t.Fatalf("pull %d: %+v", i, res)
		}
	}
	_, err = c.NotifyManifest(ctx, holdclient.Notice{Operation: holdclient.Delete, Repository: "app", UserDID: alice.did, Digest: d})
	if err == nil {
		t.Fatal("a delete was taken while the record stands")
	}
	alice.deleteManifest(t, d)
	res, err := c.NotifyManifest(ctx, holdclient.Notice{Operation: holdclient.Delete, Repository: "app", UserDID: alice.did, Digest: d})
	must(t, err)
	if res.LayersDeleted != 3 || len(h.layers()) != 0 {
		t.Fatalf("delete: %+v, %d layer records", res, len(h.layers()))
	}
	if q, err := c.GetQuota(ctx, alice.did); err != nil || q.TotalSize != 0 {
		t.Fatalf("quota after delete: %+v, %v", q, err)
	}
}
