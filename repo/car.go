package repo

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// maxCARBlock limits one block of a CAR from elsewhere.
const maxCARBlock = 2 << 20

func appendCARHeader(b []byte, root CID) []byte {
	var h []byte
	h = appendHead(h, majorMap, 2)
	h = appendHead(appendText(h, "roots"), majorArray, 1)
	h = appendLink(h, root)
	h = appendHead(appendText(h, "version"), majorUint, 1)
	return append(binary.AppendUvarint(b, uint64(len(h))), h...)
}

func appendCARBlock(b []byte, c CID, block []byte) []byte {
	b = binary.AppendUvarint(b, uint64(cidLen+len(block)))
	return append(c.append(b), block...)
}

// readCAR reads a small CAR from memory: its one root and its blocks by CID, each checked against its hash.
func readCAR(car []byte) (root CID, blocks map[CID][]byte, err error) {
	off := 0
	fail := func(format string, args ...any) (CID, map[CID][]byte, error) {
		return CID{}, nil, fmt.Errorf("CAR at byte %d: %w", off, fmt.Errorf(format, args...))
	}
	section := func() ([]byte, error) {
		n, size := binary.Uvarint(car[off:])
		switch {
		case size <= 0:
			return nil, errors.New("malformed length")
		case n > maxCARBlock:
			return nil, fmt.Errorf("a block of %d bytes is over the limit", n)
		case n > uint64(len(car)-off-size):
			return nil, errShort
		}
		out := car[off+size : off+size+int(n)]
		off += size + int(n)
		return out, nil
	}
	head, err := section()
	if err != nil {
		return fail("header: %w", err)
	}
	if root, err = decodeCARHeader(head); err != nil {
		return fail("header: %w", err)
	}
	blocks = map[CID][]byte{}
	for off < len(car) {
		s, err := section()
		if err != nil {
			return fail("%w", err)
		}
		if len(s) < cidLen {
			return fail("%w", errShort)
		}
		c, err := cidFromBytes(s[:cidLen])
		if err != nil {
			return fail("%w", err)
		}
		block := s[cidLen:]
		if (c.IsBlob() && BlobCID(block) != c) || (!c.IsBlob() && RecordCID(block) != c) {
			return fail("block %s does not match its hash", c)
		}
		blocks[c] = block
	}
	return root, blocks, nil
}

// carV2 is what every CARv2 begins with, in place of a header.
const carV2 = "\xa1gversion\x02"

func decodeCARHeader(b []byte) (root CID, err error) {
	if string(b) == carV2 {
		return CID{}, errors.New("it is a CARv2, which wraps a CAR and an index: package repo/carv2 takes the CARv1 out of it")
	}
	r := cborReader{b: b}
	if n := r.expect(majorMap, "CAR header"); r.err == nil && n != 2 {
		r.fail("a CAR header has two fields, not %d", n)
	}
	r.key("roots")
	if n := r.expect(majorArray, "roots"); r.err == nil && n != 1 {
		r.fail("one root expected, found %d", n)
	}
	root = r.link()
	r.key("version")
	if v := r.expect(majorUint, "version"); r.err == nil && v != 1 {
		r.fail("CAR version %d", v)
	}
	return root, r.end()
}
