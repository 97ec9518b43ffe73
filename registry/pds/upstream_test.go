package pds_test

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/atcr-dev/atcr/internal/realtest/upstreamhold"
	"github.com/atcr-dev/atcr/registry"
	"github.com/atcr-dev/atcr/registry/pds"
)

// TestUpstreamHold pushes to, pulls from and deletes at a hold without our extensions, in each form of its answers.
func TestUpstreamHold(t *testing.T) {
	t.Parallel()
	for name, form := range map[string]upstreamhold.Form{"redirect": upstreamhold.Redirect, "url": upstreamhold.URLJSON,
		"bytes": upstreamhold.Bytes} {
		for _, public := range []bool{true, false} {
			for _, redirect := range []pds.Redirect{pds.RedirectAuto, pds.RedirectNever} {
				if os.Getenv("ATCR_LONG") == "" && (public != (form == upstreamhold.Redirect) ||
					(redirect == pds.RedirectAuto) != (form != upstreamhold.Bytes)) {
					continue // the short lane: each form once
				}
				t.Run(fmt.Sprint(name, "/public=", public, "/", redirect), func(t *testing.T) { upstream(t, form, public, redirect) })
			}
		}
	}
}

func upstream(t *testing.T, form upstreamhold.Form, public bool, redirect pds.Redirect) {
	var h *upstreamhold.Hold
	w := newWorld(t, devnetPDS, func(w *world) {
		w.options = func(o *pds.Options) {
			if h == nil {
				h = upstreamhold.Start(t, upstreamhold.Options{Owner: w.accounts["bob"].did, Directory: w.directory, Public: public,
					AllowAllCrew: true, GetBlob: form})
			}
			o.DefaultHold, o.Redirect = h.DID, redirect
		}
	})
	img := newImage(t, "one", nil)
	w.push("app", img, "v1")
	w.settled()
	if n := len(h.Layers()); n != 1 { // such holds count layers, not configurations
		t.Errorf("%d layer records", n)
	}
	r := w.repo("alice", "alice", "app")
	m, err := r.Manifest(t.Context(), registry.Ref{Tag: "v1"})
	must(t, err)
	if !bytes.Equal(m.Bytes, img.manifest.Bytes) {
		t.Error("other bytes")
	}
	b, err := r.Blob(t.Context(), img.manifest.Layers[0].Digest)
	must(t, err)
	if b.Size != int64(len(img.blobs[1])) || redirect == pds.RedirectNever && b.Link != "" {
		t.Errorf("size %d, link %q", b.Size, b.Link)
	}
	for _, rng := range []registry.Range{{}, {Start: 5, End: 50}, {Start: 100}} {
		body, err := b.Open(t.Context(), rng)
		must(t, err)
		got, err := io.ReadAll(body)
		body.Close()
		must(t, err)
		end := rng.End
		if end == 0 {
			end = int64(len(img.blobs[1]))
		}
		if !bytes.Equal(got, img.blobs[1][rng.Start:end]) {
			t.Errorf("range %v: %d bytes", rng, len(got))
		}
	}
	_, err = w.repo("", "alice", "app").Blob(t.Context(), img.manifest.Layers[0].Digest)
	if public {
		must(t, err)
	} else {
		wantKind(t, err, registry.ErrUnauthorized)
	}
	// A digest that such a hold can't take.
	up, err := r.StartUpload(t.Context(), registry.UploadHint{Digest: sha512Of("x"), Size: 1})
	must(t, err)
	_, err = up.ReadFrom(strings.NewReader("x"))
	if err == nil {
		_, err = up.Commit(t.Context(), sha512Of("x"))
	}
	wantKind(t, err, registry.ErrDigestInvalid)
	must(t, up.Cancel(t.Context()))
	// The large image goes in more than one part.
	big := randomBytes(17<<20, 5)
	must(t, upload(t.Context(), r, big))
	must(t, r.DeleteManifest(t.Context(), img.manifest.Digest))
	w.settled()
	_, err = r.Manifest(t.Context(), registry.Ref{Tag: "v1"})
	wantKind(t, err, registry.ErrNameUnknown)
}
