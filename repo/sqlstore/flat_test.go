package sqlstore_test

import (
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
	im := repo.Importer{Progress: func(int64) { in.most = max(in.most, held()) }} // the second pass, in which it is written
	got, err := im.Import(ctx, to, repo.Source{Reader: in, Key: r.PublicKey(), TempDir: dir})
	flat("import from a pipe", in, err)
	if got.Created != 3000 {
		t.Errorf("%d records were imported", got.Created)
	}
}
