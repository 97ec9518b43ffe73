package local_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/atcr-dev/atcr"
	"github.com/atcr-dev/atcr/internal/durable"
	"github.com/atcr-dev/atcr/internal/realtest"
	"github.com/atcr-dev/atcr/registry"
	"github.com/atcr-dev/atcr/registry/local"
)

func TestReopen(t *testing.T) {
	realtest.OnlySQLite(t)
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "new")
	b, err := local.OpenWith(ctx, dir, quiet())
	check(t, err)
	r := name(t, b, "team/app")
	m := push(t, r, "layer", "v1", "latest")
	up, err := r.StartUpload(ctx, registry.UploadHint{})
	check(t, err)
	_, err = up.ReadFrom(strings.NewReader("half of "))
	check(t, err)
	check(t, up.Close())
	did := b.DID()
	check(t, b.Close())
	check(t, b.Close()) // a second time does nothing

	b = open(t, dir, nil)
	if b.DID() != did || !strings.HasPrefix(did, "did:key:") {
		t.Errorf("DID %s, before %s", b.DID(), did)
	}
	r = name(t, b, "team/app")
	if tagged(t, r, "v1") != m.Digest || tagged(t, r, "latest") != m.Digest || readBlob(t, r, digest.FromString("layer")) != "layer" {
		t.Error("what was pushed is not there")
	}
	if got := collect(t, b.Repositories(ctx, registry.Actor{}, "")); !slices.Equal(got, []string{"team/app"}) {
		t.Errorf("repositories %q", got)
	}
	up, err = r.Upload(ctx, up.ID())
	check(t, err)
	_, err = up.ReadFrom(strings.NewReader("half of a layer"[up.Size():]))
	check(t, err)
	_, err = up.Commit(ctx, digest.FromString("half of a layer"))
	check(t, err)
	st, err := os.Stat(filepath.Join(dir, "key"))
	check(t, err)
	if st.Mode().Perm() != 0o600 {
		t.Errorf("key has mode %v", st.Mode())
	}
}

func TestOneProcessPerFolder(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	open(t, dir, nil)
	_, err := local.Open(ctx, dir)
	is(t, err, durable.ErrLocked)
	if !strings.Contains(err.Error(), fmt.Sprint(os.Getpid())) {
		t.Errorf("%v does not name the process", err)
	}
}

func TestKeyThatOthersMayRead(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b, err := local.OpenWith(ctx, dir, quiet())
	check(t, err)
	check(t, b.Close())
	check(t, os.Chmod(filepath.Join(dir, "key"), 0o644))
	if _, err := local.Open(ctx, dir); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("error %v", err)
	}
}

// A push is one commit, however many tags; one that changes nothing is none.
func TestPushIsOneCommit(t *testing.T) {
	t.Parallel()
	o := quiet()
	o.Events = true
	b := open(t, t.TempDir(), o)
	r := name(t, b, "app")
	m, err := image(r, "layer", "")
	check(t, err)
	events := func() int { return len(collect(t, b.Repo().Events(ctx, 0))) }
	start := events()
	for i, test := range []struct {
		tags []string
		want int
	}{{[]string{"a", "b", "c"}, 1}, {[]string{"a", "c"}, 1}, {nil, 1}, {[]string{"a", "d"}, 2}} {
		check(t, r.PutManifest(ctx, m, test.tags))
		if got := events() - start; got != test.want {
			t.Errorf("push %d: %d commits, want %d", i, got, test.want)
		}
	}
	// The records are what the network's readers expect.
	rec, err := b.Repo().Get(ctx, atcr.NSIDManifest, m.Digest.Encoded())
	check(t, err)
	data, err := rec.JSON()
	check(t, err)
	var am atcr.Manifest
	check(t, am.UnmarshalJSON(data))
	check(t, am.Check())
	if am.Repository != "app" || am.OCIDigest() != m.Digest || am.ManifestBlob == nil || len(am.Layers) != 1 {
		t.Errorf("record %s", data)
	}
	for rec := range b.Repo().List(ctx, atcr.NSIDTag, "", false) {
		var tag atcr.Tag
		data, err := rec.JSON()
		check(t, err)
		check(t, tag.UnmarshalJSON(data))
		check(t, tag.Check())
		if _, d := tag.Target(); d != m.Digest || tag.Repository != "app" {
			t.Errorf("record %s", data)
		}
	}
}

// Names and tags whose plain keys would be the same, and one digest in several repositories.
func TestNeighbours(t *testing.T) {
	t.Parallel()
	b := open(t, t.TempDir(), nil)
	pairs := []struct{ repository, tag, content string }{
		{"a_b", "c", "1"}, {"a", "b_c", "2"}, {"a/b", "c", "3"}, {"a", "c", "4"}, {"a__b", "c", "5"}, {"a-b", "c", "same"}, {"a.b", "c",
			"same"}, {"ab", "c", "same"},
	}
	want := map[string]digest.Digest{}
	for _, p := range pairs {
		want[p.repository+":"+p.tag] = push(t, name(t, b, p.repository), p.content, p.tag).Digest
	}
	for _, p := range pairs {
		r := name(t, b, p.repository)
		if got := tagged(t, r, p.tag); got != want[p.repository+":"+p.tag] {
			t.Errorf("%s:%s is %s", p.repository, p.tag, got)
		}
		tags := []string{p.tag}
		if p.repository == "a" {
			tags = []string{"b_c", "c"}
		}
		if got := collect(t, r.Tags(ctx, "")); !slices.Equal(got, tags) {
			t.Errorf("tags of %s: %q", p.repository, got)
		}
	}
	// A manifest is of the repository that it was pushed to.
	_, err := name(t, b, "a").Manifest(ctx, registry.Ref{Digest: want["a_b:c"]})
	is(t, err, registry.ErrManifestUnknown)
	// The one that had the plain key goes; the others stay, and it may come back.
	same := want["ab:c"]
	check(t, name(t, b, "a-b").DeleteManifest(ctx, same))
	_, err = name(t, b, "a-b").Manifest(ctx, registry.Ref{Tag: "c"})
	is(t, err, registry.ErrManifestUnknown)
	if tagged(t, name(t, b, "a.b"), "c") != same || tagged(t, name(t, b, "ab"), "c") != same {
		t.Error("a delete in one repository took another's")
	}
	push(t, name(t, b, "a-b"), "same", "c")
	check(t, name(t, b, "ab").DeleteManifest(ctx, same))
	if tagged(t, name(t, b, "a-b"), "c") != same {
		t.Error("it did not come back")
	}
	if got := collect(t, b.Repositories(ctx, registry.Actor{}, "")); !slices.IsSorted(got) || len(got) != 7 {
		t.Errorf("repositories %q", got)
	}
}

func TestWhatAManifestNamesMustBeThere(t *testing.T) {
	t.Parallel()
	b := open(t, t.TempDir(), nil)
	r, other := name(t, b, "app"), name(t, b, "other")
	m, err := image(other, "layer", "")
	check(t, err)
	err = r.PutManifest(ctx, m, []string{"v1"}) // blobs of another repository
	is(t, err, registry.ErrManifestBlobUnknown)
	var e *registry.Error
	if errors.As(err, &e); e.Detail == nil || !strings.Contains(fmt.Sprint(e.Detail), "sha256:") {
		t.Errorf("detail %v", e.Detail)
	}
	if _, err := r.Manifest(ctx, registry.Ref{Tag: "v1"}); err == nil {
		t.Error("the tag is there")
	}
	check(t, other.PutManifest(ctx, m, nil))
	index := func() registry.ParsedManifest {
		m, err := registry.ParseManifest("application/vnd.oci.image.index.v1+json",
			fmt.Appendf(nil, `{"schemaVersion":2,"manifests":[{"mediaType":%q,"digest":%q,"size":%d}]}`, m.MediaType, m.Digest, len(m.Bytes)), "")
		check(t, err)
		return m
	}()
	is(t, r.PutManifest(ctx, index, nil), registry.ErrManifestBlobUnknown)
	check(t, other.PutManifest(ctx, index, nil))
	// What others have may be taken along.
	for _, more := range []string{
		`"subject":{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:` + strings.Repeat("0", 64) + `","size":1}`,
		`"layers":[{"mediaType":"application/x","digest":"sha256:` + strings.Repeat("1", 64) + `","size":1,"urls":["https://example.com/x"]}]`,
		`"layers":[{"mediaType":"application/vnd.oci.image.layer.nondistributable.v1.tar","digest":"sha256:` + strings.Repeat("1", 64) +
			`","size":1}]`,
	} {
		config, err := pushBlob(r, "{}")
		check(t, err)
		m, err := registry.ParseManifest("application/vnd.oci.image.manifest.v1+json",
			fmt.Appendf(nil, `{"schemaVersion":2,"config":{"mediaType":"application/x","digest":%q,"size":2},%s}`, config.Digest, more), "")
		check(t, err)
		check(t, r.PutManifest(ctx, m, nil))
	}
}

func TestDeletes(t *testing.T) {
	t.Parallel()
	b := open(t, t.TempDir(), nil)
	r, other := name(t, b, "app"), name(t, b, "other")
	m := push(t, r, "layer", "v1", "v2")
	n := push(t, r, "second", "v3")
	is(t, r.DeleteTag(ctx, "none"), registry.ErrManifestUnknown)
	is(t, other.DeleteTag(ctx, "none"), registry.ErrNameUnknown)
	check(t, r.DeleteTag(ctx, "v1"))
	_, err := r.Manifest(ctx, registry.Ref{Tag: "v1"})
	is(t, err, registry.ErrManifestUnknown)
	if tagged(t, r, "v2") != m.Digest {
		t.Error("v2 is another")
	}
	check(t, r.DeleteManifest(ctx, m.Digest))
	is(t, r.DeleteManifest(ctx, m.Digest), registry.ErrManifestUnknown)
	if got := collect(t, r.Tags(ctx, "")); !slices.Equal(got, []string{"v3"}) {
		t.Errorf("tags %q", got)
	}
	check(t, r.DeleteManifest(ctx, n.Digest))
	if got := collect(t, r.Tags(ctx, "")); len(got) != 0 { // the repository stays
		t.Errorf("tags %q", got)
	}
	// The bytes of a blob go with the last repository that has it.
	d := digest.FromString("layer")
	_, err = other.Mount(ctx, d, "app")
	check(t, err)
	check(t, r.DeleteBlob(ctx, d))
	is(t, r.DeleteBlob(ctx, d), registry.ErrBlobUnknown)
	_, err = r.Blob(ctx, d)
	is(t, err, registry.ErrBlobUnknown)
	if readBlob(t, other, d) != "layer" {
		t.Error("another repository lost the blob")
	}
	check(t, other.DeleteBlob(ctx, d))
	_, err = r.Mount(ctx, d, "")
	is(t, err, registry.ErrBlobUnknown)
}

func TestMount(t *testing.T) {
	t.Parallel()
	b := open(t, t.TempDir(), &local.Options{NoAnonymousMount: true, Log: quiet().Log})
	d, err := pushBlob(name(t, b, "a"), "layer")
	check(t, err)
	_, err = name(t, b, "b").Mount(ctx, d.Digest, "")
	is(t, err, registry.ErrUnsupported)
	_, err = name(t, b, "b").Mount(ctx, d.Digest, "c")
	is(t, err, registry.ErrBlobUnknown)
	got, err := name(t, b, "b").Mount(ctx, d.Digest, "a")
	check(t, err)
	if got.Size != 5 || got.Digest != d.Digest {
		t.Errorf("%+v", got)
	}
}

// A digest claimed for other bytes gives no right to the blob of that digest.
func TestWrongBytesGiveNoBlob(t *testing.T) {
	t.Parallel()
	b := open(t, t.TempDir(), nil)
	d, err := pushBlob(name(t, b, "secret"), "secret")
	check(t, err)
	r := name(t, b, "mine")
	up, err := r.StartUpload(ctx, registry.UploadHint{Digest: d.Digest})
	check(t, err)
	defer up.Cancel(ctx)
	_, err = up.ReadFrom(strings.NewReader("guess"))
	check(t, err)
	_, err = up.Commit(ctx, d.Digest)
	is(t, err, registry.ErrDigestInvalid)
	_, err = r.Blob(ctx, d.Digest)
	is(t, err, registry.ErrBlobUnknown)
}

func TestNames(t *testing.T) {
	t.Parallel()
	b := open(t, t.TempDir(), nil)
	for _, bad := range []string{"", "..", "A", "a//b", "a:b", "a~b"} {
		_, err := b.Repository(ctx, registry.Actor{}, bad)
		is(t, err, registry.ErrNameInvalid)
	}
	long := strings.Repeat("a", 255)
	r := name(t, b, long)
	tag := strings.Repeat("v", 128)
	m, err := image(r, "layer", "")
	check(t, err)
	m, err = registry.ParseManifest(m.MediaType, m.Bytes, digest.SHA512.FromBytes(m.Bytes)) // the longest keys there are
	check(t, err)
	push(t, name(t, b, "a"), "layer", "x")
	check(t, r.PutManifest(ctx, m, []string{tag}))
	got, err := r.Manifest(ctx, registry.Ref{Tag: tag})
	check(t, err)
	if got.Digest != m.Digest {
		t.Errorf("digest %s", got.Digest)
	}
}

// Uploads end a day after their last byte.
func TestStaleUploads(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b, err := local.OpenWith(ctx, dir, quiet())
	check(t, err)
	up, err := name(t, b, "app").StartUpload(ctx, registry.UploadHint{})
	check(t, err)
	_, err = up.ReadFrom(strings.NewReader(strings.Repeat("x", 2<<20)))
	check(t, err)
	check(t, up.Close())
	check(t, b.Close())
	for _, age := range []time.Duration{23 * time.Hour, 25 * time.Hour} {
		o := quiet()
		o.Clock = func() time.Time { return time.Now().Add(age) }
		removed := &countHandler{}
		o.Log = slog.New(removed)
		b, err := local.OpenWith(ctx, dir, o)
		check(t, err)
		check(t, b.Close())
		if want := int64(age / (24 * time.Hour)); removed.n.Load() != want {
			t.Errorf("after %s: %d sweeps removed something, want %d", age, removed.n.Load(), want)
		}
	}
}

// countHandler counts the log lines of sweeps that removed something.
type countHandler struct{ n atomic.Int64 }

func (*countHandler) Enabled(context.Context, slog.Level) bool { return true }
func (h *countHandler) Handle(_ context.Context, r slog.Record) error {
	if strings.Contains(r.Message, "removed stale uploads") {
		h.n.Add(1)
	}
	return nil
}
func (h *countHandler) WithAttrs([]slog.Attr) slog.Handler { return h }
func (h *countHandler) WithGroup(string) slog.Handler      { return h }
