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
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/atcr-dev/atcr/internal/httpx"
	"github.com/atcr-dev/atcr/internal/oci"
	"github.com/atcr-dev/atcr/internal/realtest"
	"github.com/atcr-dev/atcr/registry"
	"github.com/atcr-dev/atcr/registry/pds"
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
	if w.opened == nil {
		db := realtest.OpenDatabase(w.t, filepath.Join(w.dir, "appview.db"))
		w.t.Cleanup(func() {
			w.opened = nil // a subtest's world goes on in the next
			_ = db.Close()
		})
		w.opened = db.Write()
	}
	return w.opened
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

// stopHold has the world's hold hang from now on, as a process that was stopped (SIGSTOP) does; it returns what lets it go on.
func (w *world) stopHold() (goOn func()) {
	w.t.Helper()
	target := w.holdTarget
	stop := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-stop:
		case <-r.Context().Done():
		}
	}))
	w.holdProxy.SetTarget(srv.URL)
	var once sync.Once
	goOn = func() {
		once.Do(func() {
			w.holdProxy.SetTarget(target)
			close(stop)
			srv.Close()
		})
	}
	w.t.Cleanup(goOn)
	return goOn
}

// A hold that hangs: what was known of it serves at once while it is asked behind the request, and a push is told who does not answer, the
// first time after a while, then at once.
func TestStoppedHold(t *testing.T) {
	t.Parallel()
	w := newWorld(t, devnetPDS, func(w *world) {
		w.options = func(o *pds.Options) {
			o.HTTP = httpx.NewClient(httpx.ClientOptions{Guard: httpx.Guard{Loopback: true}, Timeout: -1, MaxRedirects: -1})
		}
	})
	img := newImage(t, "one", nil)
	w.push("app", img, "v1")
	w.settled()
	pull := func() time.Duration {
		t.Helper()
		began := time.Now()
		_, err := w.repo("", "alice", "app").Manifest(t.Context(), registry.Ref{Tag: "v1"})
		must(t, err)
		return time.Since(began)
	}
	pull()
	goOn := w.stopHold()
	w.clock.advance(2 * time.Minute) // nothing is fresh
	if d := pull(); d > 8*time.Second {
		t.Errorf("the first pull took %s", d)
	}
	var waited time.Duration
	for range 5 {
		waited += pull()
		w.clock.advance(2 * time.Minute) // nor is a silence of just now
	}
	if waited > 5*time.Second {
		t.Errorf("five pulls after it took %s", waited)
	}
	missing := digest.FromString("not there")
	head := func() (time.Duration, error) {
		began := time.Now()
		_, err := w.repo("alice", "alice", "app").Blob(t.Context(), missing)
		return time.Since(began), err
	}
	must(t, realtest.WaitFor(time.Minute, func() error { // until the question behind the pulls was in vain
		if d, err := head(); d > time.Second || !errors.Is(err, registry.ErrUnavailable) {
			return fmt.Errorf("a push was told %w after %s", err, d)
		}
		return nil
	}))
	told := 0
	for range 5 {
		d, err := head()
		if e := (*registry.Error)(nil); errors.As(err, &e) && errors.Is(err, registry.ErrUnavailable) && e.RetryAfter > 0 &&
			strings.Contains(e.Message, w.holdServer.DID()) && d < 2*time.Second {
			told++
		}
	}
	if told < 4 { // one may be what tries it
		t.Errorf("%d of 5 requests were told at once that %s does not answer", told, w.holdServer.DID())
	}
	goOn()
	must(t, realtest.WaitFor(time.Minute, func() error {
		if _, err := head(); !errors.Is(err, registry.ErrBlobUnknown) {
			return err
		}
		return nil
	}))
	w.push("app", newImage(t, "two", nil), "v2")
}

// A repository whose records name many holds that hang keeps a reader waiting for one, not for each in turn.
func TestManySilentHolds(t *testing.T) {
	t.Parallel()
	w := newWorld(t, devnetPDS)
	w.push("app", newImage(t, "one", nil), "v1")
	db := w.table()
	for i := range 6 {
		did, _ := tarpit(t)
		_, err := db.Exec(`insert into pds_manifest (owner, rkey, gen, cid, repository, digest, hold, media_type, size, blob, subject, layers_known)
			select owner, rkey || $1, gen, cid, repository, $2, $3, media_type, size, blob, subject, layers_known from pds_manifest where hold <> ''
			and rkey not like '%~%' limit 1`, fmt.Sprint("~", i), digest.FromString(fmt.Sprint(i)).String(), did)
		must(t, err)
	}
	began := time.Now()
	for tag, err := range w.repo("", "alice", "app").Tags(t.Context(), "") {
		must(t, err)
		if tag != "v1" {
			t.Errorf("tag %s", tag)
		}
	}
	if d := time.Since(began); d > 25*time.Second {
		t.Errorf("a list of tags took %s", d)
	}
}
