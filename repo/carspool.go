package repo

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"sort"
)

const (
	spoolMemory  = 4 << 20  // what is kept in memory of a source that can't be read twice
	maxCARBlocks = 32 << 20 // 16 bytes of index each
)

// spool is a source that can be read again, anywhere: itself, or a copy in memory and, when it is long, in an unnamed file.
type spool struct {
	io.ReaderAt
	size int64
	file *os.File // ours

	unnamed bool // the file is out of its folder already
}

// newSpool copies r unless it can seek. The first pass over the answered reader fills the spool: read it to its end.
func newSpool(r io.Reader, dir string) (*spool, io.Reader) {
	if f, ok := r.(interface {
		io.ReaderAt
		io.Seeker
	}); ok {
		start, err := f.Seek(0, io.SeekCurrent)
		if err == nil {
			var end int64
			if end, err = f.Seek(0, io.SeekEnd); err == nil {
				part := io.NewSectionReader(f, start, end-start)
				return &spool{ReaderAt: part, size: end - start}, part
			}
		}
	}
	s := &spool{}
	return s, io.TeeReader(r, &spooler{s: s, dir: dir})
}

func (s *spool) Close() error {
	if s.file == nil {
		return nil
	}
	if s.unnamed {
		return s.file.Close()
	}
	return errors.Join(s.file.Close(), os.Remove(s.file.Name()))
}

// whole is all of it from the start.
func (s *spool) whole() io.Reader { return io.NewSectionReader(s.ReaderAt, 0, s.size) }

type spooler struct {
	s   *spool
	dir string
	mem []byte
}

func (w *spooler) Write(p []byte) (int, error) {
	s := w.s
	if s.file == nil && len(w.mem)+len(p) <= spoolMemory {
		w.mem = append(w.mem, p...)
		s.size = int64(len(w.mem))
		s.ReaderAt = bytes.NewReader(w.mem)
		return len(p), nil
	}
	if s.file == nil {
		f, err := os.CreateTemp(w.dir, "car-*.tmp")
		if err != nil {
			return 0, fmt.Errorf("copy it: %w", spaceKind(err))
		}
		s.file, s.ReaderAt = f, f
		s.unnamed = os.Remove(f.Name()) == nil // where the system lets us: a process that is killed leaves nothing
		if _, err := f.Write(w.mem); err != nil {
			return 0, fmt.Errorf("copy it: %w", spaceKind(err))
		}
		w.mem = nil
	}
	n, err := s.file.Write(p)
	s.size += int64(n)
	if err != nil {
		err = fmt.Errorf("copy it: %w", spaceKind(err))
	}
	return n, err
}

// carIndex finds blocks by CID: 16 bytes for each, and for copies once. A lookup hashes the block again, which settles crafted prefixes and
// files that change.
type carIndex struct {
	file io.ReaderAt
	at   []carPlace // sorted; no CID twice
	buf  []byte
}

type carPlace struct {
	prefix uint64
	pos    uint64 // offset above sizeBits, size of the section below
}

const sizeBits = 22 // maxCARBlock with CID and length fits

// indexFirst is how many blocks are noted before copies are looked for.
const indexFirst = 64 << 10

func indexCAR(ctx context.Context, file *spool, r io.Reader) (root CID, x *carIndex, err error) {
	c, err := newCARReader(ctx, r)
	if err != nil {
		return CID{}, nil, err
	}
	x = &carIndex{file: &pageReader{r: file}}
	for full := indexFirst; ; {
		b, err := c.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return CID{}, nil, err
		}
		if len(x.at) >= full { // a CAR may repeat itself without end
			if err := x.compact(ctx); err != nil {
				return CID{}, nil, err
			}
			full = max(full, 2*len(x.at))
		}
		if len(x.at) == maxCARBlocks || b.at > math.MaxInt64>>sizeBits {
			return CID{}, nil, carErrorf(b.at, "%w: more than %d blocks", ErrTooLarge, maxCARBlocks)
		}
		x.at = append(x.at, carPlace{binary.BigEndian.Uint64(b.cid.hash[:]), uint64(b.at)<<sizeBits | uint64(b.size)})
	}
	return c.root, x, x.compact(ctx)
}

// compact sorts the index and leaves of each CID the first block. What shares a prefix is read: either a copy, or made to collide.
func (x *carIndex) compact(ctx context.Context) error {
	slices.SortFunc(x.at, func(a, b carPlace) int {
		return cmp.Or(cmp.Compare(a.prefix, b.prefix), cmp.Compare(a.pos, b.pos))
	})
	kept := x.at[:0]
	var same []CID // of the places with the last prefix that are kept
	for i, p := range x.at {
		if i+1 < len(x.at) && x.at[i+1].prefix == p.prefix || len(kept) > 0 && kept[len(kept)-1].prefix == p.prefix {
			b, err := x.read(p)
			if err != nil {
				return err
			}
			if len(kept) == 0 || kept[len(kept)-1].prefix != p.prefix {
				same = same[:0]
			}
			if slices.Contains(same, b.cid) {
				continue
			}
			same = append(same, b.cid)
		}
		if i%4096 == 0 {
			if err := ctx.Err(); err != nil {
				return err
			}
		}
		kept = append(kept, p)
	}
	x.at = kept
	return nil
}

// read reads a block; it is good until the next call.
func (x *carIndex) read(p carPlace) (b carBlock, err error) {
	b, x.buf, err = readSection(x.file, int64(p.pos>>sizeBits), int64(p.pos&(1<<sizeBits-1)), x.buf)
	return b, err
}

// find returns the block of a CID and its place, which is zero when there is none. The block is good until the next call.
func (x *carIndex) find(id CID) (carBlock, carPlace, error) {
	prefix := binary.BigEndian.Uint64(id.hash[:])
	for i := sort.Search(len(x.at), func(i int) bool { return x.at[i].prefix >= prefix }); i < len(x.at) && x.at[i].prefix == prefix; i++ {
		if b, err := x.read(x.at[i]); err != nil || b.cid == id {
			return b, x.at[i], err
		}
	}
	return carBlock{}, carPlace{}, nil
}

// block is find for a block that has to be there.
func (x *carIndex) block(id CID, from int64) (carBlock, error) {
	b, p, err := x.find(id)
	if err == nil && p == (carPlace{}) {
		err = carErrorf(from, "block %s, named here, is missing", id)
	}
	return b, err
}
