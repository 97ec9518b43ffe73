package e2e

import (
	"context"
	"crypto/sha256"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/atcr-dev/atcr/internal/realtest"
)

// eventually waits for what happens after a client has had its answer: the hold
// is told of a push and a delete.
func eventually(t *testing.T, ok func() error) {
	t.Helper()
	if err := realtest.WaitFor(time.Minute, ok); err != nil {
		t.Fatal(err)
	}
}

// records lists a collection of the pusher's repository by the PDS's own API.
func (s *stack) records(t *testing.T, collection string) []realtest.Record {
	t.Helper()
	return must(realtest.ListRecords(t.Context(), s.PDS, s.DID, collection))(t)
}

// holdKnows compares the hold's layer records of a manifest with want, digests
// each of which must be there exactly once.
func (s *stack) holdKnows(repository, manifest string, want []string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	records, err := realtest.ListRecords(ctx, s.Hold, s.HoldDID, "io.atcr.hold.layer")
	if err != nil {
		return err
	}
	_, hex, _ := strings.Cut(manifest, ":")
	var got []string
	for _, r := range records {
		if uri, _ := r.Value["manifest"].(string); strings.Contains(uri, hex) {
			if r.Value["userDid"] != s.DID || !strings.HasPrefix(uri, "at://"+s.DID+"/io.atcr.manifest/") {
				return fmt.Errorf("layer record %+v names another owner", r)
			}
			got = append(got, r.Value["digest"].(string))
		}
	}
	want = slices.Clone(want)
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		return fmt.Errorf("the hold's layer records of %s/%s: %v, want %v", repository, manifest, got, want)
	}
	return nil
}

// recordsAndLayers pushes an image and reads everything back without the
// registry: manifest and tag from the PDS, layers from the hold.
func recordsAndLayers(t *testing.T, s *stack) {
	crane := realtest.NewCrane(t, s.Login)
	img := realtest.Image(t, realtest.ImageOptions{SizeMB: 3, Layers: 3, Seed: 600})
	must(crane.Push(img, s.ref("records", ":v1")))(t)

	manifest := find(t, s.records(t, "io.atcr.manifest"), map[string]any{"digest": img.Digest, "repository": "records"})
	if manifest.Value["holdDid"] != s.HoldDID {
		t.Errorf("the record names the hold %v, want %s", manifest.Value["holdDid"], s.HoldDID)
	}
	_, hex, _ := strings.Cut(img.Digest, ":")
	if want := "at://" + s.DID + "/io.atcr.manifest/" + hex; manifest.URI != want {
		t.Errorf("the record is at %s, want %s", manifest.URI, want)
	}
	tag := find(t, s.records(t, "io.atcr.tag"), map[string]any{"repository": "records", "tag": "v1"})
	if tag.Value["manifest"] != manifest.URI {
		t.Errorf("the tag names %v, want %s", tag.Value["manifest"], manifest.URI)
	}

	blob, _ := manifest.Value["manifestBlob"].(map[string]any)
	link, _ := blob["ref"].(map[string]any)
	cid, _ := link["$link"].(string)
	var raw []byte
	if err := xrpc(t, s.PDS, "com.atproto.sync.getBlob", url.Values{"did": {s.DID}, "cid": {cid}}, &raw); err != nil {
		t.Fatalf("manifest bytes from the PDS: %v", err)
	}
	if got := fmt.Sprintf("sha256:%x", sha256.Sum256(raw)); got != img.Digest {
		t.Errorf("the PDS's manifest bytes hash to %s, want %s", got, img.Digest)
	}

	eventually(t, func() error { return s.holdKnows("records", img.Digest, img.Blobs) })
	for _, digest := range img.Blobs {
		var layer []byte
		if err := xrpc(t, s.Hold, "com.atproto.sync.getBlob", url.Values{"did": {s.DID}, "cid": {digest}}, &layer); err != nil {
			t.Errorf("layer from the hold: %v", err)
		}
		if got := fmt.Sprintf("sha256:%x", sha256.Sum256(layer)); got != digest {
			t.Errorf("the hold's layer %s hashes to %s", digest, got)
		}
	}
}

// find is the one record with these values.
func find(t *testing.T, records []realtest.Record, want map[string]any) realtest.Record {
	t.Helper()
	var found []realtest.Record
	for _, r := range records {
		has := true
		for k := range maps.Keys(want) {
			has = has && r.Value[k] == want[k]
		}
		if has {
			found = append(found, r)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%d records with %v among %d, want 1", len(found), want, len(records))
	}
	return found[0]
}
