package repo

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
)

// Mutations of a CAR die at the first hash. These helpers let a fuzzer change what blocks say: in a loose proof each link to
// another block is that block's number, and TieProof gives every block its hash, every link its CID, and the root a signed
// commit.

// LooseProof takes a proof's nodes and record apart: each block after its length, links to one another as numbers.
func LooseProof(t testing.TB, car []byte) (loose []byte) {
	t.Helper()
	root, blocks, err := readCAR(car)
	if err != nil {
		t.Fatal(err)
	}
	c, err := decodeCommit(blocks[root])
	if err != nil {
		t.Fatal(err)
	}
	var order []CID // from the root down: who links stands before whom it links
	seen := map[CID]bool{}
	var walk func(id CID)
	walk = func(id CID) {
		block, there := blocks[id]
		if !there || seen[id] {
			return
		}
		seen[id] = true
		order = append(order, id)
		for other := range blocks {
			if bytes.Contains(block, other.append(nil)) {
				walk(other)
			}
		}
	}
	walk(c.data)
	for _, id := range order {
		block := bytes.Clone(blocks[id])
		for i, other := range order {
			block = bytes.ReplaceAll(block, other.append(nil), numbered(i))
		}
		loose = append(binary.AppendUvarint(loose, uint64(len(block))), block...)
	}
	return loose
}

// numbered stands for the CID of a block.
func numbered(i int) []byte {
	var id [cidLen]byte
	copy(id[:], RecordCID(nil).append(nil)[:4])
	id[4], id[cidLen-1] = byte(i), 0xff
	return id[:]
}

// TieProof is the other way; the commit is of did, signed by key.
func TieProof(t testing.TB, loose []byte, did string, key atcrypto.PrivateKey) (car []byte, blocks [][]byte) {
	t.Helper()
	for len(loose) > 0 && len(blocks) < 64 {
		n, size := binary.Uvarint(loose)
		if size <= 0 {
			break
		}
		loose = loose[size:]
		n = min(n, uint64(len(loose)))
		blocks = append(blocks, bytes.Clone(loose[:n]))
		loose = loose[n:]
	}
	if len(blocks) == 0 {
		blocks = [][]byte{{0xa0}}
	}
	for i := len(blocks) - 1; i >= 0; i-- {
		id := RecordCID(blocks[i]).append(nil)
		for j := range i {
			blocks[j] = bytes.ReplaceAll(blocks[j], numbered(i), id)
		}
	}
	commit := signed(t, did, key, RecordCID(blocks[0]))
	car = appendCARBlock(appendCARHeader(nil, RecordCID(commit)), RecordCID(commit), commit)
	for _, b := range blocks {
		car = appendCARBlock(car, RecordCID(b), b)
	}
	return car, blocks
}

// LooseHostiles are the trees of the hostile CARs, to be tied.
func LooseHostiles(t testing.TB, did string, key atcrypto.PrivateKey) (loose [][]byte) {
	t.Helper()
	_, bad := HostileCARs(t, did, key)
	for _, h := range bad {
		root, blocks, err := readCAR(h.CAR)
		if err != nil {
			continue
		}
		if c, err := decodeCommit(blocks[root]); err == nil && blocks[c.data] != nil {
			loose = append(loose, LooseProof(t, h.CAR))
		}
	}
	return loose
}
