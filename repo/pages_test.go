package repo

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"testing"
)

// A page reader answers what the file would, wherever and however much is read.
func TestPageReader(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	data := make([]byte, readPage*(readPages+3)+77) // more pages than are kept, the last one short
	for i := range data {
		data[i] = byte(r.Uint32())
	}
	file := bytes.NewReader(data)
	p := &pageReader{r: file}
	for range 20_000 {
		n, off := r.IntN(3*readPage), r.Int64N(int64(len(data)+readPage))
		if r.IntN(4) > 0 {
			n = r.IntN(600)
		}
		got, want := make([]byte, n), make([]byte, n)
		gn, gerr := p.ReadAt(got, off)
		wn, werr := file.ReadAt(want, off)
		if n == 0 {
			continue // either may tell of the end or not
		}
		if gn != wn || gerr != werr || !bytes.Equal(got[:gn], want[:wn]) {
			t.Fatalf("%d bytes at %d: %d, %v, want %d, %v", n, off, gn, gerr, wn, werr)
		}
	}
}

type failingOnce struct {
	io.ReaderAt
	failed bool
}

var errPage = errors.New("the disk says no")

func (f *failingOnce) ReadAt(b []byte, off int64) (int, error) {
	if !f.failed {
		f.failed = true
		n, _ := f.ReaderAt.ReadAt(b[:len(b)/2], off)
		return n, errPage
	}
	return f.ReaderAt.ReadAt(b, off)
}

// A page that could not be read whole is not kept.
func TestPageReaderError(t *testing.T) {
	t.Parallel()
	p := &pageReader{r: &failingOnce{ReaderAt: bytes.NewReader([]byte("0123456789"))}}
	b := make([]byte, 10)
	if _, err := p.ReadAt(b, 0); !errors.Is(err, errPage) {
		t.Fatalf("error of the file: %v", err)
	}
	if n, err := p.ReadAt(b, 0); n != 10 || err != nil || string(b) != "0123456789" {
		t.Errorf("afterwards: %d, %v, %q", n, err, b)
	}
}
