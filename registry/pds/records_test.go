package pds_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/atcr-dev/atcr/internal/realtest"
	"github.com/atcr-dev/atcr/registry"
)

// putBlob puts bytes into an account's PDS by its own hand and returns the reference.
func (w *world) putBlob(name, mediaType string, b []byte) map[string]any {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), http.MethodPost, "/xrpc/com.atproto.repo.uploadBlob", bytes.NewReader(b))
	must(w.t, err)
	req.Header.Set("Content-Type", mediaType)
	resp, err := w.sessions.Do(w.t.Context(), name, req)
	must(w.t, err)
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	must(w.t, err)
	var out struct{ Blob map[string]any }
	if err := json.Unmarshal(raw, &out); err != nil || out.Blob == nil {
		w.t.Fatalf("uploadBlob: %d %s", resp.StatusCode, raw)
	}
	return out.Blob
}

func (w *world) putRecord(name, collection, rkey string, record map[string]any) {
	w.t.Helper()
	record["$type"] = collection
	w.write(name, "com.atproto.repo.putRecord", map[string]any{"repo": w.accounts[name].did, "collection": collection, "rkey": rkey,
		"record": record})
}

// manifestRecord is a record of an image as some program wrote it.
func (w *world) manifestRecord(name, repository string, img image, blob map[string]any) map[string]any {
	rec := map[string]any{
		"repository": repository, "digest": img.manifest.Digest.String(), "mediaType": img.manifest.MediaType, "schemaVersion": 2,
		"createdAt": "2025-01-01T00:00:00Z", "holdDid": w.holdServer.DID(),
	}
	if blob != nil {
		rec["manifestBlob"] = blob
	}
	return rec
}

// TestForeignRecords reads records that other programs wrote, in every form, and refuses those that lie.
func TestForeignRecords(t *testing.T) {
	t.Parallel()
	testForeignRecords(t, devnetPDS)
}

func testForeignRecords(t *testing.T, start func(*world)) {
	w := newWorld(t, start)
	alice := w.accounts["alice"]
	old, lying, html, plain := newImage(t, "old", nil), newImage(t, "lying", nil), newImage(t, "html", nil), newImage(t, "plain", nil)

	// An unusual key, the hold by its URL, a tag by digest alone and under another key.
	rec := w.manifestRecord("alice", "app", old, w.putBlob("alice", old.manifest.MediaType, old.manifest.Bytes))
	delete(rec, "holdDid")
	rec["holdEndpoint"] = w.holdProxy.URL
	w.putRecord("alice", "io.atcr.manifest", "3abcdefghijk2", rec)
	w.putRecord("alice", "io.atcr.tag", "some-key", map[string]any{"repository": "app", "tag": "old",
		"manifestDigest": old.manifest.Digest.String(), "createdAt": "2025-01-01T00:00:00Z"})
	// No manifestBlob: rebuilt from its fields.
	rec = w.manifestRecord("alice", "app", plain, nil)
	desc := func(d ocispec.Descriptor) map[string]any {
		return map[string]any{"mediaType": d.MediaType, "digest": d.Digest.String(), "size": d.Size}
	}
	rec["config"], rec["layers"] = desc(*plain.manifest.Config), []any{desc(plain.manifest.Layers[0])}
	w.putRecord("alice", "io.atcr.manifest", plain.manifest.Digest.Encoded(), rec)
	w.putRecord("alice", "io.atcr.tag", "app_plain", map[string]any{"repository": "app", "tag": "plain", "manifest": "at://" +
		alice.did + "/io.atcr.manifest/" + plain.manifest.Digest.Encoded(), "updatedAt": "2025-01-01T00:00:00Z"})
	// The digest of one, the bytes of another.
	w.putRecord("alice", "io.atcr.manifest", lying.manifest.Digest.Encoded(),
		w.manifestRecord("alice", "app", lying, w.putBlob("alice", "application/json", old.manifest.Bytes)))
	// A web page.
	page := []byte("<html><script>alert(1)</script></html>")
	rec = w.manifestRecord("alice", "app", html, w.putBlob("alice", "text/html", page))
	rec["digest"], rec["mediaType"] = digest.FromBytes(page).String(), "text/html"
	w.putRecord("alice", "io.atcr.manifest", digest.FromBytes(page).Encoded(), rec)
	// What breaks the lexicon is left out and harms nothing.
	w.putRecord("alice", "io.atcr.manifest", "broken", map[string]any{"repository": 7, "digest": "x"})
	w.putRecord("alice", "io.atcr.manifest", "broken2", map[string]any{"repository": "../etc", "digest": "sha256:00"})
	w.putRecord("alice", "io.atcr.tag", "broken", map[string]any{"repository": "app", "tag": "no tag"})
	// Tags that point elsewhere.
	w.putRecord("alice", "io.atcr.tag", "app_bob", map[string]any{"repository": "app", "tag": "bob", "manifest": "at://" +
		w.accounts["bob"].did + "/io.atcr.manifest/" + old.manifest.Digest.Encoded(), "updatedAt": "2025-01-01T00:00:00Z"})
	w.putRecord("alice", "io.atcr.tag", "app_gone", map[string]any{"repository": "app", "tag": "gone", "manifest": "at://" +
		alice.did + "/io.atcr.manifest/nothing", "updatedAt": "2025-01-01T00:00:00Z"})

	anon := w.repo("", "alice", "app")
	for tag, img := range map[string]image{"old": old, "plain": plain} {
		m, err := anon.Manifest(t.Context(), registry.Ref{Tag: tag})
		must(t, err)
		if !bytes.Equal(m.Bytes, img.manifest.Bytes) {
			t.Errorf("%s: other bytes", tag)
		}
	}
	for _, d := range []digest.Digest{lying.manifest.Digest, digest.FromBytes(page)} {
		_, err := anon.Manifest(t.Context(), registry.Ref{Digest: d})
		wantKind(t, err, registry.ErrManifestUnknown)
	}
	for _, tag := range []string{"bob", "gone"} {
		_, err := anon.Manifest(t.Context(), registry.Ref{Tag: tag})
		wantKind(t, err, registry.ErrManifestUnknown)
	}
	tags, err := collectTags(t.Context(), anon)
	must(t, err)
	if !slices.Equal(tags, []string{"old", "plain"}) {
		t.Errorf("tags %v", tags)
	}
	if skipped, refused := w.backend.Skipped(); skipped != 4 || refused < 2 {
		t.Errorf("skipped %d, refused %d", skipped, refused)
	}
	// A push to the tag keeps the record's key, and with it there is one record for the pair.
	img := newImage(t, "new", nil)
	w.push("app", img, "old")
	n := 0
	for _, r := range w.records("alice", "io.atcr.tag") {
		if r.Value["tag"] == "old" {
			n++
			if r.URI != "at://"+alice.did+"/io.atcr.tag/some-key" {
				t.Errorf("written to %s", r.URI)
			}
		}
	}
	if n != 1 {
		t.Errorf("%d records of the tag", n)
	}
	m, err := anon.Manifest(t.Context(), registry.Ref{Tag: "old"})
	must(t, err)
	if m.Digest != img.manifest.Digest {
		t.Error("the tag has not moved")
	}
}

// TestRepush writes nothing when nothing changed, and keeps createdAt and what others put into records.
func TestRepush(t *testing.T) {
	t.Parallel()
	testRepush(t, devnetPDS)
}

func testRepush(t *testing.T, start func(*world)) {
	w := newWorld(t, start)
	img := newImage(t, "one", map[string]string{"a": "b"})
	w.push("app", img, "v1")
	w.settled()
	head := func() string {
		var c struct{ CID string }
		get(t, w.pdsProxy.URL, "com.atproto.sync.getLatestCommit", map[string][]string{"did": {w.accounts["alice"].did}}, &c)
		return c.CID
	}
	before := head()
	w.push("app", img, "v1")
	w.settled()
	if head() != before {
		t.Error("a push of what is there made a commit")
	}
	var rec, tag map[string]any
	for _, r := range w.records("alice", "io.atcr.manifest") {
		rec = r.Value
	}
	for _, r := range w.records("alice", "io.atcr.tag") {
		tag = r.Value
	}
	created := rec["createdAt"]
	rec["x.note"], rec["mediaType"] = "keep me", "application/vnd.other+json" // something that a push will mend
	tag["x.note"], tag["createdAt"] = "me too", "2024-01-01T00:00:00Z"
	w.putRecord("alice", "io.atcr.manifest", img.manifest.Digest.Encoded(), rec)
	w.putRecord("alice", "io.atcr.tag", "app_v1", tag)
	w.clock.advance(2 * time.Minute)
	other := newImage(t, "two", nil)
	w.push("app", img, "v1")
	w.push("app", other, "v1")
	w.settled()
	for _, r := range w.records("alice", "io.atcr.manifest") {
		if r.Value["digest"] == img.manifest.Digest.String() {
			if r.Value["x.note"] != "keep me" || r.Value["createdAt"] != created || r.Value["mediaType"] != img.manifest.MediaType {
				t.Errorf("manifest record is %v", r.Value)
			}
		}
	}
	for _, r := range w.records("alice", "io.atcr.tag") {
		if r.Value["x.note"] != "me too" || r.Value["createdAt"] != "2024-01-01T00:00:00Z" {
			t.Errorf("tag record is %v", r.Value)
		}
	}
	m, err := w.repo("", "alice", "app").Manifest(t.Context(), registry.Ref{Tag: "v1"})
	must(t, err)
	if m.Digest != other.manifest.Digest {
		t.Error("the tag has not moved")
	}
}

// TestSameDigestTwoRepositories gives the second its own key; names that would share a tag's key as well.
func TestSameDigestTwoRepositories(t *testing.T) {
	t.Parallel()
	testSameDigestTwoRepositories(t, devnetPDS)
}

func testSameDigestTwoRepositories(t *testing.T, start func(*world)) {
	w := newWorld(t, start)
	img := newImage(t, "one", nil)
	w.push("a", img, "b_c")
	w.push("a_b", img, "c")
	w.push("stream/cache", img, "v1")
	w.settled()
	w.restart()
	w.clock.advance(2 * time.Minute)
	for name, tag := range map[string]string{"a": "b_c", "a_b": "c", "stream/cache": "v1"} {
		m, err := w.repo("", "alice", name).Manifest(t.Context(), registry.Ref{Tag: tag})
		must(t, err)
		if m.Digest != img.manifest.Digest {
			t.Errorf("%s: %s", name, m.Digest)
		}
	}
	keys := map[string]bool{}
	for _, c := range []string{"io.atcr.manifest", "io.atcr.tag"} {
		for _, r := range w.records("alice", c) {
			keys[r.URI[len("at://"+w.accounts["alice"].did+"/"):]] = true
		}
	}
	hex := img.manifest.Digest.Encoded()
	for _, k := range []string{"io.atcr.manifest/" + hex, "io.atcr.manifest/" + hex + "~a_b", "io.atcr.manifest/" + hex +
		"~stream~cache", "io.atcr.tag/a_b_c", "io.atcr.tag/a_b:c", "io.atcr.tag/stream~cache_v1"} {
		if !keys[k] {
			t.Errorf("no record %s among %v", k, keys)
		}
	}
	must(t, w.repo("alice", "alice", "a").DeleteManifest(t.Context(), img.manifest.Digest))
	w.settled()
	if _, err := w.repo("", "alice", "a_b").Manifest(t.Context(), registry.Ref{Tag: "c"}); err != nil {
		t.Errorf("the other repository's went too: %v", err)
	}
	_, err := w.repo("", "alice", "a").Manifest(t.Context(), registry.Ref{Tag: "b_c"})
	wantKind(t, err, registry.ErrNameUnknown)
	w.check("alice", "a_b")
}

// TestIndexAndReferrers pushes an index, whose children must be there, and artifacts that refer to it.
func TestIndexAndReferrers(t *testing.T) {
	t.Parallel()
	testIndexAndReferrers(t, devnetPDS)
}

func testIndexAndReferrers(t *testing.T, start func(*world)) {
	w := newWorld(t, start)
	img := newImage(t, "one", nil)
	index := parse(t, ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex,
		Manifests: []ocispec.Descriptor{img.manifest.Descriptor()}})
	r := w.repo("alice", "alice", "app")
	e := wantKind(t, r.PutManifest(t.Context(), index, []string{"multi"}), registry.ErrManifestBlobUnknown)
	if fmt.Sprint(e.Detail) == "" {
		t.Error("no digest in the detail")
	}
	w.push("app", img)
	must(t, r.PutManifest(t.Context(), index, []string{"multi"}))
	empty := []byte("{}")
	must(t, upload(t.Context(), r, empty))
	var want []string
	for i := range 3 {
		config := ocispec.Descriptor{MediaType: ocispec.MediaTypeEmptyJSON, Digest: digest.FromBytes(empty), Size: 2}
		subject := index.Descriptor()
		a := parse(t, ocispec.Manifest{
			Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, ArtifactType: fmt.Sprintf("application/x.%d", i%2),
			Config: config, Layers: []ocispec.Descriptor{config}, Subject: &subject, Annotations: map[string]string{"n": fmt.Sprint(i)},
		})
		must(t, r.PutManifest(t.Context(), a, nil))
		if i%2 == 0 {
			want = append(want, a.Digest.String())
		}
	}
	w.settled()
	slices.Sort(want)
	var got []string
	for d, err := range w.repo("", "alice", "app").Referrers(t.Context(), index.Digest, "application/x.0", "") {
		must(t, err)
		if d.Annotations["n"] == "" || d.ArtifactType != "application/x.0" {
			t.Errorf("descriptor %+v", d)
		}
		got = append(got, d.Digest.String())
	}
	if !slices.Equal(got, want) {
		t.Errorf("referrers %v, want %v", got, want)
	}
	for range w.repo("", "alice", "app").Referrers(t.Context(), digest.FromString("nothing"), "", "") {
		t.Error("nothing refers to it")
	}
	// A subject that is not there is taken.
	w.check("alice", "app")
}

// TestManyTags takes more than one applyWrites; the copy pages them in byte order.
func TestManyTags(t *testing.T) {
	t.Parallel()
	testManyTags(t, devnetPDS)
}

func testManyTags(t *testing.T, start func(*world)) {
	w := newWorld(t, start)
	img := newImage(t, "one", nil)
	var tags []string
	for i := range 230 {
		tags = append(tags, fmt.Sprintf("v%03d", i))
	}
	w.push("app", img, tags...)
	got, err := collectTags(t.Context(), w.repo("", "alice", "app"))
	must(t, err)
	if !slices.Equal(got, tags) {
		t.Fatalf("%d tags", len(got))
	}
	var some []string
	for tag, err := range w.repo("", "alice", "app").Tags(t.Context(), "v100") {
		must(t, err)
		if some = append(some, tag); len(some) == 2 {
			break
		}
	}
	if !slices.Equal(some, []string{"v101", "v102"}) {
		t.Errorf("after v100: %v", some)
	}
	must(t, w.repo("alice", "alice", "app").DeleteTag(t.Context(), "v007"))
	wantKind(t, w.repo("alice", "alice", "app").DeleteTag(t.Context(), "v007"), registry.ErrManifestUnknown)
	must(t, w.repo("alice", "alice", "app").DeleteManifest(t.Context(), img.manifest.Digest))
	w.settled()
	if n := len(w.records("alice", "io.atcr.tag")); n != 0 {
		t.Errorf("%d tag records are left", n)
	}
	w.check("alice", "app")
}

// TestManyPushers has many clients write one tag while somebody else writes to the repository: the last writer wins, nobody is
// told an error, no tag dangles.
func TestManyPushers(t *testing.T) {
	t.Parallel()
	testManyPushers(t, devnetPDS)
}

func testManyPushers(t *testing.T, start func(*world)) {
	w := newWorld(t, start)
	r := w.repo("alice", "alice", "app")
	var images []image
	for i := range 8 {
		img := newImage(t, fmt.Sprint(i), nil)
		images = append(images, img)
		for _, b := range img.blobs {
			must(t, upload(t.Context(), r, b))
		}
	}
	stop := make(chan struct{})
	done := make(chan struct{}, 1)
	// Each change of ours has another program write into the middle of another, however slow the machine is.
	next := func() {
		select {
		case done <- struct{}{}:
		default:
		}
	}
	var stranger, pushers sync.WaitGroup
	stranger.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			case <-done:
			}
			err := w.tryWrite("alice", "com.atproto.repo.putRecord", map[string]any{
				"repo": w.accounts["alice"].did, "collection": "app.example.note", "rkey": "self", "record": map[string]any{"$type": "app.example.note", "n": i},
			})
			if err != nil {
				t.Error(err)
				return
			}
		}
	})
	for i := range 16 {
		pushers.Go(func() {
			if err := r.PutManifest(t.Context(), images[i%len(images)].manifest, []string{"latest", fmt.Sprint("v", i)}); err != nil {
				t.Errorf("push %d: %v", i, err)
			}
			next()
		})
	}
	pushers.Wait()
	for i := range 8 {
		pushers.Go(func() {
			err := r.DeleteTag(t.Context(), "latest")
			if err != nil && !errors.Is(err, registry.ErrManifestUnknown) {
				t.Errorf("delete: %v", err)
			}
			next()
			if err := r.PutManifest(t.Context(), images[i].manifest, []string{"latest"}); err != nil {
				t.Errorf("push: %v", err)
			}
			next()
		})
	}
	pushers.Wait()
	close(stop)
	stranger.Wait()
	w.settled()
	w.check("alice", "app")
}

// A PDS that lists what no database keeps as text, under a key that no record has: it is left out, and the others are served.
func TestRecordsThatAreNoText(t *testing.T) {
	t.Parallel()
	w := newWorld(t, devnetPDS)
	img := newImage(t, "one", nil)
	w.push("app", img, "v1")
	w.push("app", newImage(t, "two", nil), "v2")
	w.settled()
	w.forget()
	fault := w.pdsProxy.Inject(realtest.Fault{Kind: realtest.Rewrite, Path: "listRecords", Times: -1, Rewrite: func(b []byte) []byte {
		return bytes.ReplaceAll(b, []byte(`io.atcr.tag/app_v2"`), []byte(`io.atcr.tag/app_v2\u0000"`))
	}})
	m, err := w.repo("", "alice", "app").Manifest(t.Context(), registry.Ref{Tag: "v1"})
	must(t, err)
	if !bytes.Equal(m.Bytes, img.manifest.Bytes) {
		t.Error("other bytes")
	}
	if skipped, _ := w.backend.Skipped(); skipped != 1 || fault.Fired() == 0 {
		t.Errorf("skipped %d, changed %d", skipped, fault.Fired())
	}
}
