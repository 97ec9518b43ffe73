package pds_test

import (
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/atcr-dev/atcr/internal/oci"
	"github.com/atcr-dev/atcr/internal/realtest"
	"github.com/atcr-dev/atcr/registry"
)

// tarpit is an untrusted hold that takes every call and answers none, but shows its DID. caught counts the calls.
func tarpit(t *testing.T) (did string, caught *atomic.Int64) {
	t.Helper()
	caught = &atomic.Int64{}
	done := make(chan struct{})
	var srv *httptest.Server
	srv = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/.well-known/did.json" {
			_ = json.NewEncoder(w).Encode(map[string]any{"id": did,
				"service": []any{map[string]string{"id": "#atcr_hold", "type": "AtcrHoldService", "serviceEndpoint": srv.URL}}})
			return
		}
		caught.Add(1)
		select {
		case <-done:
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(srv.Close)
	t.Cleanup(func() { close(done) })
	u, err := url.Parse(srv.URL)
	must(t, err)
	return "did:web:localhost%3A" + u.Port(), caught
}

// table opens the backend's database beside it.
func (w *world) table() *sql.DB {
	w.t.Helper()
	db := realtest.OpenDatabase(w.t, filepath.Join(w.dir, "appview.db"))
	w.t.Cleanup(func() { _ = db.Close() })
	return db.Write()
}

// toldOf waits until the hold knows the layers of an image: less than the two minutes for which one try may hang.
func (w *world) toldOf(img image) error {
	want := fmt.Sprint("at://", w.accounts["alice"].did, "/io.atcr.manifest/", img.manifest.Digest.Encoded(), " ",
		img.manifest.Layers[0].Digest)
	return realtest.WaitFor(time.Minute, func() error {
		if w.layerRecords()[want] != 1 {
			return fmt.Errorf("the hold was not told of %s", want)
		}
		return nil
	})
}

// One silent hold must not keep other holds from being told.
func TestSilentHoldStopsNobodyElse(t *testing.T) {
	t.Parallel()
	w := newWorld(t, devnetPDS)
	did, caught := tarpit(t)
	db := w.table()
	for i := range 40 {
		_, err := db.Exec(`insert into pds_intent (id, kind, owner, session, repository, digest, tags, hold, created, next_try, tries, state, reason)
			values ($1, 'delete', $2, 'bob', 'x', $3, '[]', $4, 1, 1, 0, 'open', '')`,
			fmt.Sprint("tar", i), w.accounts["bob"].did, digest.FromString(fmt.Sprint(i)).String(), did)
		must(t, err)
	}
	go func() { _ = w.backend.Run(t.Context()) }()
	must(t, realtest.WaitFor(time.Minute, func() error {
		if caught.Load() == 0 {
			return errors.New("the tarpit was not asked")
		}
		return nil
	}))
	img := newImage(t, "one", nil)
	w.push("app", img, "v1")
	if err := w.toldOf(img); err != nil {
		t.Error(err)
	}
}

// Nor must uploads that it never lets go of.
func TestSilentHoldStopsNoHousekeeping(t *testing.T) {
	t.Parallel()
	w := newWorld(t, devnetPDS)
	did, _ := tarpit(t)
	db := w.table()
	for i := range 5 {
		_, err := db.Exec(`insert into pds_upload (id, owner, actor, session, repository, hold, upload_id, size, parts, touched)
			values ($1, $2, $2, 'bob', 'x', $3, 'theirs', 0, '[]', 1)`, fmt.Sprint("tar", i), w.accounts["bob"].did, did)
		must(t, err)
	}
	img := newImage(t, "one", nil)
	w.push("app", img, "v1")
	w.settled()
	must(t, w.repo("alice", "alice", "app").DeleteManifest(t.Context(), img.manifest.Digest))
	w.settled()
	// An intent that a crash left open.
	_, err := db.Exec(`insert into pds_intent (id, kind, owner, session, repository, digest, tags, hold, created, next_try, tries, state, reason)
		values ('left', 'delete', $1, 'alice', 'app', $2, '[]', $3, 1, 1, 0, 'open', '')`, w.accounts["alice"].did, img.manifest.Digest.String(), w.holdServer.DID())
	must(t, err)
	go func() { _ = w.backend.Run(t.Context()) }()
	must(t, realtest.WaitFor(time.Minute, func() error {
		left, err := w.backend.Unsettled(t.Context(), w.accounts["alice"].did)
		if err == nil && len(left) > 0 {
			err = fmt.Errorf("open: %+v", left)
		}
		return err
	}))
}

// A manifest is served as the type it was pushed as, also when its bytes don't say one.
func TestMediaTypeThatBytesDoNotSay(t *testing.T) {
	t.Parallel()
	w := newWorld(t, devnetPDS)
	r := w.repo("alice", "alice", "app")
	must(t, upload(t.Context(), r, []byte("{}")))
	empty := ocispec.Descriptor{MediaType: ocispec.MediaTypeEmptyJSON, Digest: digest.FromString("{}"), Size: 2}
	raw, err := json.Marshal(ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, Config: empty,
		Layers: []ocispec.Descriptor{empty}})
	must(t, err)
	m, err := registry.ParseManifest(oci.MediaTypeDockerManifest, raw, "")
	must(t, err)
	must(t, r.PutManifest(t.Context(), m, []string{"v1"}))
	got, err := r.Manifest(t.Context(), registry.Ref{Tag: "v1"})
	must(t, err)
	if got.MediaType != oci.MediaTypeDockerManifest {
		t.Errorf("pushed as %s, served as %s", oci.MediaTypeDockerManifest, got.MediaType)
	}
}

// Who asks for a tag that is missing is told of others, which asks their hold. One that never answers keeps a client waiting once.
func TestSilentHoldAndMissingTags(t *testing.T) {
	t.Parallel()
	w := newWorld(t, devnetPDS)
	did, caught := tarpit(t)
	w.push("app", newImage(t, "one", nil), "v1")
	_, err := w.table().Exec(`update pds_manifest set hold = $1`, did)
	must(t, err)
	for range 4 {
		_, err := w.repo("", "alice", "app").Manifest(t.Context(), registry.Ref{Tag: "v9"})
		wantKind(t, err, registry.ErrManifestUnknown)
	}
	if n := caught.Load(); n != 1 {
		t.Errorf("the hold was asked %d times, each for as long as a client waits", n)
	}
}
