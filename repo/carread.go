package repo

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// CARError says where a CAR is wrong. It is of kind [ErrInvalidCAR].
type CARError struct {
	Name   string // of the source; may be empty
	Offset int64  // of the first byte of the header or block at fault
	Err    error
}

func (e *CARError) Error() string {
	if e.Name != "" {
		return fmt.Sprintf("%v: %s at byte %d: %v", ErrInvalidCAR, e.Name, e.Offset, e.Err)
	}
	return fmt.Sprintf("%v at byte %d: %v", ErrInvalidCAR, e.Offset, e.Err)
}

// Unwrap returns the kind and the cause.
func (e *CARError) Unwrap() []error { return []error{ErrInvalidCAR, e.Err} }

func carErrorf(off int64, format string, args ...any) error {
	return &CARError{Offset: off, Err: fmt.Errorf(format, args...)}
}

// carReader reads a CAR's blocks one after the other and checks each against its hash.
type carReader struct {
	ctx  context.Context
	in   *bufio.Reader
	off  int64 // of what is read next
	buf  []byte
	root CID
}

// maxCARHeader is for some 1 500 roots.
const maxCARHeader = 64 << 10

func newCARReader(ctx context.Context, r io.Reader) (*carReader, error) {
	c := &carReader{ctx: ctx, in: bufio.NewReaderSize(r, 256<<10)}
	at, head, err := c.section(maxCARHeader)
	switch {
	case errors.Is(err, io.EOF):
		return nil, carErrorf(0, "it is empty")
	case err != nil:
		return nil, err
	}
	if c.root, err = decodeCARHeader(head); err != nil {
		return nil, carErrorf(at, "header: %w", err)
	}
	return c, nil
}

// section reads one length-prefixed part; the bytes are good until the next call. io.EOF is the regular end.
func (c *carReader) section(limit uint64) (at int64, part []byte, err error) {
	at = c.off
	if err := c.ctx.Err(); err != nil {
		return at, nil, err
	}
	n, err := c.length()
	switch {
	case err != nil:
		return at, nil, err
	case n > limit:
		return at, nil, carErrorf(at, "a part of %d bytes, at most %d are taken", n, limit)
	}
	if uint64(cap(c.buf)) < n {
		c.buf = make([]byte, n, max(n, 64<<10))
	}
	c.buf = c.buf[:n]
	got, err := io.ReadFull(c.in, c.buf)
	c.off += int64(got)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return at, nil, carErrorf(at, "%w: %d of %d bytes", errShort, got, n)
	}
	if err != nil {
		return at, nil, fmt.Errorf("read: %w", err)
	}
	return at, c.buf, nil
}

// length reads a varint in its shortest form.
func (c *carReader) length() (uint64, error) {
	at := c.off
	var n uint64
	for shift := 0; ; shift += 7 {
		b, err := c.in.ReadByte()
		switch {
		case errors.Is(err, io.EOF) && shift == 0:
			return 0, io.EOF
		case errors.Is(err, io.EOF):
			return 0, carErrorf(at, "a length %w", errShort)
		case err != nil:
			return 0, fmt.Errorf("read: %w", err)
		}
		c.off++
		if shift > 28 || b == 0 && shift > 0 {
			return 0, carErrorf(at, "malformed length")
		}
		n |= uint64(b&0x7f) << shift
		if b < 0x80 {
			return n, nil
		}
	}
}

// carBlock is one block of a CAR.
type carBlock struct {
	at   int64 // of its length
	size int64 // of the whole section, length included
	cid  CID
	data []byte
}

// next reads a block that a repository could link; its data is good until the next call. io.EOF is the regular end.
func (c *carReader) next() (carBlock, error) {
	for {
		at, part, err := c.section(maxCARBlock + cidLen)
		if err != nil {
			return carBlock{at: at}, err
		}
		b, err := parseCARBlock(at, part)
		b.size = c.off - at
		if err != nil || b.cid.Defined() {
			return b, err
		}
	}
}

func parseCARBlock(at int64, part []byte) (carBlock, error) {
	b := carBlock{at: at}
	var err error
	if b.cid, b.data, err = cutBlock(part); err != nil {
		return b, carErrorf(at, "%w", err)
	}
	return b, nil
}

// readSection reads the section at a place of a file that was read before.
func readSection(f io.ReaderAt, at, size int64, buf []byte) (carBlock, []byte, error) {
	if int64(cap(buf)) < size {
		buf = make([]byte, size, max(size, 16<<10))
	}
	buf = buf[:size]
	if n, err := f.ReadAt(buf, at); int64(n) < size {
		return carBlock{}, buf, fmt.Errorf("read at byte %d: %w", at, err)
	}
	_, n := binary.Uvarint(buf)
	if n <= 0 {
		return carBlock{}, buf, carErrorf(at, "the file has changed")
	}
	b, err := parseCARBlock(at, buf[n:])
	b.size = size
	return b, buf, err
}
