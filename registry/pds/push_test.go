package pds_test

import (
	"bytes"
	"io"
	"net/http"
	"testing"

	"github.com/atcr-dev/atcr/registry"
)

func TestPushPull(t *testing.T) { testPushPull(t, devnetPDS) }

func testPushPull(t *testing.T, start func(*world)) {
	w := newWorld(t, start)
	img := newImage(t, "one", nil)
	w.push("app", img, "v1", "latest")
	w.settled()
	anon := w.repo("", "alice", "app")
	for _, ref := range []registry.Ref{{Tag: "v1"}, {Tag: "latest"}, {Digest: img.manifest.Digest}} {
		m, err := anon.Manifest(t.Context(), ref)
		must(t, err)
		if !bytes.Equal(m.Bytes, img.manifest.Bytes) || m.MediaType != img.manifest.MediaType || m.Warning != "" {
			t.Fatalf("%v: got %s %q", ref, m.MediaType, m.Warning)
		}
	}
	for _, want := range img.blobs {
		d := img.manifest.Config.Digest
		if len(want) > 1000 {
			d = img.manifest.Layers[0].Digest
		}
		b, err := anon.Blob(t.Context(), d)
		must(t, err)
		if b.Size != int64(len(want)) {
			t.Fatalf("size %d, want %d", b.Size, len(want))
		}
		resp, err := http.Get(b.Link)
		must(t, err)
		got, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		must(t, err)
		if !bytes.Equal(got, want) {
			t.Fatalf("link %s gives %d %d bytes", b.Link, resp.StatusCode, len(got))
		}
		body, err := b.Open(t.Context(), registry.Range{Start: 3, End: 10})
		must(t, err)
		got, err = io.ReadAll(body)
		body.Close()
		must(t, err)
		if !bytes.Equal(got, want[3:10]) {
			t.Fatalf("range: %q", got)
		}
	}
	w.check("alice", "app")
}
