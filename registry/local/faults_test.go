package local_test

import (
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/opencontainers/go-digest"

	"github.com/atcr-dev/atcr/registry"
	"github.com/atcr-dev/atcr/registry/local"
	"github.com/atcr-dev/atcr/repo"
	"github.com/atcr-dev/atcr/repo/sqlstore"
	"github.com/atcr-dev/atcr/sqldb/sqlite"
	"github.com/atcr-dev/atcr/storage"
	"github.com/atcr-dev/atcr/storage/filestore"
)

// assembled is a backend made by New, of a store with faults and a database of the test's.
func assembled(t *testing.T) (*local.Backend, *storage.Faults, *sql.DB) {
	t.Helper()
	dir := t.TempDir()
	files, err := filestore.Open(filepath.Join(dir, "blobs"), nil)
	check(t, err)
	t.Cleanup(func() { files.Close() })
	db, err := sqlite.Open(ctx, filepath.Join(dir, "db"))
	check(t, err)
	t.Cleanup(func() { db.Close() })
	records, err := sqlstore.New(ctx, db)
	check(t, err)
	t.Cleanup(func() { records.Close() })
	key, err := atcrypto.GeneratePrivateKeyK256()
	check(t, err)
	r, err := repo.Open(ctx, records, repo.Options{DID: "did:web:registry.test", Key: key})
	check(t, err)
	t.Cleanup(func() { r.Close() })
	faults := storage.NewFaults(files)
	b, err := local.New(ctx, r, faults, db, quiet())
	check(t, err)
	t.Cleanup(func() { b.Close() })
	return b, faults, db.Write()
}

// Whatever the store does at a blob's upload: nothing half is visible, the error has its kind, and trying again works.
func TestStoreFaults(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		fault storage.Fault
		want  error
	}{
		{storage.Fault{Op: storage.OpCreate, Err: storage.ErrNoSpace}, registry.ErrNoSpace},
		{storage.Fault{Op: storage.OpWrite, Err: storage.ErrNoSpace, After: 3}, registry.ErrNoSpace},
		{storage.Fault{Op: storage.OpCommit, Err: storage.ErrNoSpace}, registry.ErrNoSpace},
		{storage.Fault{Op: storage.OpCommit}, storage.ErrInjected},
		{storage.Fault{Op: storage.OpCommit, Done: true}, storage.ErrInjected},
	} {
		t.Run(fmt.Sprintf("%s %v %t", test.fault.Op, test.fault.Err, test.fault.Done), func(t *testing.T) {
			b, faults, _ := assembled(t)
			r := name(t, b, "app")
			faults.Add(test.fault)
			_, err := pushBlob(r, "layer")
			is(t, err, test.want)
			_, err = r.Blob(ctx, digest.FromString("layer"))
			is(t, err, registry.ErrBlobUnknown)
			push(t, r, "layer", "v1")
			if readBlob(t, r, digest.FromString("layer")) != "layer" {
				t.Error("the layer is another")
			}
			if faults.Fired() != 1 {
				t.Error("the fault never fired")
			}
		})
	}
}

func TestStoreFaultsOnTheWayOut(t *testing.T) {
	t.Parallel()
	b, faults, _ := assembled(t)
	r := name(t, b, "app")
	d, err := pushBlob(r, "layer")
	check(t, err)
	faults.Add(storage.Fault{Op: storage.OpOpen, Nth: 1, Err: storage.ErrNotFound})
	blob, err := r.Blob(ctx, d.Digest)
	check(t, err)
	_, err = blob.Open(ctx, registry.Range{})
	is(t, err, registry.ErrBlobUnknown)
	// A delete that failed in the store is done for the repository; the bytes wait.
	faults.Add(storage.Fault{Op: storage.OpDelete})
	is(t, r.DeleteBlob(ctx, d.Digest), storage.ErrInjected)
	_, err = r.Blob(ctx, d.Digest)
	is(t, err, registry.ErrBlobUnknown)
	if len(faults.Unfired()) != 0 {
		t.Errorf("never fired: %v", faults.Unfired())
	}
}

// The database full: pushes say so, nothing half is visible, what was there is served; with room again all goes on.
func TestDatabaseFull(t *testing.T) {
	t.Parallel()
	b, _, db := assembled(t)
	r := name(t, b, "app")
	kept := push(t, r, "kept", "kept")
	limit := func(pages int64) {
		t.Helper()
		var got int64
		check(t, db.QueryRow(fmt.Sprintf("pragma max_page_count = %d", pages)).Scan(&got))
	}
	var now int64
	check(t, db.QueryRow("pragma page_count").Scan(&now))
	limit(now + 4)
	var failed, pushed int
	for i := 0; failed < 2 && i < 1000; i++ {
		content := fmt.Sprint("layer", i)
		m, err := image(r, content, `,"annotations":{"x":"`+strings.Repeat("x", 2000)+`"}`)
		if err == nil {
			err = r.PutManifest(ctx, m, []string{content})
		}
		if err == nil {
			pushed++
			continue
		}
		is(t, err, registry.ErrNoSpace)
		failed++
		if _, err := r.Manifest(ctx, registry.Ref{Tag: content}); !errors.Is(err, registry.ErrManifestUnknown) {
			t.Errorf("a push that failed left a tag: %v", err)
		}
	}
	if failed == 0 {
		t.Fatal("the database never was full")
	}
	if tagged(t, r, "kept") != kept.Digest {
		t.Error("what was there is gone")
	}
	limit(1 << 30)
	push(t, r, "after", "after")
	if got := len(collect(t, r.Tags(ctx, ""))); got != pushed+2 {
		t.Errorf("%d tags, want %d", got, pushed+2)
	}
}

// Requests that come after Close are told so; nothing hangs.
func TestAfterClose(t *testing.T) {
	t.Parallel()
	b, err := local.OpenWith(ctx, t.TempDir(), quiet())
	check(t, err)
	r := name(t, b, "app")
	m, err := image(r, "layer", "")
	check(t, err)
	check(t, b.Close())
	if _, err := pushBlob(r, "x"); err == nil {
		t.Error("a blob was taken")
	}
	if err := r.PutManifest(ctx, m, []string{"v1"}); err == nil {
		t.Error("a manifest was taken")
	}
}
