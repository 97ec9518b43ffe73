package local_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"io"
	"iter"
	"log/slog"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/atcr-dev/atcr/internal/realtest"
	"github.com/atcr-dev/atcr/registry"
	"github.com/atcr-dev/atcr/registry/local"
	"github.com/atcr-dev/atcr/repo"
	"github.com/atcr-dev/atcr/repo/sqlstore"
	"github.com/atcr-dev/atcr/storage/filestore"
)

var ctx = context.Background()

func quiet() *local.Options { return &local.Options{Log: slog.New(slog.DiscardHandler)} }

// open opens a folder's backend; the test may close it earlier.
func open(t testing.TB, dir string, o *local.Options) *local.Backend {
	t.Helper()
	if o == nil {
		o = quiet()
	}
	if realtest.OnPostgres() {
		return openOnPostgres(t, dir, o)
	}
	b, err := local.OpenWith(ctx, dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

// openOnPostgres has the blobs in the folder and every table in a database.
func openOnPostgres(t testing.TB, dir string, o *local.Options) *local.Backend {
	t.Helper()
	blobs, err := filestore.Open(filepath.Join(dir, "blobs"), nil)
	check(t, err)
	db := realtest.OpenDatabase(t, dir)
	records, err := sqlstore.New(ctx, db)
	check(t, err)
	key, err := atcrypto.GeneratePrivateKeyK256()
	check(t, err)
	ro := repo.Options{DID: "did:web:registry.test", Key: key, Clock: o.Clock, MaxBlob: 4 << 20}
	if !o.Events {
		ro.KeepEvents = -1
	}
	r, err := repo.Open(ctx, records, ro)
	check(t, err)
	b, err := local.New(ctx, r, blobs, db, o)
	check(t, err)
	t.Cleanup(func() {
		for _, c := range []io.Closer{b, r, records, db, blobs} {
			check(t, c.Close())
		}
	})
	realtest.SortsByBytes(t, db)
	return b
}

// name returns a repository of the backend.
func name(t testing.TB, b *local.Backend, repository string) registry.Repository {
	t.Helper()
	r, err := b.Repository(ctx, registry.Actor{}, repository)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func is(t testing.TB, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("error %v, want %v", err, want)
	}
}

func pushBlob(r registry.Repository, content string) (ocispec.Descriptor, error) {
	d := digest.FromString(content)
	up, err := r.StartUpload(ctx, registry.UploadHint{Digest: d})
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	defer up.Close()
	if _, err := up.ReadFrom(bytes.NewReader([]byte(content))); err != nil {
		return ocispec.Descriptor{}, err
	}
	return up.Commit(ctx, d)
}

// image makes a parsed image manifest of one layer; its blobs are pushed.
func image(r registry.Repository, content string, more string) (registry.ParsedManifest, error) {
	config, err := pushBlob(r, "{}")
	if err != nil {
		return registry.ParsedManifest{}, err
	}
	layer, err := pushBlob(r, content)
	if err != nil {
		return registry.ParsedManifest{}, err
	}
	return parse(config.Digest, layer, more)
}

func parse(config digest.Digest, layer ocispec.Descriptor, more string) (registry.ParsedManifest, error) {
	text := fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":%q,"size":2},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":%q,"size":%d}]%s}`,
		ocispec.MediaTypeImageManifest, config, layer.Digest, layer.Size, more)
	return registry.ParseManifest(ocispec.MediaTypeImageManifest, []byte(text), "")
}

// push pushes an image of one layer under tags.
func push(t testing.TB, r registry.Repository, content string, tags ...string) registry.ParsedManifest {
	t.Helper()
	m, err := image(r, content, "")
	check(t, err)
	check(t, r.PutManifest(ctx, m, tags))
	return m
}

func tagged(t testing.TB, r registry.Repository, tag string) digest.Digest {
	t.Helper()
	m, err := r.Manifest(ctx, registry.Ref{Tag: tag})
	check(t, err)
	if digest.FromBytes(m.Bytes) != m.Digest {
		t.Fatalf("tag %s: bytes are not of the digest", tag)
	}
	return m.Digest
}

func collect[T any](t testing.TB, list iter.Seq2[T, error]) []T {
	t.Helper()
	var all []T
	for v, err := range list {
		check(t, err)
		all = append(all, v)
	}
	return all
}

func readBlob(t testing.TB, r registry.Repository, d digest.Digest) string {
	t.Helper()
	b, err := r.Blob(ctx, d)
	check(t, err)
	f, err := b.Open(ctx, registry.Range{})
	check(t, err)
	defer f.Close()
	data, err := io.ReadAll(f)
	check(t, err)
	return string(data)
}
