package repo_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"

	"github.com/atcr-dev/atcr/repo"
	"github.com/atcr-dev/atcr/repo/memstore"
	"github.com/atcr-dev/atcr/repo/repotest"
)

const carDID = "did:web:car.example"

func newKey(t testing.TB) *atcrypto.PrivateKeyK256 {
	t.Helper()
	key, err := atcrypto.GeneratePrivateKeyK256()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func public(t testing.TB, key atcrypto.PrivateKey) atcrypto.PublicKey {
	t.Helper()
	pub, err := key.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	return pub
}

// TestHostileCARs: each is refused whole, with the place, by verify, import and mirror; the repository stays as it was.
func TestHostileCARs(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	key := newKey(t)
	good, bad := repo.HostileCARs(t, carDID, key)
	src := func(car []byte) repo.Source {
		return repo.Source{Reader: bytes.NewReader(car), Name: "x.car", DID: carDID, Key: public(t, key)}
	}
	if info, err := repo.VerifyCAR(ctx, src(good)); err != nil || info.Records != 3 || !info.Streaming {
		t.Fatalf("the good one: %+v, %v", info, err)
	}
	store := memstore.New()
	r := repotest.Open(t, store, repo.Options{})
	before := export(t, r)
	for _, h := range bad {
		t.Run(h.Name, func(t *testing.T) {
			if info, err := repo.VerifyCAR(ctx, src(h.CAR)); h.Reported && (err != nil || info.NotCanonical != 1 ||
				!strings.Contains(fmt.Sprint(info.FirstNotCanonical), fmt.Sprintf("x.car at byte %d: ", h.Offset)) ||
				!errors.Is(info.FirstNotCanonical, repo.ErrInvalidRecord)) {
				t.Errorf("reported %d times, %v, want it at %d; %v", info.NotCanonical, info.FirstNotCanonical, h.Offset, err)
			}
			src := func(car []byte) repo.Source {
				s := src(car)
				s.Strict = h.Reported
				return s
			}
			_, err := repo.VerifyCAR(ctx, src(h.CAR))
			e := (*repo.CARError)(nil)
			if !errors.Is(err, repo.ErrInvalidCAR) || !errors.As(err, &e) || e.Offset != h.Offset ||
				!strings.Contains(err.Error(), h.Want) || e.Name != "x.car" {
				t.Errorf("%v, want %q at %d", err, h.Want, h.Offset)
			}
			streamed := src(h.CAR)
			streamed.Reader = io.MultiReader(bytes.NewReader(h.CAR)) // can't seek
			if _, again := repo.VerifyCAR(ctx, streamed); again == nil || again.Error() != err.Error() {
				t.Errorf("from a pipe: %v", again)
			}
			if _, err := repo.ImportCAR(ctx, r, src(good), src(h.CAR)); !errors.Is(err, repo.ErrInvalidCAR) {
				t.Errorf("import: %v", err)
			}
			if !bytes.Equal(export(t, r), before) {
				t.Error("a refused import left something")
			}
			empty := memstore.New()
			if _, err := repo.MirrorCAR(ctx, empty, src(h.CAR), nil); !errors.Is(err, repo.ErrInvalidCAR) {
				t.Errorf("mirror: %v", err)
			}
			if _, err := empty.Read(ctx).Head(); !errors.Is(err, repo.ErrNotFound) {
				t.Errorf("a refused mirror left a head: %v", err)
			}
		})
	}
}

// TestLooseCARs: what the specification lets a CAR have beside a repository changes nothing in it; the place of a block doesn't matter.
func TestLooseCARs(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	key := newKey(t)
	commit, cars := repo.LooseCARs(t, carDID, key)
	for _, c := range cars {
		t.Run(c.Name, func(t *testing.T) {
			src := func(in io.Reader) repo.Source { return repo.Source{Reader: in, DID: carDID, Key: public(t, key)} }
			info, err := repo.VerifyCAR(ctx, src(bytes.NewReader(c.CAR)))
			if err != nil || info.Commit != commit || info.Records != 3 || info.Nodes != 1 || info.Blocks != 5 || info.Blobs != 0 ||
				info.NotCanonical != 0 {
				t.Fatalf("%+v, %v", info, err)
			}
			piped, err := repo.VerifyCAR(ctx, src(io.MultiReader(bytes.NewReader(c.CAR))))
			if err != nil || piped.Commit != commit || piped.Streaming != info.Streaming {
				t.Errorf("from a pipe: %+v, %v", piped, err)
			}
			r := repotest.Open(t, memstore.New(), repo.Options{})
			if got, err := repo.ImportCAR(ctx, r, src(bytes.NewReader(c.CAR))); err != nil || got.Created != 3 || got.Commit.Data != info.Data {
				t.Errorf("import: %+v, %v", got, err)
			}
			store := memstore.New()
			if _, err := repo.MirrorCAR(ctx, store, src(bytes.NewReader(c.CAR)), nil); err != nil {
				t.Errorf("mirror: %v", err)
			} else if head, err := store.Read(ctx).Head(); err != nil || head.CID != commit || head.Records != 3 {
				t.Errorf("mirror: %+v, %v", head, err)
			}
			if rec, err := repo.VerifyProof(c.CAR, carDID, public(t, key), "io.atcr.tag", "none"); !errors.Is(err, repo.ErrNotFound) {
				t.Errorf("as a proof: %+v, %v", rec, err)
			}
		})
	}
}

// TestLooseBlocksMemory: what a CAR has beside the repository costs no memory when it comes behind it or repeats itself, and 16 bytes a
// block and what they grow by when it stands before.
func TestLooseBlocksMemory(t *testing.T) {
	key := newKey(t)
	commit, cars := repo.LooseCARs(t, carDID, key)
	i := slices.IndexFunc(cars, func(c repo.LooseCAR) bool { return c.Name == "an extra block before block 5" })
	head, blocks := repo.CutCAR(cars[i].CAR)
	tree := bytes.Join(blocks, nil)
	const many = 400_000
	for name, in := range map[string]io.Reader{
		"behind it":          io.MultiReader(bytes.NewReader(head), bytes.NewReader(tree), &looseBlocks{left: many}),
		"before it":          io.MultiReader(bytes.NewReader(head), &looseBlocks{left: many}, bytes.NewReader(tree)),
		"before it, one":     io.MultiReader(bytes.NewReader(head), &looseBlocks{left: many, same: true}, bytes.NewReader(tree)),
		"a root, many times": io.MultiReader(bytes.NewReader(head), &looseBlocks{left: many, block: blocks[0]}, bytes.NewReader(tree)),
	} {
		most := heapWhile(t, func() {
			info, err := repo.VerifyCAR(t.Context(), repo.Source{Reader: in, Key: public(t, key)})
			if err != nil || info.Commit != commit {
				t.Errorf("%s: %+v, %v", name, info, err)
			}
		})
		limit := uint64(24 << 20)
		if name == "before it" {
			limit += 3 * 16 * many
		}
		t.Logf("%s: %d MiB", name, most>>20)
		if most > limit {
			t.Errorf("%s: %d bytes of heap, at most %d", name, most, limit)
		}
	}
}

// looseBlocks is a stream of sections that nothing links.
type looseBlocks struct {
	left  int
	same  bool
	block []byte
	rest  []byte
}

func (l *looseBlocks) Read(p []byte) (int, error) {
	for len(l.rest) == 0 {
		if l.left == 0 {
			return 0, io.EOF
		}
		l.left--
		if l.rest = l.block; l.block == nil {
			n := l.left
			if l.same {
				n = 0
			}
			data := fmt.Appendf(nil, "%08d", n)
			l.rest = slices.Concat([]byte{byte(36 + len(data))}, repo.BlobCID(data).Bytes(), data)
		}
	}
	n := copy(p, l.rest)
	l.rest = l.rest[n:]
	return n, nil
}

// heapWhile returns the most of the heap that was in use above what was before.
func heapWhile(t *testing.T, f func()) uint64 {
	t.Helper()
	defer debug.SetGCPercent(debug.SetGCPercent(20))
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	before, most := m.HeapInuse, uint64(0)
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			runtime.ReadMemStats(&m)
			most = max(most, m.HeapInuse)
			select {
			case <-done:
				return
			case <-tick.C:
			}
		}
	}()
	f()
	close(done)
	<-ended
	return most - min(most, before)
}

func FuzzVerifyCAR(f *testing.F) {
	key := newKey(f)
	good, bad := repo.HostileCARs(f, carDID, key)
	f.Add(good)
	for _, h := range bad {
		f.Add(h.CAR)
	}
	_, loose := repo.LooseCARs(f, carDID, key)
	for _, c := range loose {
		f.Add(c.CAR)
	}
	f.Fuzz(func(t *testing.T, car []byte) {
		info, err := repo.VerifyCAR(context.Background(), repo.Source{Reader: bytes.NewReader(car), AnyKey: true})
		piped, again := repo.VerifyCAR(context.Background(), repo.Source{Reader: io.MultiReader(bytes.NewReader(car)), AnyKey: true})
		if (err == nil) != (again == nil) || err == nil && info.Commit != piped.Commit {
			t.Fatalf("%v from memory, %v from a pipe", err, again)
		}
		if err != nil && !errors.Is(err, repo.ErrInvalidCAR) {
			t.Fatalf("error %v without its kind", err)
		}
	})
}

func export(t testing.TB, r *repo.Repo) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := repo.ExportCAR(t.Context(), r, &out, &repo.ExportOptions{Blobs: true}); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// fill writes n records, a fifth of them with the same value, and deletes some.
func fill(t testing.TB, r *repo.Repo, from, n int, seed uint64) map[string]string {
	t.Helper()
	rnd := rand.New(rand.NewPCG(seed, 1))
	want := map[string]string{}
	for len(want) < n {
		var ws []repo.Write
		for range min(200, n-len(want)) {
			coll := []string{"io.atcr.tag", "io.atcr.tag.more", "io.atcr-x.y", "app.unknown.thing"}[rnd.IntN(4)]
			key, v := fmt.Sprintf("k%d", from+rnd.IntN(50*n)), rnd.IntN(1000)
			if want[coll+"/"+key] != "" {
				continue
			}
			if v < 200 {
				v = 0
			}
			value := fmt.Sprintf(`{"$type":"%s","v":%d}`, coll, v)
			cbor, err := repo.RecordFromJSON([]byte(value))
			if err != nil {
				t.Fatal(err)
			}
			want[coll+"/"+key] = string(cbor)
			ws = append(ws, repo.Write{Action: repo.Put, Collection: coll, RKey: key, Record: cbor})
		}
		if _, err := r.Apply(t.Context(), ws); err != nil {
			t.Fatal(err)
		}
	}
	return want
}

func contents(t testing.TB, r *repo.Repo) map[string]string {
	t.Helper()
	have := map[string]string{}
	colls, err := r.Collections(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range colls {
		for rec, err := range r.List(t.Context(), c, "", false) {
			if err != nil {
				t.Fatal(err)
			}
			have[rec.Path()] = string(rec.Value)
		}
	}
	return have
}

// shuffle puts a CAR's blocks in another order, each CID once.
func shuffle(t testing.TB, car []byte, seed uint64) []byte {
	t.Helper()
	head, blocks := repo.CutCAR(car)
	seen := map[string]bool{}
	blocks = slices.DeleteFunc(blocks, func(b []byte) bool { old := seen[string(b)]; seen[string(b)] = true; return old })
	rand.New(rand.NewPCG(seed, 2)).Shuffle(len(blocks), func(i, j int) { blocks[i], blocks[j] = blocks[j], blocks[i] })
	return append(head, bytes.Join(blocks, nil)...)
}

func TestImportAnyOrder(t *testing.T) {
	t.Parallel()
	testImportAnyOrder(t, 3000, 0, 10, 2500)
	testImportAnyOrder(t, 1000, 9500) // each record finds its way down the tree
}

func testImportAnyOrder(t *testing.T, n int, haves ...int) {
	ctx := t.Context()
	from := repotest.Open(t, memstore.New(), repo.Options{DID: carDID})
	want := fill(t, from, 0, n, 1)
	car := export(t, from)
	for name, car := range map[string][]byte{"streaming": car, "shuffled": shuffle(t, car, 1)} {
		for _, have := range haves {
			t.Run(fmt.Sprintf("%s into %d", name, have), func(t *testing.T) {
				store := memstore.New()
				to := repotest.Open(t, store, repo.Options{})
				all := fill(t, to, 0, have, 1) // the same keys come first, with other values among them
				maps.Copy(all, fill(t, to, 1, have/2, 9))
				maps.Copy(all, want)
				before, _ := to.Head(ctx)
				src := func() repo.Source {
					return repo.Source{Reader: io.MultiReader(bytes.NewReader(car)), DID: carDID, Key: from.PublicKey()}
				}
				dry, err := repo.Importer{DryRun: true, Keys: 5}.Import(ctx, to, src())
				if err != nil || len(dry.Keys) > 5 {
					t.Fatalf("%+v, %v", dry, err)
				}
				if h, _ := to.Head(ctx); h.CID != before.CID {
					t.Fatal("a dry run changed something")
				}
				got, err := repo.ImportCAR(ctx, to, src())
				if err != nil {
					t.Fatal(err)
				}
				if got.Created != dry.Created || got.Updated != dry.Updated || got.Unchanged != dry.Unchanged ||
					got.Created+got.Updated+got.Unchanged != int64(n) {
					t.Errorf("dry %d %d %d, done %d %d %d", dry.Created, dry.Updated, dry.Unchanged, got.Created, got.Updated, got.Unchanged)
				}
				if got.Commit.Since != before.Rev || got.Commit.Prev != before.Data {
					t.Errorf("not one commit: %+v after %+v", got.Commit, before)
				}
				if !maps.Equal(contents(t, to), all) {
					t.Error("the records differ")
				}
				repotest.Check(t, to, store)
				if n := events(t, to, got.Commit.Seq-1); len(n) != 1 || !bytes.Contains(n[0].Body[:16], []byte("#sync")) {
					t.Errorf("%d events", len(n))
				}
				again, err := repo.ImportCAR(ctx, to, src())
				if err != nil || again.Unchanged != int64(n) || again.Commit.CID.Defined() {
					t.Errorf("again: %+v, %v", again.Commit, err)
				}
				fill(t, to, 1<<40, 300, 4) // it goes on
				repotest.Check(t, to, store)
			})
		}
	}
}

func events(t testing.TB, r *repo.Repo, after int64) (out []repo.Event) {
	t.Helper()
	for e, err := range r.Events(t.Context(), after) {
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, e)
	}
	return out
}

// TestImportSeveral: the last CAR wins, all is one commit, and a small one is told by #commit.
func TestImportSeveral(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	a, b := repotest.Open(t, memstore.New(), repo.Options{}), repotest.Open(t, memstore.New(), repo.Options{})
	for i, r := range []*repo.Repo{a, b} {
		for k := range 30 {
			v, err := repo.RecordFrom(map[string]int{"v": i*100 + k})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := r.Apply(ctx, []repo.Write{{Action: repo.Put, Collection: "io.atcr.tag", RKey: fmt.Sprintf("k%d", k+i*20),
				Record: v}}); err != nil {
				t.Fatal(err)
			}
		}
	}
	store := memstore.New()
	to := repotest.Open(t, store, repo.Options{})
	src := func(r *repo.Repo) repo.Source {
		return repo.Source{Reader: bytes.NewReader(export(t, r)), Key: r.PublicKey()}
	}
	got, err := repo.ImportCAR(ctx, to, src(a), src(b))
	if err != nil || got.Created != 50 || len(got.Sources) != 2 {
		t.Fatalf("%+v, %v", got, err)
	}
	want := contents(t, a)
	maps.Copy(want, contents(t, b))
	if !maps.Equal(contents(t, to), want) {
		t.Error("the records differ")
	}
	if e := events(t, to, got.Commit.Seq-1); len(e) != 1 || !bytes.Contains(e[0].Body[:16], []byte("#commit")) {
		t.Error("a small import is no #commit")
	}
	repotest.Check(t, to, store)
	for name, bad := range map[string]repo.Source{
		"no key of a foreign DID": {Reader: bytes.NewReader(export(t, a))},
	} {
		other := repotest.Open(t, memstore.New(), repo.Options{DID: carDID})
		if _, err := repo.ImportCAR(ctx, other, bad); !errors.Is(err, repo.ErrInvalidCAR) {
			t.Errorf("%s: %v", name, err)
		}
		bad.Reader = bytes.NewReader(export(t, a))
		if got, err := (repo.Importer{AnyKey: true}).Import(ctx, other, bad); err != nil || got.Created != 30 {
			t.Errorf("%s, any key: %v", name, err)
		}
	}
}

// TestMirror: the same commit; the repository opens and goes on.
func TestMirror(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	key := newKey(t)
	for _, n := range []int{0, 1, 700} {
		from := repotest.Open(t, memstore.New(), repo.Options{DID: carDID, Key: key})
		want := fill(t, from, 0, n, 3)
		car := export(t, from)
		store := memstore.New()
		src := repo.Source{Reader: bytes.NewReader(shuffle(t, car, 3)), DID: carDID, Key: public(t, key)}
		info, err := repo.MirrorCAR(ctx, store, src, nil)
		if err != nil || info.Records != int64(n) {
			t.Fatalf("%+v, %v", info, err)
		}
		to := repotest.Open(t, store, repo.Options{DID: carDID, Key: key})
		if !bytes.Equal(export(t, to), car) || !maps.Equal(contents(t, to), want) {
			t.Fatal("the mirror differs")
		}
		repotest.Check(t, to, store)
		src.Reader = bytes.NewReader(car)
		if _, err := repo.MirrorCAR(ctx, store, src, nil); !errors.Is(err, repo.ErrExists) {
			t.Fatalf("into a repository: %v", err)
		}
		fill(t, to, 1<<40, 50, 4)
		repotest.Check(t, to, store)
	}
}

// TestExportSince: an old export and the difference together hold the whole new tree, and the difference is small.
func TestExportSince(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	r := repotest.Open(t, memstore.New(), repo.Options{})
	fill(t, r, 0, 2000, 5)
	old := export(t, r)
	head, err := r.Head(ctx)
	if err != nil {
		t.Fatal(err)
	}
	fill(t, r, 1<<40, 20, 6)
	var diff bytes.Buffer
	if err := repo.ExportCAR(ctx, r, &diff, &repo.ExportOptions{Since: head.Rev}); err != nil {
		t.Fatal(err)
	}
	if diff.Len() > len(old)/5 {
		t.Errorf("a difference of %d bytes to %d", diff.Len(), len(old))
	}
	_, had := repo.CutCAR(old)
	header, news := repo.CutCAR(diff.Bytes())
	_, whole := repo.CutCAR(export(t, r))
	have := map[string]bool{}
	for _, b := range slices.Concat(had, news) {
		have[string(b)] = true
	}
	for _, b := range whole {
		if !have[string(b)] {
			t.Fatal("a block is neither in the old export nor in the difference")
		}
	}
	_ = header
	if err := repo.ExportCAR(ctx, r, io.Discard, &repo.ExportOptions{Since: "x"}); err == nil {
		t.Error("a malformed revision is taken")
	}
}

// TestBlobsTravel: with the records, in both orders; without them the import says what is missing.
func TestBlobsTravel(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	from := repotest.Open(t, memstore.New(), repo.Options{})
	data := []byte("a picture")
	value, err := repo.RecordFromJSON(fmt.Appendf(nil, `{"b":{"$type":"blob","ref":{"$link":%q},"mimeType":"text/plain","size":9}}`,
		repo.BlobCID(data)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := from.Apply(ctx, []repo.Write{{Action: repo.Put, Collection: "io.atcr.tag", RKey: "a", Record: value,
		Blobs: []repo.Blob{{MediaType: "text/plain", Data: data}}}}); err != nil {
		t.Fatal(err)
	}
	fill(t, from, 0, 300, 7)
	car := export(t, from)
	for _, car := range [][]byte{car, shuffle(t, car, 8)} {
		to := repotest.Open(t, memstore.New(), repo.Options{})
		got, err := repo.ImportCAR(ctx, to, repo.Source{Reader: bytes.NewReader(car), Key: from.PublicKey()})
		if err != nil || got.Sources[0].Blobs != 1 {
			t.Fatalf("%+v %v", got.Sources, err)
		}
		if b, err := to.GetBlob(ctx, repo.BlobCID(data)); err != nil || string(b.Data) != "a picture" || b.MediaType != "text/plain" {
			t.Fatalf("%+v, %v", b, err)
		}
	}
	var bare bytes.Buffer
	if err := repo.ExportCAR(ctx, from, &bare, nil); err != nil {
		t.Fatal(err)
	}
	to := repotest.Open(t, memstore.New(), repo.Options{})
	src := func() repo.Source {
		return repo.Source{Reader: bytes.NewReader(bare.Bytes()), Key: from.PublicKey()}
	}
	if _, err := repo.ImportCAR(ctx, to, src()); !errors.Is(err, repo.ErrBlobMissing) {
		t.Fatalf("without the blob: %v", err)
	}
	im := repo.Importer{Blob: func(c repo.CID) ([]byte, error) { return data, nil }}
	if _, err := im.Import(ctx, to, src()); err != nil {
		t.Fatal(err)
	}
}
