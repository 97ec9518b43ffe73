package carv2_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	car "github.com/ipld/go-car/v2"

	"github.com/atcr-dev/atcr/repo"
	"github.com/atcr-dev/atcr/repo/carv2"
	"github.com/atcr-dev/atcr/repo/memstore"
	"github.com/atcr-dev/atcr/repo/repotest"
)

// sample is a repository and its export.
func sample(t testing.TB) (*repo.Repo, []byte) {
	t.Helper()
	r := repotest.Open(t, memstore.New(), repo.Options{DID: "did:web:a.example"})
	var ws []repo.Write
	for i := range 40 {
		rec, err := repo.RecordFrom(map[string]int{"n": i})
		if err != nil {
			t.Fatal(err)
		}
		ws = append(ws, repo.Write{Action: repo.Create, Collection: "io.atcr.tag", RKey: fmt.Sprint("k", i), Record: rec})
	}
	if _, err := r.Apply(t.Context(), ws); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := repo.ExportCAR(t.Context(), r, &out, nil); err != nil {
		t.Fatal(err)
	}
	return r, out.Bytes()
}

// wrap is go-car's CARv2 of a CARv1, with its index.
func wrap(t testing.TB, v1 []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := car.WrapV1(bytes.NewReader(v1), &out); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// header is a CARv2 with these fields in its header, followed by the rest.
func header(at, size, index uint64, rest ...[]byte) []byte {
	b := append(bytes.Clone(car.Pragma), make([]byte, 16)...)
	for _, n := range []uint64{at, size, index} {
		b = binary.LittleEndian.AppendUint64(b, n)
	}
	return append(b, bytes.Join(rest, nil)...)
}

// ways are the readers that a CAR can come from.
func ways(t testing.TB, b []byte) map[string]io.Reader {
	t.Helper()
	path := filepath.Join(t.TempDir(), "x.car")
	if err := os.WriteFile(path, append([]byte("skipped"), b...), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if _, err := f.Seek(int64(len("skipped")), io.SeekStart); err != nil { // it is read from where it stands
		t.Fatal(err)
	}
	return map[string]io.Reader{"file": f, "memory": bytes.NewReader(b), "pipe": io.MultiReader(bytes.NewReader(b)),
		"slow pipe": oneByte{bytes.NewReader(b)}}
}

type oneByte struct{ r io.Reader }

func (o oneByte) Read(p []byte) (int, error) { return o.r.Read(p[:min(1, len(p))]) }

func TestBothVersions(t *testing.T) {
	r, v1 := sample(t)
	wrapped := wrap(t, v1)
	lies := bytes.Clone(wrapped)
	for i := 51 + len(v1); i < len(lies); i++ {
		lies[i] ^= 0xff
	}
	n := uint64(len(v1))
	for name, b := range map[string][]byte{
		"a CARv1":                    v1,
		"go-car's CARv2":             wrapped,
		"padding before the CARv1":   header(1000, n, 0, make([]byte, 1000-51), v1),
		"no index":                   header(51, n, 0, v1),
		"an index that lies":         lies,
		"an index that is cut":       wrapped[:len(wrapped)-5],
		"an index that isn't there":  header(51, n, 51+n+100, v1),
		"an index inside the CARv1":  header(51, n, 60, v1),
		"what nobody knows behind":   header(51, n, 0, v1, []byte("noise")),
		"characteristics of its own": append(append(bytes.Clone(car.Pragma), bytes.Repeat([]byte{0xff}, 16)...), header(51, n, 0, v1)[27:]...),
	} {
		for way, in := range ways(t, b) {
			src, err := carv2.Unwrap(repo.Source{Reader: in, Name: "x.car", DID: r.DID(), Key: r.PublicKey()})
			if err != nil {
				t.Errorf("%s, %s: %v", name, way, err)
				continue
			}
			info, err := repo.VerifyCAR(t.Context(), src)
			if err != nil || info.Records != 40 || !info.Streaming || !info.SignatureChecked {
				t.Errorf("%s, %s: %+v, %v", name, way, info, err)
			}
		}
	}
}

// TestRefused: what is wrong is told with its place in the file, and nothing of it is imported.
func TestRefused(t *testing.T) {
	r, v1 := sample(t)
	wrapped, n := wrap(t, v1), uint64(len(v1))
	damaged := header(1000, n, 0, make([]byte, 1000-51), v1)
	damaged[len(damaged)-1] ^= 1 // of the last block
	_, last := blocks(t, v1)
	for _, test := range []struct {
		name     string
		b        []byte
		at       int64 // of the file; piped: where a stream sees it
		piped    int64
		contains string
	}{
		{"nothing behind the pragma", wrapped[:11], 11, 11, "cut off: 0 bytes of 40"},
		{"cut in the header", wrapped[:50], 11, 11, "cut off: 39 bytes of 40"},
		{"a CARv1 inside the header", header(50, n, 0, v1), 11, 11, "its CARv1 would begin at byte 50"},
		{"a negative offset", header(1<<63, n, 0, v1), 11, 11, "its CARv1 would begin at byte"},
		{"no CARv1", header(51, 0, 0), 11, 11, "its CARv1 would have 0 bytes"},
		{"a negative size", header(51, 1<<63+5, 0, v1), 11, 11, "its CARv1 would have"},
		{"an offset beyond the end", header(1<<40, n, 0, v1), 11, 11, "beyond its end"},
		{"offset and size that overflow", header(1<<62, 1<<63-1, 0, v1), 11, 11, "beyond its end"},
		{"cut in the CARv1", wrapped[:51+n-1], 11, 51 + int64(n) - 1, ""},
		{"nothing of the CARv1", wrapped[:51], 11, 51, ""},
		{"a size that is too large by one", header(51, n+1, 0, v1), 11, 51 + int64(n), ""},
		{"a size that ends in a block", header(51, n-1, 0, v1), 51 + last, 51 + last, ""},
		{"a size that ends before a block", header(51, uint64(last), 0, v1), 0, 0, "is missing"},
		{"a CARv2 inside", header(51, uint64(len(wrapped)), 0, wrapped), 51, 51, "a CARv2 inside a CARv2"},
		{"a CARv2 deeper inside", header(151, uint64(len(wrapped)), 0, make([]byte, 100), wrapped), 151, 151, "a CARv2 inside a CARv2"},
		{"a damaged block", damaged, 1000 + last, 1000 + last, "does not match its hash"},
	} {
		for way, in := range ways(t, test.b) {
			to := repotest.Open(t, memstore.New(), repo.Options{})
			before, err := to.Head(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			src, err := carv2.Unwrap(repo.Source{Reader: in, Name: "x.car", Key: r.PublicKey()})
			if err == nil {
				_, err = repo.ImportCAR(t.Context(), to, src)
			}
			want := test.at
			if strings.Contains(way, "pipe") {
				want = test.piped
			}
			e := (*repo.CARError)(nil)
			if !errors.Is(err, repo.ErrInvalidCAR) || !errors.As(err, &e) || e.Name != "x.car" || want != 0 && e.Offset != want ||
				!strings.Contains(err.Error(), test.contains) ||
				!strings.Contains(err.Error(), fmt.Sprintf("x.car at byte %d: ", e.Offset)) {
				t.Errorf("%s, %s: %v; want %q at %d", test.name, way, err, test.contains, want)
			}
			if after, err := to.Head(t.Context()); err != nil || after.CID != before.CID {
				t.Errorf("%s, %s: something was imported: %v", test.name, way, err)
			}
		}
	}
	if _, err := carv2.Unwrap(repo.Source{}); !errors.Is(err, repo.ErrInvalidOptions) {
		t.Errorf("without a reader: %v", err)
	}
}

// blocks counts the sections of a CARv1 and tells where the last begins.
func blocks(t testing.TB, v1 []byte) (n int, last int64) {
	t.Helper()
	for off := 0; off < len(v1); n++ {
		size, width := binary.Uvarint(v1[off:])
		last = int64(off)
		off += width + int(size)
	}
	return n, last
}

// TestReadErrors: a broken disk or connection is no invalid CAR, wherever it breaks.
func TestReadErrors(t *testing.T) {
	r, v1 := sample(t)
	broken := errors.New("broken")
	b := header(100, uint64(len(v1)), 0, make([]byte, 49), v1)
	for _, n := range []int{0, 5, 11, 30, 51, 70, 100, 105, 111, 500} {
		in := io.MultiReader(bytes.NewReader(b[:n]), failing{broken})
		src, err := carv2.Unwrap(repo.Source{Reader: in, Name: "x.car", Key: r.PublicKey()})
		if err == nil {
			_, err = repo.VerifyCAR(t.Context(), src)
		}
		if !errors.Is(err, broken) || errors.Is(err, repo.ErrInvalidCAR) || !strings.Contains(err.Error(), "CAR x.car") {
			t.Errorf("after %d bytes: %v", n, err)
		}
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// FuzzUnwrap: whatever it is given, a file and a pipe come to the same, and what is taken is what go-car finds in it.
func FuzzUnwrap(f *testing.F) {
	_, v1 := sample(f)
	wrapped, n := wrap(f, v1), uint64(len(v1))
	for _, seed := range [][]byte{
		nil, v1, wrapped, wrapped[:51], wrapped[:40], car.Pragma, header(60, n, 0, make([]byte, 9), v1),
		header(51, 1<<63-1, 0, v1), header(1<<62, 1<<62, 0), header(51, uint64(len(wrapped)), 0, wrapped),
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		verify := func(in io.Reader) (repo.CARInfo, error) {
			// Each process of the fuzzer has made its seeds by a key of its own.
			src, err := carv2.Unwrap(repo.Source{Reader: in, AnyKey: true})
			if err != nil {
				return repo.CARInfo{}, err
			}
			return repo.VerifyCAR(t.Context(), src)
		}
		file, ferr := verify(bytes.NewReader(b))
		pipe, perr := verify(io.MultiReader(bytes.NewReader(b)))
		if (ferr == nil) != (perr == nil) || file.Commit != pipe.Commit || file.Records != pipe.Records {
			t.Fatalf("a file: %+v, %v; a pipe: %+v, %v", file, ferr, pipe, perr)
		}
		for _, err := range []error{ferr, perr} {
			if e := (*repo.CARError)(nil); err != nil && (!errors.As(err, &e) || e.Offset < 0 || e.Offset > int64(len(b))) {
				t.Fatalf("refused without a place in its %d bytes: %v", len(b), err)
			}
		}
		if ferr != nil {
			return
		}
		in, err := car.NewReader(bytes.NewReader(b))
		if err != nil {
			t.Fatalf("we take %+v, go-car: %v", file, err)
		}
		if roots, err := in.Roots(); err != nil || len(roots) == 0 || roots[0].String() != file.Commit.String() {
			t.Fatalf("we take %+v, go-car: %v, %v", file, roots, err)
		}
	})
}

// A repository in a CARv2, as the tools of IPFS write it.
func ExampleUnwrap() {
	key, err := atcrypto.GeneratePrivateKeyK256()
	if err != nil {
		panic(err)
	}
	ctx := context.Background()
	r, err := repo.Open(ctx, memstore.New(), repo.Options{DID: "did:web:a.example", Key: key})
	if err != nil {
		panic(err)
	}
	defer r.Close()
	var one, two bytes.Buffer
	if err := errors.Join(repo.ExportCAR(ctx, r, &one, nil), car.WrapV1(bytes.NewReader(one.Bytes()), &two)); err != nil {
		panic(err)
	}
	for _, b := range [][]byte{one.Bytes(), two.Bytes()} {
		src, err := carv2.Unwrap(repo.Source{Reader: bytes.NewReader(b), Key: r.PublicKey()})
		if err != nil {
			panic(err)
		}
		info, err := repo.VerifyCAR(ctx, src)
		fmt.Println(src.Offset, info.DID, err)
	}
	// Output:
	// 0 did:web:a.example <nil>
	// 51 did:web:a.example <nil>
}
