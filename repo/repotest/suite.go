package repotest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sort"
	"sync"
	"testing"

	"github.com/bluesky-social/indigo/atproto/atcrypto"

	"github.com/atcr-dev/atcr/repo"
)

const (
	did  = "did:web:test.example"
	coll = "io.atcr.tag"
)

func newKey(t testing.TB) atcrypto.PrivateKey {
	t.Helper()
	key, err := atcrypto.GeneratePrivateKeyK256()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// Open opens a repository with a fresh key over a store and closes it when the test ends.
func Open(t testing.TB, s repo.Store, o repo.Options) *repo.Repo {
	t.Helper()
	if o.DID == "" {
		o.DID = did
	}
	if o.Key == nil {
		o.Key = newKey(t)
	}
	r, err := repo.Open(t.Context(), s, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

func record(t testing.TB, format string, args ...any) []byte {
	t.Helper()
	v, err := repo.RecordFromJSON(fmt.Appendf(nil, format, args...))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func put(t testing.TB, rkey string, n int) repo.Write {
	return repo.Write{Action: repo.Put, Collection: coll, RKey: rkey, Record: record(t, `{"$type":%q,"n":%d}`, coll, n)}
}

func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func wantErr(t testing.TB, err, kind error) {
	t.Helper()
	if !errors.Is(err, kind) {
		t.Fatalf("error %v, want kind %v", err, kind)
	}
}

func apply(t *testing.T, s repo.Store) {
	ctx := t.Context()
	r := Open(t, s, repo.Options{})
	first := must[repo.Commit](t)(r.Head(ctx))
	c := must[repo.Commit](t)(r.Apply(ctx, []repo.Write{put(t, "a", 1), {Action: repo.Create, Collection: coll, Record: record(t, `{}`)}}))
	if c.Rev <= first.Rev || c.Since != first.Rev || c.Prev != first.Data || len(c.Results) != 2 ||
		c.Results[0].Action != repo.Create || c.Results[1].RKey == "" {
		t.Fatalf("commit %+v after %+v", c, first)
	}
	for name, bad := range map[string]struct {
		w    repo.Write
		kind error
	}{
		"create existing": {repo.Write{Action: repo.Create, Collection: coll, RKey: "a", Record: record(t, `{}`)}, repo.ErrExists},
		"update missing":  {repo.Write{Action: repo.Update, Collection: coll, RKey: "zz", Record: record(t, `{}`)}, repo.ErrNotFound},
		"delete missing":  {repo.Write{Action: repo.Delete, Collection: coll, RKey: "zz"}, repo.ErrNotFound},
		"no collection":   {repo.Write{Action: repo.Put, RKey: "a", Record: record(t, `{}`)}, repo.ErrInvalidRecord},
		"bad key":         {repo.Write{Action: repo.Put, Collection: coll, RKey: "a/b", Record: record(t, `{}`)}, repo.ErrInvalidRecord},
		"dots":            {repo.Write{Action: repo.Put, Collection: coll, RKey: "..", Record: record(t, `{}`)}, repo.ErrInvalidRecord},
		"not a map":       {repo.Write{Action: repo.Put, Collection: coll, RKey: "b", Record: []byte{0x80}}, repo.ErrInvalidRecord},
		"trailing":        {repo.Write{Action: repo.Put, Collection: coll, RKey: "b", Record: []byte{0xa0, 0}}, repo.ErrInvalidRecord},
		"no record":       {repo.Write{Action: repo.Put, Collection: coll, RKey: "b"}, repo.ErrInvalidRecord},
		"unknown action":  {repo.Write{Action: "move", Collection: coll, RKey: "b"}, repo.ErrInvalidRecord},
		"too large": {repo.Write{Action: repo.Put, Collection: coll, RKey: "b", Record: make([]byte, repo.MaxRecordSize+1)},
			repo.ErrTooLarge},
		"put without key": {repo.Write{Action: repo.Put, Collection: coll, Record: record(t, `{}`)}, repo.ErrInvalidRecord},
		"blob not present": {repo.Write{Action: repo.Put, Collection: coll, RKey: "b", Record: blobRecord(t, []byte("nowhere"))},
			repo.ErrBlobMissing},
	} {
		_, err := r.Apply(ctx, []repo.Write{put(t, "ok", 1), bad.w})
		if !errors.Is(err, bad.kind) {
			t.Errorf("%s: %v, want %v", name, err, bad.kind)
		}
	}
	if _, err := r.Get(ctx, coll, "ok"); !errors.Is(err, repo.ErrNotFound) {
		t.Fatalf("part of a failed batch stayed: %v", err)
	}
	if h := must[repo.Commit](t)(r.Head(ctx)); h.CID != c.CID {
		t.Fatal("a failed batch moved the head")
	}
	_, err := r.Apply(ctx, []repo.Write{put(t, "x", 1), put(t, "x", 2)})
	wantErr(t, err, repo.ErrInvalidRecord)
	d := must[repo.Commit](t)(r.Apply(ctx, []repo.Write{put(t, "a", 2)}))
	if d.Results[0].Action != repo.Update || d.Results[0].Prev != c.Results[0].CID {
		t.Fatalf("put over a record: %+v", d.Results[0])
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	_, err = r.Apply(ended, []repo.Write{put(t, "a", 3)})
	wantErr(t, err, context.Canceled)
	n := 0
	for e, err := range r.Events(ctx, 0) {
		if err != nil || len(e.Body) == 0 {
			t.Fatal(err)
		}
		n++
	}
	if n != 3 {
		t.Fatalf("%d events after 3 commits", n)
	}
}

func guards(t *testing.T, s repo.Store) {
	ctx := t.Context()
	r := Open(t, s, repo.Options{})
	old := must[repo.Commit](t)(r.Apply(ctx, []repo.Write{put(t, "a", 1)}))
	now := must[repo.Commit](t)(r.Apply(ctx, []repo.Write{put(t, "a", 2)}, repo.SwapCommit(old.CID)))
	_, err := r.Apply(ctx, []repo.Write{put(t, "a", 3)}, repo.SwapCommit(old.CID))
	wantErr(t, err, repo.ErrInvalidSwap)
	w := put(t, "a", 3)
	w.Swap = old.Results[0].CID
	_, err = r.Apply(ctx, []repo.Write{w})
	wantErr(t, err, repo.ErrInvalidSwap)
	w.Swap = now.Results[0].CID
	must[repo.Commit](t)(r.Apply(ctx, []repo.Write{w}))
	mine := errors.New("mine")
	_, err = r.Apply(ctx, []repo.Write{put(t, "a", 9)}, func(s repo.Snapshot) error {
		if rec, err := s.Get(coll, "a"); err != nil || !bytes.Equal(rec.Value, w.Record) {
			t.Errorf("a guard sees %x, %v", rec.Value, err)
		}
		return mine
	})
	wantErr(t, err, mine)
	if rec := must[repo.Record](t)(r.Get(ctx, coll, "a")); !bytes.Equal(rec.Value, w.Record) {
		t.Fatal("a failed guard let the write pass")
	}
}

func blobRecord(t testing.TB, data []byte) []byte {
	return record(t, `{"b":{"$type":"blob","ref":{"$link":%q},"mimeType":"text/plain","size":%d}}`, repo.BlobCID(data), len(data))
}

func blobs(t *testing.T, s repo.Store) {
	ctx := t.Context()
	r := Open(t, s, repo.Options{MaxBlob: 100})
	one, two := []byte("one"), []byte("two")
	_, err := r.PutBlob(ctx, repo.Blob{Data: make([]byte, 101)})
	wantErr(t, err, repo.ErrTooLarge)
	info := must[repo.BlobInfo](t)(r.PutBlob(ctx, repo.Blob{MediaType: "text/plain", Data: one}))
	_, err = r.GetBlob(ctx, info.CID)
	wantErr(t, err, repo.ErrNotFound) // no record names it
	write := func(key string, data []byte, bs ...repo.Blob) repo.Write {
		return repo.Write{Action: repo.Put, Collection: coll, RKey: key, Record: blobRecord(t, data), Blobs: bs}
	}
	must[repo.Commit](t)(r.Apply(ctx, []repo.Write{write("a", one), write("b", one),
		write("c", two, repo.Blob{MediaType: "text/x", Data: two})}))
	if b := must[repo.Blob](t)(r.GetBlob(ctx, info.CID)); string(b.Data) != "one" || b.MediaType != "text/plain" {
		t.Fatalf("blob %+v", b)
	}
	must[repo.Blob](t)(r.GetBlob(ctx, repo.BlobCID(two)))
	count := func(since string) (n int) {
		var after repo.CID
		for b, err := range r.ListBlobs(ctx, repo.CID{}, since) {
			if err != nil || bytes.Compare(b.CID.Hash(), after.Hash()) <= 0 {
				t.Fatalf("blob %s after %s: %v", b.CID, after, err)
			}
			after = b.CID
			n++
		}
		return n
	}
	if count("") != 2 {
		t.Fatalf("%d blobs listed", count(""))
	}
	must[repo.Commit](t)(r.Apply(ctx, []repo.Write{{Action: repo.Delete, Collection: coll, RKey: "a"}}))
	must[repo.Blob](t)(r.GetBlob(ctx, info.CID)) // b still names it
	c := must[repo.Commit](t)(r.Apply(ctx, []repo.Write{write("b", two)}))
	_, err = r.GetBlob(ctx, info.CID)
	wantErr(t, err, repo.ErrNotFound)
	if count("") != 1 || count(c.Since) != 1 || count(c.Rev) != 0 {
		t.Fatalf("%d blobs, %d since the commit before, %d since the last", count(""), count(c.Since), count(c.Rev))
	}
	_, err = r.Apply(ctx, []repo.Write{write("d", one)})
	wantErr(t, err, repo.ErrBlobMissing) // it went with its last record
}

func list(t *testing.T, s repo.Store) {
	ctx := t.Context()
	r := Open(t, s, repo.Options{})
	var ws []repo.Write
	var keys []string
	for i := range 1200 {
		keys = append(keys, fmt.Sprintf("k%d", i))
		ws = append(ws, put(t, keys[i], i))
	}
	for _, c := range []string{"io.atcr.tag.more", "io.atcr.ta", "io.atcr.tagg"} {
		w := put(t, "k1", 0)
		w.Collection = c
		ws = append(ws, w)
	}
	must[repo.Commit](t)(r.Apply(ctx, ws))
	sort.Strings(keys)
	walk := func(after string, reverse bool) (out []string) {
		for rec, err := range r.List(ctx, coll, after, reverse) {
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, rec.RKey)
		}
		return out
	}
	if got := walk("", false); !slices.Equal(got, keys) {
		t.Fatalf("%d keys listed, want %d", len(got), len(keys))
	}
	if got := walk(keys[600], false); !slices.Equal(got, keys[601:]) {
		t.Fatal("listing after a key")
	}
	back := slices.Clone(keys[:600])
	slices.Reverse(back)
	if got := walk(keys[600], true); !slices.Equal(got, back) {
		t.Fatal("listing backwards")
	}
	if got := must[[]string](t)(r.Collections(ctx)); !slices.Equal(got, []string{"io.atcr.ta", coll, "io.atcr.tag.more", "io.atcr.tagg"}) {
		t.Fatalf("collections %v", got)
	}
}

func concurrent(t *testing.T, s repo.Store) {
	ctx := t.Context()
	r := Open(t, s, repo.Options{})
	must[repo.Commit](t)(r.Apply(ctx, []repo.Write{put(t, "n", 0)}))
	var mu sync.Mutex
	revs := map[string]bool{}
	won := 0
	var wg sync.WaitGroup
	for g := range 16 {
		wg.Go(func() {
			for i := range 10 {
				c, err := r.Apply(ctx, []repo.Write{put(t, fmt.Sprintf("g%d-%d", g, i), i)})
				if err != nil {
					t.Error(err)
					return
				}
				_, failed := r.Apply(ctx, []repo.Write{put(t, "never", 1)}, repo.SwapCommit(repo.RecordCID(nil)))
				_, once := r.Apply(ctx, []repo.Write{{Action: repo.Create, Collection: coll, RKey: fmt.Sprintf("once%d", i),
					Record: record(t, `{}`)}})
				mu.Lock()
				if revs[c.Rev] || !errors.Is(failed, repo.ErrInvalidSwap) || (once != nil && !errors.Is(once, repo.ErrExists)) {
					t.Errorf("rev %s twice: %v; %v; %v", c.Rev, revs[c.Rev], failed, once)
				}
				revs[c.Rev] = true
				if once == nil {
					won++
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if won != 10 {
		t.Fatalf("%d creates of 10 records succeeded", won)
	}
	n := int64(0)
	for _, err := range r.Events(ctx, 0) {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	if want := int64(2 + 160 + 10); n != want {
		t.Fatalf("%d events, want %d", n, want)
	}
	Check(t, r, s)
}

// random compares random changes with a map.
func random(t *testing.T, s repo.Store) {
	ctx := t.Context()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 2))
	r := Open(t, s, repo.Options{})
	m := map[string][]byte{}
	for i := range 150 {
		var ws []repo.Write
		for _, k := range rnd.Perm(60)[:1+rnd.IntN(5)] {
			key := fmt.Sprintf("k%d", k)
			if m[key] != nil && rnd.IntN(2) == 0 {
				ws = append(ws, repo.Write{Action: repo.Delete, Collection: coll, RKey: key})
				delete(m, key)
				continue
			}
			w := put(t, key, i)
			m[key] = w.Record
			ws = append(ws, w)
		}
		must[repo.Commit](t)(r.Apply(ctx, ws))
	}
	n := 0
	for rec, err := range r.List(ctx, coll, "", false) {
		if err != nil || !bytes.Equal(rec.Value, m[rec.RKey]) {
			t.Fatalf("%s: %x, %v", rec.RKey, rec.Value, err)
		}
		n++
	}
	if n != len(m) {
		t.Fatalf("%d records, want %d", n, len(m))
	}
	Check(t, r, s)
}

func reopen(t *testing.T, s repo.Store) {
	ctx := t.Context()
	key := newKey(t)
	o := repo.Options{DID: did, Key: key}
	r := must[*repo.Repo](t)(repo.Open(ctx, s, o))
	c := must[repo.Commit](t)(r.Apply(ctx, []repo.Write{put(t, "a", 1)}))
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	_, err := r.Apply(ctx, []repo.Write{put(t, "a", 2)})
	wantErr(t, err, repo.ErrClosed)
	_, err = repo.Open(ctx, s, repo.Options{DID: "did:web:other.example", Key: key})
	wantErr(t, err, repo.ErrCorrupt)
	r = must[*repo.Repo](t)(repo.Open(ctx, s, o))
	defer r.Close()
	if h := must[repo.Commit](t)(r.Head(ctx)); h.CID != c.CID || h.Rev != c.Rev {
		t.Fatalf("head %+v, want %+v", h, c)
	}
}
