package ledger

import (
	"bytes"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/atcr-dev/atcr"
	"github.com/atcr-dev/atcr/hold/internal/schema"
	"github.com/atcr-dev/atcr/repo"
	"github.com/atcr-dev/atcr/repo/memstore"
	"github.com/atcr-dev/atcr/repo/repotest"
	"github.com/atcr-dev/atcr/sqldb/sqlite"
)

const alice, bob = "did:web:alice.test", "did:web:bob.test"

type fixture struct {
	*Ledger
	t     *testing.T
	o     Options
	ahead atomic.Int64 // seconds that the clock is ahead
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	db, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "hold.db"))
	if err == nil {
		err = schema.Migrate(t.Context(), db)
	}
	must(t, err)
	t.Cleanup(func() { _ = db.Close() })
	f := &fixture{t: t}
	f.o = Options{
		DB: db, Repo: repotest.Open(t, memstore.New(), repo.Options{DID: "did:web:hold.test"}), Log: slog.New(slog.DiscardHandler),
		Clock: func() time.Time { return time.Now().Add(time.Duration(f.ahead.Load()) * time.Second) },
	}
	f.open()
	return f
}

func (f *fixture) open() {
	f.t.Helper()
	var err error
	f.Ledger, err = Open(f.t.Context(), f.o)
	must(f.t, err)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func blob(n int) digest.Digest { return digest.FromString(fmt.Sprint("blob ", n)) }

func manifest(did string, n int) Manifest {
	d := digest.FromString(fmt.Sprint("manifest ", n))
	return Manifest{DID: did, Repository: "app", Digest: d, URI: "at://" + did + "/" + atcr.NSIDManifest + "/" + d.Encoded()}
}

func layers(n ...int) (list []atcr.Layer) {
	for _, i := range n {
		list = append(list, atcr.Layer{Digest: blob(i).String(), Size: int64(100 + i), MediaType: "x/y"})
	}
	return list
}

func (f *fixture) usage(did string) string {
	f.t.Helper()
	blobs, size, err := f.Usage(f.t.Context(), did)
	must(f.t, err)
	return fmt.Sprint(blobs, " of ", size)
}

func (f *fixture) live(n int) bool {
	f.t.Helper()
	live, err := f.Live(f.t.Context(), blob(n))
	must(f.t, err)
	return live
}

// records counts the layer records of the repository.
func (f *fixture) records() (n int) {
	for _, err := range f.o.Repo.List(f.t.Context(), atcr.NSIDLayer, "", false) {
		must(f.t, err)
		n++
	}
	return n
}

// A layer is leased, recorded once however often, counted once for each owner, and gone when nobody's manifest names it.
func TestLifeOfALayer(t *testing.T) {
	f, ctx := newFixture(t), t.Context()
	must(t, f.Take(ctx, alice, "app", []Blob{{blob(1), 101}, {blob(2), 102}}))
	if got := f.usage(alice); got != "2 of 203" || !f.live(1) || f.live(3) {
		t.Errorf("leased: %s", got)
	}
	one := manifest(alice, 1)
	for want := 2; want >= 0; want -= 2 { // the second time there is nothing to do
		if n, err := f.Record(ctx, one, layers(1, 2)); err != nil || n != want {
			t.Fatalf("record: %d, %v, want %d", n, err, want)
		}
	}
	if n, err := f.Record(ctx, manifest(alice, 2), layers(2, 3)); err != nil || n != 2 {
		t.Fatalf("record: %d, %v", n, err)
	}
	if n, err := f.Record(ctx, manifest(bob, 1), layers(1)); err != nil || n != 1 {
		t.Fatalf("record: %d, %v", n, err)
	}
	if a, b := f.usage(alice), f.usage(bob); a != "3 of 306" || b != "1 of 101" || f.records() != 5 {
		t.Errorf("recorded: alice %s, bob %s, %d records", a, b, f.records())
	}
	if uri, err := f.URI(ctx, one); err != nil || uri != one.URI {
		t.Errorf("URI: %q, %v", uri, err)
	}
	if keys, err := f.RecordKeys(ctx, alice, one.URI); err != nil || len(keys) != 2 {
		t.Errorf("keys: %v, %v", keys, err)
	}
	if n, err := f.Remove(ctx, one, []string{one.URI}); err != nil || n != 2 {
		t.Errorf("remove: %d, %v", n, err)
	}
	if uri, err := f.URI(ctx, one); err != nil || uri != "" {
		t.Errorf("URI after the removal: %q, %v", uri, err)
	}
	if got := f.usage(alice); got != "2 of 205" || !f.live(1) {
		t.Errorf("after the removal: %s, blob 1 is live for bob: %v", got, f.live(1))
	}
	if n, err := f.RemoveUser(ctx, bob); err != nil || n != 1 || f.live(1) {
		t.Errorf("bob leaves: %d, %v, blob 1 is live: %v", n, err, f.live(1))
	}
}

// An index that is behind is rebuilt: after a crash between records and index, and after another program wrote to the repository.
func TestIndexIsRebuilt(t *testing.T) {
	f, ctx := newFixture(t), t.Context()
	_, err := f.Record(ctx, manifest(alice, 1), layers(1))
	must(t, err)
	// Records of which the index heard nothing, and no clean end.
	layer := layers(2)[0]
	layer.Manifest, layer.UserDID, layer.CreatedAt = manifest(alice, 2).URI, alice, atcr.NewDatetime(time.Now())
	value, err := repo.RecordFrom(layer)
	must(t, err)
	_, err = f.o.Repo.Apply(ctx, []repo.Write{{Action: repo.Create, Collection: atcr.NSIDLayer, Record: value}})
	must(t, err)
	f.open()
	if got := f.usage(alice); got != "2 of 203" {
		t.Errorf("after a crash: %s", got)
	}
	// After a clean end nothing is read: a row that no record has stays.
	must(t, f.Close(ctx))
	_, err = f.o.DB.Write().ExecContext(ctx, `insert into hold_layer (rkey, did, manifest, digest, size) values ('x', $1, 'at://x', 'sha256:x', 7)`, alice)
	must(t, err)
	f.open()
	if got := f.usage(alice); got != "3 of 210" {
		t.Errorf("after a clean end: %s", got)
	}
}

// What the repository doesn't say goes into a backup and back, and what is there already stays.
func TestManifestsGoAndComeBack(t *testing.T) {
	from, to, ctx := newFixture(t), newFixture(t), t.Context()
	one, two := manifest(alice, 1), manifest(bob, 2)
	for _, m := range []Manifest{one, two} {
		_, err := from.Record(ctx, m, nil)
		must(t, err)
	}
	moved := one
	moved.URI += "-there"
	_, err := to.Record(ctx, moved, nil)
	must(t, err)
	var lines bytes.Buffer
	must(t, WriteManifests(ctx, from.o.DB, &lines))
	must(t, ReadManifests(ctx, to.o.DB, bytes.NewReader(lines.Bytes())))
	for m, want := range map[Manifest]string{one: moved.URI, two: two.URI} {
		if uri, err := to.URI(ctx, m); err != nil || uri != want {
			t.Errorf("%s: %q, %v, want %q", m.DID, uri, err, want)
		}
	}
	if err := ReadManifests(ctx, to.o.DB, strings.NewReader(lines.String()+"{")); err == nil || !strings.Contains(err.Error(), "line 3") {
		t.Errorf("a broken line: %v", err)
	}
}

func TestCountsAndMeta(t *testing.T) {
	f, ctx := newFixture(t), t.Context()
	m := manifest(alice, 1)
	f.ahead.Store(3600 - time.Now().Unix()%3600) // at the beginning of an hour
	for i, want := range []bool{true, false, false} {
		if first, err := f.Count(ctx, "pull", bob, m); err != nil || first != want {
			t.Errorf("pull %d: %v, %v", i, first, err)
		}
	}
	if first, err := f.Count(ctx, "push", bob, m); err != nil || !first {
		t.Errorf("a push is another thing: %v, %v", first, err)
	}
	f.ahead.Add(2 * 3600)
	must(t, f.ForgetCounts(ctx))
	var n int
	must(t, f.o.DB.Read().QueryRowContext(ctx, `select count(*) from hold_counted`).Scan(&n))
	if first, err := f.Count(ctx, "pull", bob, m); err != nil || !first || n != 0 {
		t.Errorf("the next hour: %v, %v, %d rows were kept", first, err, n)
	}
	if v, err := f.Meta(ctx, "x"); err != nil || v != "" {
		t.Errorf("nothing: %q, %v", v, err)
	}
	for _, want := range []string{"one", "two"} {
		must(t, f.SetMeta(ctx, "x", want))
		if v, err := f.Meta(ctx, "x"); err != nil || v != want {
			t.Errorf("%q, %v", v, err)
		}
	}
}
