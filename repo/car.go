package repo

import (
	"bytes"
	"crypto/sha256"
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

// readCAR reads a small CAR from memory: its first root and its blocks by CID, each checked against its hash.
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
		c, block, err := cutBlock(s)
		if err != nil {
			return fail("%w", err)
		}
		if c.Defined() {
			blocks[c] = block
		}
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
	n := r.expect(majorArray, "roots")
	if r.err == nil && n == 0 {
		r.fail("it has no root, which would name the commit")
	}
	root = r.link()
	for i := uint64(1); i < n && r.err == nil; i++ {
		r.rawLink() // others may follow, of any kind
	}
	r.key("version")
	if v := r.expect(majorUint, "version"); r.err == nil && v != 1 {
		r.fail("CAR version %d", v)
	}
	return root, r.end()
}

// cutBlock cuts a block's CID off and checks the block's hash. A CID of a kind that nothing in a repository links (another codec, another
// hash function) is the zero value: such a block is to be ignored, but a SHA-256 has to be right there, too.
func cutBlock(part []byte) (CID, []byte, error) {
	if len(part) >= cidLen {
		if c, err := cidFromBytes(part[:cidLen]); err == nil {
			if sha256.Sum256(part[cidLen:]) != c.hash {
				return CID{}, nil, fmt.Errorf("block %s does not match its hash", c)
			}
			return c, part[cidLen:], nil
		}
	}
	const sha256Function, maxDigest = 0x12, 128
	in := part
	if len(part) < 2 || part[0] != sha256Function || part[1] != sha256.Size { // else a CIDv0, which is the hash alone
		version, n := binary.Uvarint(part)
		if n <= 0 || version != 1 {
			return CID{}, nil, errors.New("it does not begin with a CID")
		}
		_, m := binary.Uvarint(part[n:]) // the codec
		if m <= 0 {
			return CID{}, nil, fmt.Errorf("CID: %w", errShort)
		}
		in = part[n+m:]
	}
	function, n := binary.Uvarint(in)
	if n <= 0 {
		return CID{}, nil, fmt.Errorf("CID: %w", errShort)
	}
	size, m := binary.Uvarint(in[n:])
	in = in[n+max(m, 0):]
	switch {
	case m <= 0 || size > uint64(len(in)):
		return CID{}, nil, fmt.Errorf("CID: %w", errShort)
	case size > maxDigest:
		return CID{}, nil, fmt.Errorf("CID: a hash of %d bytes", size)
	}
	digest, block := in[:size], in[size:]
	if function == sha256Function {
		if sum := sha256.Sum256(block); !bytes.Equal(sum[:], digest) {
			return CID{}, nil, errors.New("a block does not match its hash")
		}
	}
	return CID{}, nil, nil
}
