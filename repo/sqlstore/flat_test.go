package sqlstore_test

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/atcr-dev/atcr/repo"
	"github.com/atcr-dev/atcr/repo/repotest"
)

// meter passes bytes on and looks, each so many of them, at what is held in memory.
type meter struct {
	io.Reader
	io.Writer
	each, next, n int64
	most          uint64
}

func (m *meter) took(n int) {
	if m.n += int64(n); m.n < m.next {
		return
	}
	m.next += m.each
	m.most = max(m.most, held())
}

// held is what is in use, garbage left out.
func held() uint64 {
	runtime.GC()
	runtime.GC() // what has a finalizer, and what lies in pools, goes the second time
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return s.HeapAlloc
}

func (m *meter) Write(p []byte) (int, error) { m.took(len(p)); return m.Writer.Write(p) }
func (m *meter) Read(p []byte) (int, error)  { n, err := m.Reader.Read(p); m.took(n); return n, err }

// TestFlatMemory: export, verification and import of 30 MB hold a few of them at most, also from a pipe, of which a copy is made.
func TestFlatMemory(t *testing.T) {
	const most, each = 8 << 20, 4 << 20
	ctx, dir := t.Context(), t.TempDir()
	r := repotest.Open(t, openStore(t, filepath.Join(dir, "one.db")), repo.Options{KeepEvents: -1})
	for at := 0; at < 3000; at += 300 {
		var ws []repo.Write
		for i := range 300 {
			ws = append(ws, bigRecord(t, at+i))
		}
		if _, err := r.Apply(ctx, ws); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(dir, "x.car")
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	before := held()
	flat := func(what string, m *meter, err error) {
		t.Helper()
		grown := int64(m.most) - int64(before)
		t.Logf("%s: %d MB, %d KB held at most", what, m.n>>20, grown>>10)
		if err != nil || m.n < 28<<20 || grown > most {
			t.Errorf("%s: %d bytes went through, %d were held, %v", what, m.n, grown, err)
		}
	}
	out := &meter{Writer: f, each: each}
	err = repo.ExportCAR(ctx, r, out, nil)
	flat("export", out, err)

	pipe := func() *meter { return &meter{Reader: io.NewSectionReader(f, 0, out.n), each: each} }
	in := pipe()
	_, err = repo.VerifyCAR(ctx, repo.Source{Reader: in, Key: r.PublicKey(), TempDir: dir})
	flat("verify from a pipe", in, err)

	to := repotest.Open(t, openStore(t, filepath.Join(dir, "two.db")), repo.Options{})
	before = held()
	in = pipe()
	var im repo.Importer // Progress tells of the second pass, in which it is written
	im.Progress = func(int64, int64) {
		in.most = max(in.most, held())
		if left, err := filepath.Glob(filepath.Join(dir, "car-*")); err != nil || len(left) > 0 && runtime.GOOS != "windows" {
			t.Errorf("the copy of the pipe has a name, which a kill would leave: %v, %v", left, err)
		}
	}
	got, err := im.Import(ctx, to, repo.Source{Reader: in, Key: r.PublicKey(), TempDir: dir})
	flat("import from a pipe", in, err)
	if got.Created != 3000 {
		t.Errorf("%d records were imported", got.Created)
	}
}

// TestImportOfLargeBlobs: of the blobs that a small import brings, one record's are in memory at a time.
func TestImportOfLargeBlobs(t *testing.T) {
	const blobs, size = 60, 1 << 20
	ctx := t.Context()
	from, to := repotest.Open(t, openStore(t, filepath.Join(t.TempDir(), "one.db")), repo.Options{}), repotest.Open(t,
		openStore(t, filepath.Join(t.TempDir(), "two.db")), repo.Options{})
	blob := func(i int) []byte { return bytes.Repeat([]byte{byte(i)}, size) }
	which := map[repo.CID]int{}
	for i := range blobs {
		id := repo.BlobCID(blob(i))
		which[id] = i
		v, err := repo.RecordFromJSON(fmt.Appendf(nil, `{"b":{"$type":"blob","ref":{"$link":%q},"mimeType":"text/plain","size":%d}}`, id, size))
		if err != nil {
			t.Fatal(err)
		}
		w := repo.Write{Action: repo.Put, Collection: "io.atcr.tag", RKey: fmt.Sprint("k", i), Record: v,
			Blobs: []repo.Blob{{MediaType: "text/plain", Data: blob(i)}}}
		if _, err := from.Apply(ctx, []repo.Write{w}); err != nil {
			t.Fatal(err)
		}
	}
	var car bytes.Buffer
	if err := repo.ExportCAR(ctx, from, &car, nil); err != nil {
		t.Fatal(err)
	}
	src := func() repo.Source {
		return repo.Source{Reader: bytes.NewReader(car.Bytes()), Key: from.PublicKey()}
	}
	before, most := held(), uint64(0)
	im := repo.Importer{Blob: func(c repo.CID) ([]byte, error) {
		most = max(most, held())
		return blob(which[c]), nil
	}}
	last, err := to.Seq(ctx)
	if err != nil {
		t.Fatal(err)
	}
	got, err := im.Import(ctx, to, src())
	if err != nil || got.Created != blobs {
		t.Fatalf("%d, %v", got.Created, err)
	}
	grown := int64(most) - int64(before)
	t.Logf("%d KB held at most", grown>>10)
	if grown > 12<<20 {
		t.Errorf("%d bytes were held", grown)
	}
	for e, err := range to.Events(ctx, last) {
		if err != nil || !bytes.Contains(e.Body[:20], []byte("#commit")) {
			t.Errorf("event %q, %v", e.Body[:20], err)
		}
	}
	for id := range which {
		if b, err := to.GetBlob(ctx, id); err != nil || len(b.Data) != size || b.MediaType != "text/plain" {
			t.Fatalf("blob %s: %v", id, err)
		}
	}
}
