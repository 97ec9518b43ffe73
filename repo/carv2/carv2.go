// Package carv2 takes the CARv1 out of a CARv2, the container that IPFS tools write around a CAR and an index
// (https://ipld.io/specs/transport/car/carv2/), for package repo, which reads CARv1:
//
//	src, err := carv2.Unwrap(repo.Source{Reader: file, Name: "account.car", Key: key})
//	if err != nil { … }
//	info, err := repo.VerifyCAR(ctx, src)
//
// The tests compare it with github.com/ipld/go-car/v2, whose 25 packages a program does not need for the 51 bytes before a CARv1.
package carv2

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/atcr-dev/atcr/repo"
)

// pragma is how a CARv2 begins: the header of a CARv1 that would have the version 2.
const pragma = "\x0a\xa1\x67version\x02"

// Where the fixed parts of a CARv2 are, in bytes. The header is 16 bytes of characteristics, and three numbers of 8 bytes, little-endian:
// offset and size of the CARv1, offset of the index.
const (
	headerAt  = 11 // after the pragma
	headerEnd = headerAt + 16 + 3*8
)

// header is where the CARv1 is.
type header struct{ at, size int64 }

// parseHeader checks what does not depend on the rest of the file.
func parseHeader(b []byte) (header, error) {
	number := func(i int) int64 { return int64(binary.LittleEndian.Uint64(b[16+8*i:])) }
	h := header{number(0), number(1)}
	switch index := number(2); {
	case h.at < headerEnd:
		return h, wrong(headerAt, "the header of a CARv2: its CARv1 would begin at byte %d", uint64(h.at))
	case h.size <= 0:
		return h, wrong(headerAt, "the header of a CARv2: its CARv1 would have %d bytes", uint64(h.size))
	case index < 0:
		return h, wrong(headerAt, "the header of a CARv2: its index would begin at byte %d", uint64(index))
	}
	return h, nil
}

// Unwrap returns src with a Reader over the CARv1 that is in it. A CARv1 comes back as it is, and so does all that is neither, for
// repo's reader to refuse. A Reader that can seek still can; anything else is read as it comes, and nothing of it is kept.
// Offsets in later errors count from the beginning of the CARv2.
//
// Of the CARv2 its header is read, not its index: one that is missing, damaged or lies changes nothing. Bytes behind the CARv1 of a
// stream stay unread.
//
// Errors: [repo.CARError], of kind [repo.ErrInvalidCAR], for a CARv2 that is cut off, whose CARv1 would lie outside of it, or
// which holds another CARv2; [repo.ErrInvalidOptions] for a Source without Reader; errors of reading as they are. A stream that
// ends inside its CARv1 is a CARError of its Reader.
func Unwrap(src repo.Source) (repo.Source, error) {
	if src.Reader == nil {
		return src, fmt.Errorf("%w: Source.Reader is missing", repo.ErrInvalidOptions)
	}
	var err error
	if part := seekable(src.Reader); part != nil {
		src, err = fromFile(src, part)
	} else {
		src, err = fromStream(src)
	}
	if e := (*repo.CARError)(nil); errors.As(err, &e) {
		e.Name = src.Name
		e.Offset += src.Offset
	} else if err != nil {
		err = fmt.Errorf("read %s: %w", strings.TrimSpace("CAR "+src.Name), err)
	}
	return src, err
}

// seekable is what lies before a reader that can be read where it lies, from its present position; nil for any other.
func seekable(r io.Reader) *io.SectionReader {
	f, ok := r.(interface {
		io.ReaderAt
		io.Seeker
	})
	if !ok {
		return nil
	}
	start, err := f.Seek(0, io.SeekCurrent)
	if err != nil {
		return nil
	}
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return nil
	}
	if _, err := f.Seek(start, io.SeekStart); err != nil {
		return nil
	}
	return io.NewSectionReader(f, start, end-start)
}

func fromFile(src repo.Source, file *io.SectionReader) (repo.Source, error) {
	head := make([]byte, headerEnd)
	n, err := file.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return src, err
	}
	if !bytes.HasPrefix(head[:n], []byte(pragma)) {
		return src, nil
	}
	if n < headerEnd {
		return src, torn(n)
	}
	h, err := parseHeader(head[headerAt:])
	if err != nil {
		return src, err
	}
	if h.at > file.Size() || h.size > file.Size()-h.at {
		return src, wrong(headerAt, "a CARv2 whose CARv1 would be the %d bytes from byte %d, beyond its end at byte %d", h.size, h.at,
			file.Size())
	}
	inner := io.NewSectionReader(file, h.at, h.size)
	n, err = inner.ReadAt(head[:headerAt], 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return src, err
	}
	return within(src, inner, h.at, head[:n])
}

func fromStream(src repo.Source) (repo.Source, error) {
	in := src.Reader
	head := make([]byte, headerEnd)
	n, err := readUpTo(in, head[:headerAt])
	if err != nil {
		return src, err
	}
	if string(head[:n]) != pragma {
		src.Reader = io.MultiReader(bytes.NewReader(head[:n]), in)
		return src, nil
	}
	if n, err = readUpTo(in, head[headerAt:]); err != nil {
		return src, err
	}
	if headerAt+n < headerEnd {
		return src, torn(headerAt + n)
	}
	h, err := parseHeader(head[headerAt:])
	if err != nil {
		return src, err
	}
	before := h.at - headerEnd
	skipped, err := io.CopyN(io.Discard, in, before)
	if err != nil && !errors.Is(err, io.EOF) {
		return src, err
	}
	if skipped < before {
		return src, wrong(headerAt, "a CARv2 whose CARv1 would begin at byte %d, beyond its end at byte %d", h.at, headerEnd+skipped)
	}
	inner := &bounded{in: in, left: h.size}
	begin := make([]byte, min(h.size, headerAt))
	if n, err = readUpTo(inner, begin); err != nil {
		if e := (*repo.CARError)(nil); errors.As(err, &e) {
			e.Offset += h.at // not yet within
		}
		return src, err
	}
	return within(src, io.MultiReader(bytes.NewReader(begin[:n]), inner), h.at, begin)
}

// within is src over the CARv1 at a place; begin is how that begins.
func within(src repo.Source, inner io.Reader, at int64, begin []byte) (repo.Source, error) {
	if string(begin) == pragma {
		return src, wrong(at, "a CARv2 inside a CARv2: give the inner one, or the CARv1 that is in it")
	}
	src.Reader = inner
	src.Offset += at
	return src, nil
}

// bounded reads exactly left bytes: less is an error.
type bounded struct {
	in   io.Reader
	read int64
	left int64
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, io.EOF
	}
	n, err := b.in.Read(p[:min(int64(len(p)), b.left)])
	b.read += int64(n)
	b.left -= int64(n)
	if errors.Is(err, io.EOF) {
		if b.left > 0 {
			return n, wrong(b.read, "the CARv2 ends here, with %d bytes of its CARv1 missing", b.left)
		}
		err = nil // the next read says it
	}
	return n, err
}

// readUpTo fills p; fewer bytes are no error when the input ends.
func readUpTo(r io.Reader, p []byte) (int, error) {
	n, err := io.ReadFull(r, p)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = nil
	}
	return n, err
}

func torn(size int) error {
	return wrong(headerAt, "the header of a CARv2 is cut off: %d bytes of %d", size-headerAt, headerEnd-headerAt)
}

func wrong(offset int64, format string, args ...any) error {
	return &repo.CARError{Offset: offset, Err: fmt.Errorf(format, args...)}
}
