package repo

import (
	"encoding/binary"
	"errors"
	"fmt"
	"unicode/utf8"
)

// DAG-CBOR, only what repositories need: https://ipld.io/specs/codecs/dag-cbor/spec/. The reader is strict: shortest
// heads, definite lengths, sorted unique text keys, no floats, tag 42 alone, valid UTF-8, bounded depth. A lax one (see checkLax) only
// notes what is CBOR and not canonical.

const (
	majorUint  = 0
	majorNeg   = 1
	majorBytes = 2
	majorText  = 3
	majorArray = 4
	majorMap   = 5
	majorTag   = 6
	majorOther = 7

	cborFalse = 0xf4
	cborTrue  = 0xf5
	cborNull  = 0xf6

	maxDepth = 64
)

func appendHead(b []byte, major byte, n uint64) []byte {
	major <<= 5
	switch {
	case n < 24:
		return append(b, major|byte(n))
	case n <= 0xff:
		return append(b, major|24, byte(n))
	case n <= 0xffff:
		return binary.BigEndian.AppendUint16(append(b, major|25), uint16(n))
	case n <= 0xffffffff:
		return binary.BigEndian.AppendUint32(append(b, major|26), uint32(n))
	}
	return binary.BigEndian.AppendUint64(append(b, major|27), n)
}

func appendText(b []byte, s string) []byte {
	return append(appendHead(b, majorText, uint64(len(s))), s...)
}

func appendBytes(b, data []byte) []byte {
	return append(appendHead(b, majorBytes, uint64(len(data))), data...)
}

// appendLink writes tag 42 around the CID, or null for the zero CID.
func appendLink(b []byte, c CID) []byte {
	if !c.Defined() {
		return append(b, cborNull)
	}
	b = append(b, 0xd8, 42, 0x58, cidLen+1, 0)
	return c.append(b)
}

func appendBool(b []byte, v bool) []byte {
	if v {
		return append(b, cborTrue)
	}
	return append(b, cborFalse)
}

// cborReader reads canonical DAG-CBOR from memory. Its first error sticks; lengths are checked before they are used.
type cborReader struct {
	b   []byte
	off int
	err error
	lax bool  // what is only not canonical is noted
	odd error // the first of that
}

var errShort = errors.New("ends too early")

func (r *cborReader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf("CBOR at byte %d: %w", r.off, fmt.Errorf(format, args...))
	}
}

// notCanonical is fail, unless the reader is lax.
func (r *cborReader) notCanonical(format string, args ...any) {
	if !r.lax {
		r.fail(format, args...)
	} else if r.odd == nil {
		r.odd = fmt.Errorf("CBOR at byte %d: %w", r.off, fmt.Errorf(format, args...))
	}
}

func (r *cborReader) peek() byte {
	if r.err != nil || r.off >= len(r.b) {
		r.fail("%w", errShort)
		return 0xff
	}
	return r.b[r.off]
}

func (r *cborReader) take(n uint64) []byte {
	if r.err != nil {
		return nil
	}
	if n > uint64(len(r.b)-r.off) {
		r.fail("%w", errShort)
		return nil
	}
	out := r.b[r.off : r.off+int(n) : r.off+int(n)]
	r.off += int(n)
	return out
}

// head reads a major type and its argument in the shortest form.
func (r *cborReader) head() (major byte, n uint64) {
	first := r.take(1)
	if r.err != nil {
		return 0xff, 0
	}
	major, info := first[0]>>5, first[0]&31
	var least uint64
	switch {
	case info < 24:
		return major, uint64(info)
	case info == 24:
		if p := r.take(1); p != nil {
			n, least = uint64(p[0]), 24
		}
	case info == 25:
		if p := r.take(2); p != nil {
			n, least = uint64(binary.BigEndian.Uint16(p)), 1<<8
		}
	case info == 26:
		if p := r.take(4); p != nil {
			n, least = uint64(binary.BigEndian.Uint32(p)), 1<<16
		}
	case info == 27:
		if p := r.take(8); p != nil {
			n, least = binary.BigEndian.Uint64(p), 1<<32
		}
	default:
		r.fail("indefinite length")
	}
	if r.err == nil && major == majorOther {
		r.notCanonical("floats and extended simple values are not allowed")
	} else if r.err == nil && n < least {
		r.notCanonical("a number is not in its shortest form")
	}
	return major, n
}

func (r *cborReader) expect(major byte, what string) uint64 {
	m, n := r.head()
	if r.err == nil && m != major {
		r.fail("%s expected, found type %d", what, m)
	}
	return n
}

func (r *cborReader) text() string {
	p := r.take(r.expect(majorText, "text"))
	if r.err == nil && !utf8.Valid(p) {
		r.fail("text is not UTF-8")
	}
	return string(p)
}

func (r *cborReader) bytes() []byte { return r.take(r.expect(majorBytes, "bytes")) }

// key reads a map key that must be this one.
func (r *cborReader) key(name string) {
	if k := r.text(); r.err == nil && k != name {
		r.fail("field %q expected, found %q", name, clip(k))
	}
}

// link reads tag 42 with a CID of the kinds that repositories use.
func (r *cborReader) link() CID {
	raw := r.rawLink()
	if r.err != nil {
		return CID{}
	}
	c, err := cidFromBytes(raw)
	if err != nil {
		r.fail("%w", err)
	}
	return c
}

func (r *cborReader) nullableLink() CID {
	if r.peek() == cborNull {
		r.off++
		return CID{}
	}
	return r.link()
}

// rawLink reads tag 42 with any CID: records may name other things than ours.
func (r *cborReader) rawLink() []byte {
	if tag := r.expect(majorTag, "link"); r.err == nil && tag != 42 {
		r.fail("tag %d is not allowed", tag)
	}
	p := r.bytes()
	if r.err == nil && (len(p) < 5 || len(p) > 101 || p[0] != 0 || (p[1] != 1 && p[1] != 0x12)) {
		r.fail("a link is not a CID")
	}
	if r.err != nil {
		return nil
	}
	return p[1:]
}

// end makes sure that nothing follows.
func (r *cborReader) end() error {
	if r.err == nil && r.off != len(r.b) {
		r.fail("%d bytes follow", len(r.b)-r.off)
	}
	return r.err
}
