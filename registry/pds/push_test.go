package pds_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/atcr-dev/atcr/internal/crashpoint"
	"github.com/atcr-dev/atcr/internal/realtest/upstreamhold"
	"github.com/atcr-dev/atcr/registry"
	"github.com/atcr-dev/atcr/registry/pds"
)

func TestPushPull(t *testing.T) {
	t.Parallel()
	testPushPull(t, devnetPDS)
}

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

// TestPulled has pulls of signed-in clients counted by the hold, each account's once.
func TestPulled(t *testing.T) {
	t.Parallel()
	var h *upstreamhold.Hold
	w := newWorld(t, devnetPDS, func(w *world) {
		w.options = func(o *pds.Options) {
			if h == nil {
				h = upstreamhold.Start(t, upstreamhold.Options{Owner: w.accounts["bob"].did, Directory: w.directory, Public: true, AllowAllCrew: true})
			}
			o.DefaultHold = h.DID
		}
	})
	img := newImage(t, "one", nil)
	w.push("app", img, "v1")
	w.settled()
	for _, who := range []string{"bob", "bob", "alice", ""} {
		m, err := w.repo(who, "alice", "app").Manifest(t.Context(), registry.Ref{Tag: "v1"})
		must(t, err)
		m.Pulled() // the handler does, once it has answered a GET
	}
	w.stop() // sends what is left
	if pulls, pushes := h.Counts(w.accounts["alice"].did, "app"); pulls != 2 || pushes != 1 {
		t.Errorf("%d pulls, %d pushes", pulls, pushes)
	}
}

// TestToldOnce: an intent that the timer read as due, and that was settled before the timer's turn came, is not settled again: upstream's
// hold counts each push that it is told of.
func TestToldOnce(t *testing.T) {
	t.Parallel()
	var h *upstreamhold.Hold
	read := make(chan []string, 9) // as the timer reads them, just before the intent is dropped
	w := newWorld(t, devnetPDS, func(w *world) {
		w.options = func(o *pds.Options) {
			if h == nil {
				h = upstreamhold.Start(t, upstreamhold.Options{Owner: w.accounts["bob"].did, Directory: w.directory, Public: true, AllowAllCrew: true})
			}
			o.DefaultHold = h.DID
		}
		w.crash = func(point string) error {
			if point != crashpoint.HoldTold {
				return nil
			}
			ids, err := w.backend.Open(t.Context())
			read <- ids
			return err
		}
	})
	w.push("app", newImage(t, "one", nil), "v1")
	w.settled()
	due := <-read
	if len(due) != 1 {
		t.Fatalf("open before the end: %q", due)
	}
	w.clock.advance(time.Hour) // due, if it were there
	if begun, err := w.backend.Begin(t.Context(), due[0]); begun || err != nil {
		t.Errorf("settled again: %v, %v", begun, err)
	}
	w.stop()
	if _, pushes := h.Counts(w.accounts["alice"].did, "app"); pushes != 1 {
		t.Errorf("%d pushes", pushes)
	}
}

// TestMovedHold pushes an image whose layers lie in the hold that the owner had before: they are brought along.
func TestMovedHold(t *testing.T) {
	t.Parallel()
	w := newWorld(t, devnetPDS)
	first, second := newImage(t, "one", nil), newImage(t, "one", map[string]string{"n": "2"})
	w.push("app", first, "v1")
	w.settled()
	h := upstreamhold.Start(t, upstreamhold.Options{Owner: w.accounts["bob"].did, Directory: w.directory, Public: true, AllowAllCrew: true})
	w.putRecord("alice", "io.atcr.sailor.profile", "self", map[string]any{"defaultHold": h.DID, "createdAt": "2025-01-01T00:00:00Z"})
	w.clock.advance(2 * time.Minute)
	r := w.repo("alice", "alice", "app")
	if _, err := r.Blob(t.Context(), first.manifest.Layers[0].Digest); err != nil {
		t.Fatalf("the client is told that it is not there: %v", err)
	}
	must(t, r.PutManifest(t.Context(), second.manifest, []string{"v2"}))
	w.settled()
	if len(h.Layers()) != 1 {
		t.Errorf("the new hold has layer records %v", h.Layers())
	}
	for tag, want := range map[string]image{"v1": first, "v2": second} {
		m, err := w.repo("", "alice", "app").Manifest(t.Context(), registry.Ref{Tag: tag})
		must(t, err)
		if m.Digest != want.manifest.Digest {
			t.Errorf("%s is %s", tag, m.Digest)
		}
	}
	b, err := w.repo("", "alice", "app").Blob(t.Context(), first.manifest.Layers[0].Digest)
	must(t, err)
	body, err := b.Open(context.Background(), registry.Range{})
	must(t, err)
	defer body.Close()
	if got, err := io.ReadAll(body); err != nil || !bytes.Equal(got, first.blobs[1]) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}
