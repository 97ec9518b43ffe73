package repo

import (
	"crypto/sha512"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
)

// HostileCAR is a CAR that must be refused: nothing but one thing is wrong with it.
type HostileCAR struct {
	Name   string
	CAR    []byte
	Offset int64  // where
	Want   string // in the error
	// Reported: a record that is only not canonical. An import refuses it; who verifies is told of it.
	Reported bool
}

type carMaker struct {
	b    []byte
	at   map[CID]int64
	root CID
}

func newCARMaker(root CID) *carMaker {
	return &carMaker{b: appendCARHeader(nil, root), at: map[CID]int64{}, root: root}
}

func (m *carMaker) add(blocks ...[]byte) *carMaker {
	for _, b := range blocks {
		m.at[RecordCID(b)] = int64(len(m.b))
		m.b = appendCARBlock(m.b, RecordCID(b), b)
	}
	return m
}

func (m *carMaker) of(block []byte) int64 { return m.at[RecordCID(block)] }

// keysOf finds n rising record paths of a height.
func keysOf(height, n int) (out []string) {
	for i := 0; len(out) < n; i++ {
		if k := fmt.Sprintf("io.atcr.tag/k%06d", i); keyHeight(k) == height {
			out = append(out, k)
		}
	}
	return out
}

func signed(t testing.TB, did string, key atcrypto.PrivateKey, data CID) []byte {
	t.Helper()
	c := commitBlock{did: did, rev: 3 << 10, data: data}
	if err := c.sign(key); err != nil {
		t.Fatal(err)
	}
	return c.encode(true)
}

// HostileCARs are for a repository of did and key.
func HostileCARs(t testing.TB, did string, key atcrypto.PrivateKey) (good []byte, bad []HostileCAR) {
	t.Helper()
	rec := func(i int) []byte { return append([]byte{0xa1, 0x61, 'n', 0x18}, byte(30+i)) }
	leaf := keysOf(0, 8)
	cids := func(n int) (out []CID) {
		for i := range n {
			out = append(out, RecordCID(rec(i)))
		}
		return out
	}
	none := func(n int) []CID { return make([]CID, n) }
	made := map[CID][]byte{} // a signature is another one each time
	commit := func(node []byte) []byte {
		id := RecordCID(node)
		if made[id] == nil {
			made[id] = signed(t, did, key, id)
		}
		return slices.Clone(made[id])
	}
	whole := func(node []byte, more ...[]byte) *carMaker {
		c := commit(node)
		return newCARMaker(RecordCID(c)).add(c, node).add(more...)
	}
	row := func(name string, m *carMaker, at int64, want string) {
		bad = append(bad, HostileCAR{Name: name, CAR: m.b, Offset: at, Want: want})
	}
	node := encodeNode(leaf[:3], cids(3), none(4))
	fine := whole(node, rec(0), rec(1), rec(2))
	good = fine.b

	cut := func(n int) *carMaker { return &carMaker{b: slices.Clone(good[:n])} }
	row("empty", cut(0), 0, "empty")
	row("truncated header", cut(10), 0, "early")
	row("truncated block", cut(len(good)-1), fine.of(rec(2)), "early")
	row("truncated length", &carMaker{b: append(slices.Clone(good), 0x80)}, int64(len(good)), "early")
	row("truncated between blocks", cut(int(fine.of(rec(2)))), fine.of(node), "missing")
	lie := slices.Clone(good)
	lie[len(lie)-1] ^= 1
	row("lying CID", &carMaker{b: lie}, fine.of(rec(2)), "hash")
	huge := append(slices.Clone(good), binary.AppendUvarint(nil, 2<<30)...)
	row("2 GB length", &carMaker{b: huge}, int64(len(good)), "at most")
	row("endless varint", &carMaker{b: append(slices.Clone(good), strings.Repeat("\xff", 20)...)}, int64(len(good)), "length")
	row("padded varint", &carMaker{b: append(slices.Clone(good), 0x80, 0x00)}, int64(len(good)), "length")
	row("no CID", &carMaker{b: append(slices.Clone(good), 1, 0)}, int64(len(good)), "CID")
	row("missing root", newCARMaker(RecordCID([]byte{0xa0})).add(commit(node), node, rec(0), rec(1), rec(2)), 0, "missing")
	foreign := func(cid, block []byte) *carMaker {
		b := binary.AppendUvarint(slices.Clone(good), uint64(len(cid)+len(block)))
		return &carMaker{b: slices.Concat(b, cid, block)}
	}
	stray := whole(node, rec(0), rec(1), rec(2), rec(3)).b
	stray[len(stray)-1] ^= 1
	row("extra block with a lying CID", &carMaker{b: stray}, int64(len(good)), "hash")
	row("extra block that is cut off", &carMaker{b: stray[:len(stray)-1]}, int64(len(good)), "early")
	row("extra block of another codec with a lying CID", foreign(append([]byte{1, 0x70}, RecordCID(node).Bytes()[2:]...), rec(0)),
		int64(len(good)), "hash")
	row("extra block of CID version 0 with a lying CID", foreign(RecordCID(node).Bytes()[2:], rec(0)), int64(len(good)), "hash")
	row("extra block of CID version 2", foreign([]byte{2, 0x71, 0x12, 0x20}, node), int64(len(good)), "CID")
	row("extra block whose hash is cut off", foreign([]byte{1, 0x71, 0x13, 0x40}, rec(0)), int64(len(good)), "CID")
	row("extra block with a hash of 200 bytes", foreign(append([]byte{1, 0x71, 0x13, 0xc8, 1}, make([]byte, 200)...), rec(0)),
		int64(len(good)), "200 bytes")
	row("missing record", whole(node, rec(0), rec(2)), fine.of(node), "missing")
	shuffled := newCARMaker(RecordCID(commit(node))).add(rec(2), rec(5), rec(0), node, commit(node))
	row("missing record among others, any order", shuffled, shuffled.of(node), "missing")
	at := func(m *carMaker, block []byte) (*carMaker, int64) { return m, m.of(block) }
	bads := func(name string, n []byte, want string, more ...[]byte) {
		m, off := at(whole(n, more...), n)
		row(name, m, off, want)
	}
	bads("duplicate keys", encodeNodeAsIs([]string{leaf[0], leaf[0]}, cids(2), none(3)), "rise", rec(0), rec(1))
	bads("keys out of order", encodeNodeAsIs([]string{leaf[1], leaf[0]}, cids(2), none(3)), "rise", rec(0), rec(1))
	bads("mixed heights", encodeNode([]string{leaf[0], after(keysOf(1, 40), leaf[0])}, cids(2), none(3)), "heights", rec(0), rec(1))
	bads("trailing bytes in a node", append(slices.Clone(node), 0), "follow", rec(0), rec(1), rec(2))
	bads("long number in a node", append([]byte{0xb8, 2}, node[1:]...), "shortest", rec(0), rec(1), rec(2))
	bads("child below the leaves", encodeNode(leaf[:1], cids(1), []CID{RecordCID(node), {}}), "below the leaves", node, rec(0))
	bads("root without keys", encodeNode(nil, nil, []CID{RecordCID(node)}), "without keys", node, rec(0), rec(1), rec(2))
	bads("no record path", encodeNode(keysOfShape("nothing%d", 0), cids(1), none(2)), "collection", rec(0))
	bads("collection in capitals", encodeNode(keysOfShape("IO.atcr.tag/k%d", 0), cids(1), none(2)), "lower case", rec(0))
	bads("a capital in a collection's domain", encodeNode(keysOfShape("io.atCr.tag/k%d", 0), cids(1), none(2)), "lower case", rec(0))
	bads("prefix too long", longPrefix(cids(1)[0]), "prefix", rec(0))

	// A tower of nodes without keys dies at the first wrong level.
	top := keysOf(2, 1)
	bomb := encodeNode(leaf[:1], cids(1), none(2))
	var levels [][]byte
	for range 200 {
		levels = append(levels, bomb)
		bomb = encodeNode(nil, nil, []CID{RecordCID(bomb)})
	}
	tower := encodeNode(top, cids(1), []CID{{}, RecordCID(bomb)})
	levels = append(levels, bomb)
	slices.Reverse(levels)
	m := whole(tower, append([][]byte{rec(0)}, levels...)...)
	row("depth bomb", m, m.of(levels[1]), "below the leaves")
	// A cycle can't be hashed; what comes nearest names the commit, or an ancestor's sibling, as a kid.
	selfish := encodeNode(top, cids(1), []CID{RecordCID(commit(node)), {}})
	c := commit(selfish)
	m = newCARMaker(RecordCID(c)).add(c, selfish, commit(node), rec(0))
	row("a commit as a node", m, m.of(commit(node)), "node")
	empty := encodeNode(nil, nil, none(1))
	hollow := encodeNode(top, cids(1), []CID{RecordCID(empty), {}})
	m = whole(hollow, empty, rec(0))
	row("empty node below the root", m, m.of(empty), "empty")
	right := encodeNode(keysOf(1, 1), cids(1), none(2)) // stands left of top's key, hung to its right
	if keysOf(1, 1)[0] < top[0] {
		wrong := encodeNode(top, cids(1), []CID{{}, RecordCID(right)})
		m = whole(wrong, rec(0), right)
		row("keys outside their range", m, m.of(right), "range")
	}

	badRecord := func(name, want string, value []byte) {
		n := encodeNode(leaf[:1], []CID{RecordCID(value)}, none(2))
		m := whole(n, value)
		row(name, m, m.of(value), want)
	}
	badRecord("record with a key twice", "twice", []byte{0xa2, 0x61, 'a', 1, 0x61, 'a', 2})
	badRecord("record with a key twice, and others between", "twice", []byte{0xa3, 0x61, 'b', 1, 0x61, 'a', 2, 0x61, 'b', 2})
	badRecord("record that is no map", "map", []byte{0x80})
	badRecord("record with trailing bytes", "follow", []byte{0xa0, 0})
	badRecord("deep record", "nested", append(append([]byte{0xa1, 0x61, 'a'}, slices.Repeat([]byte{0x81}, 200)...), 0))
	badRecord("deep record of indefinite length", "nested", append([]byte{0xa1, 0x61, 'a'}, slices.Repeat([]byte{0x9f}, 200)...))
	badRecord("record of indefinite length without end", "early", []byte{0xbf, 0x61, 'a', 1})
	badRecord("record with a float that is cut off", "early", []byte{0xa1, 0x61, 'a', 0xfb, 0, 0})
	badRecord("record not in UTF-8", "UTF-8", []byte{0xa1, 0x61, 'a', 0x61, 0xff})
	odd := func(name, want string, value []byte) {
		badRecord(name, want, value)
		bad[len(bad)-1].Reported = true
	}
	odd("record with unsorted keys", "sorted", []byte{0xa2, 0x61, 'b', 1, 0x61, 'a', 2})
	odd("record with a float", "float", []byte{0xa1, 0x61, 'a', 0xfb, 0, 0, 0, 0, 0, 0, 0, 0})
	odd("record with a short float", "float", []byte{0xa1, 0x61, 'a', 0xf9, 0x3c, 0})
	odd("record with a long number", "shortest", []byte{0xa1, 0x61, 'a', 0x18, 1})
	odd("record with a long key", "shortest", []byte{0xa1, 0x78, 1, 'a', 1})
	odd("record of indefinite length", "indefinite", []byte{0xbf, 0xff})
	odd("record with a list of indefinite length", "indefinite", []byte{0xa1, 0x61, 'a', 0x9f, 1, 0x7f, 0x61, 'x', 0xff, 0xff})
	odd("record with another tag", "tag 1", []byte{0xa1, 0x61, 'a', 0xc1, 0})
	odd("record with undefined", "simple", []byte{0xa1, 0x61, 'a', 0xf7})
	odd("record with a number beyond 63 bits", "64 bits", []byte{0xa1, 0x61, 'a', 0x1b, 0x80, 0, 0, 0, 0, 0, 0, 0})

	badCommit := func(name, want string, c []byte) {
		m := newCARMaker(RecordCID(c)).add(c, node, rec(0), rec(1), rec(2))
		row(name, m, m.of(c), want)
	}
	badCommit("another DID", "not of", signed(t, "did:web:someone.example", key, RecordCID(node)))
	other, err := atcrypto.GeneratePrivateKeyK256()
	if err != nil {
		t.Fatal(err)
	}
	badCommit("another key", "signature", signed(t, did, other, RecordCID(node)))
	broken := commit(node)
	broken[slices.Index(broken, 's')+10] ^= 1
	badCommit("broken signature", "", broken)
	badCommit("commit with trailing bytes", "follow", append(commit(node), 0))

	for _, other := range []string{"did:plc:short", "did:plc:AAAAAAAAAAAAAAAAAAAAAAAA", "did:web:a.example:path", "did:web:A.example",
		"did:web:127.0.0.1:80", "did:PLC:aaaaaaaaaaaaaaaaaaaaaaaa", "someone"} {
		badCommit("the commit of "+other, "DID", signed(t, other, key, RecordCID(node)))
	}

	row("no root", &carMaker{b: carHeader()}, 0, "no root")
	row("a second root that is no link", &carMaker{b: carHeader(appendLink(nil, RecordCID(commit(node))), []byte{1})}, 0, "link")
	row("a header without end", &carMaker{b: carHeader(slices.Repeat([][]byte{appendLink(nil, RecordCID(node))}, 5000)...)}, 0, "at most")
	row("CAR version 2", &carMaker{b: []byte("\x0a\xa1\x67version\x02")}, 0, "header")
	return good, bad
}

// carHeader is a header with these roots, each a link in DAG-CBOR.
func carHeader(roots ...[]byte) []byte {
	h := appendHead(nil, majorMap, 2)
	h = appendHead(appendText(h, "roots"), majorArray, uint64(len(roots)))
	h = append(h, slices.Concat(roots...)...)
	h = appendHead(appendText(h, "version"), majorUint, 1)
	return append(binary.AppendUvarint(nil, uint64(len(h))), h...)
}

// LooseCAR is a CAR that others write, and that is to be taken.
type LooseCAR struct {
	Name string
	CAR  []byte
	// Readers that take it, too. @atproto/repo reads CIDs of 36 bytes only; indigo and go-car know the hash functions that are linked in.
	TypeScript, Go bool
}

// LooseCARs are one repository of did and key, of three records, with all that a CAR may have beside it.
func LooseCARs(t testing.TB, did string, key atcrypto.PrivateKey) (commit CID, cars []LooseCAR) {
	t.Helper()
	rec := func(i int) []byte { return append([]byte{0xa1, 0x61, 'n', 0x18}, byte(30+i)) }
	node := encodeNode(keysOf(0, 8)[:3], []CID{RecordCID(rec(0)), RecordCID(rec(1)), RecordCID(rec(2))}, make([]CID, 4))
	top := signed(t, did, key, RecordCID(node))
	commit = RecordCID(top)
	root := appendLink(nil, commit)
	section := func(cid, block []byte) []byte {
		return slices.Concat(binary.AppendUvarint(nil, uint64(len(cid)+len(block))), cid, block)
	}
	linked := func(block []byte) []byte { return section(RecordCID(block).Bytes(), block) }
	tree := [][]byte{linked(top), linked(node), linked(rec(0)), linked(rec(1)), linked(rec(2))}
	add := func(name string, header []byte, sections ...[]byte) *LooseCAR {
		cars = append(cars, LooseCAR{name, slices.Concat(append([][]byte{header}, sections...)...), true, true})
		return &cars[len(cars)-1]
	}
	stray, blob := linked(rec(9)), []byte("a blob that no record names")
	for i := range len(tree) + 1 {
		add(fmt.Sprintf("an extra block before block %d", i), carHeader(root), slices.Insert(slices.Clone(tree), i, stray)...)
	}
	for i, b := range tree {
		add(fmt.Sprintf("block %d at the end once more", i), carHeader(root), append(slices.Clone(tree), b)...)
		add(fmt.Sprintf("block %d twice", i), carHeader(root), slices.Insert(slices.Clone(tree), i, b)...)
		add(fmt.Sprintf("block %d at the start, too", i), carHeader(root), slices.Insert(slices.Clone(tree), 0, b)...)
	}
	back := slices.Clone(tree)
	slices.Reverse(back)
	add("the wrong way round, everything twice, and more", carHeader(root), slices.Concat(back, [][]byte{stray}, tree, [][]byte{stray})...)
	add("a blob that no record names", carHeader(root), append(slices.Clone(tree), section(BlobCID(blob).Bytes(), blob))...)
	other := signed(t, did, key, RecordCID(encodeNode(nil, nil, make([]CID, 1))))
	add("another commit", carHeader(root), append([][]byte{linked(other)}, tree...)...)
	broken := encodeNodeAsIs([]string{"b", "a"}, make([]CID, 2), make([]CID, 3))
	add("an extra block that would be a bad node", carHeader(root), append([][]byte{linked(broken)}, tree...)...)
	add("the root twice", carHeader(root, root), tree...)
	add("a second root that is not there", carHeader(root, appendLink(nil, RecordCID(rec(7)))), tree...)
	add("a second root that is another commit", carHeader(root, appendLink(nil, RecordCID(other))), append(slices.Clone(tree), linked(other))...)
	add("a thousand roots", carHeader(slices.Repeat([][]byte{root}, 1000)...), tree...)

	raw := func(prefix ...byte) []byte { return append(prefix, RecordCID(blob).Hash()...) }
	pb := section(raw(1, 0x70, 0x12, 32), blob)
	add("a block of codec dag-pb", carHeader(root), slices.Insert(slices.Clone(tree), 1, pb)...)
	add("a block of codec dag-json", carHeader(root), append(slices.Clone(tree), section(raw(1, 0xa9, 0x02, 0x12, 32), blob))...).TypeScript = false
	add("a block of CID version 0", carHeader(root), append(slices.Clone(tree), section(raw(0x12, 32), blob))...).TypeScript = false
	sum := sha512.Sum512(blob)
	add("a block by its SHA-512", carHeader(root),
		append([][]byte{section(append([]byte{1, 0x55, 0x13, 64}, sum[:]...), blob)}, tree...)...).TypeScript = false
	add("a block by its identity", carHeader(root), append(slices.Clone(tree), section(append([]byte{1, 0x55, 0, 3}, "abc"...), []byte("abc")))...).
		TypeScript = false
	unknown := add("a block of an unknown hash function", carHeader(root), append(slices.Clone(tree), section([]byte{1, 0x55, 0x7f, 2, 7, 7}, blob))...)
	unknown.TypeScript, unknown.Go = false, false
	return commit, cars
}

func after(keys []string, than string) string {
	for _, k := range keys {
		if k > than {
			return k
		}
	}
	return ""
}

func keysOfShape(shape string, height int) []string {
	for i := 0; ; i++ {
		if k := fmt.Sprintf(shape, i); keyHeight(k) == height {
			return []string{k}
		}
	}
}

// longPrefix is a node whose first entry shares five bytes with nothing.
func longPrefix(val CID) []byte {
	b := append([]byte{majorMap<<5 | 2, majorText<<5 | 1, 'e', majorArray<<5 | 1, majorMap<<5 | 4, majorText<<5 | 1, 'k'},
		majorBytes<<5|1, 'x')
	b = append(b, majorText<<5|1, 'p', 5, majorText<<5|1, 't', cborNull, majorText<<5|1, 'v')
	return append(appendLink(b, val), majorText<<5|1, 'l', cborNull)
}

// encodeNodeAsIs writes what encodeNode can't: keys that do not rise, each in full.
func encodeNodeAsIs(keys []string, vals, kids []CID) []byte {
	b := []byte{majorMap<<5 | 2, majorText<<5 | 1, 'e'}
	b = appendHead(b, majorArray, uint64(len(keys)))
	prev := ""
	for i, k := range keys {
		p := commonPrefix(prev, k)
		b = append(b, majorMap<<5|4, majorText<<5|1, 'k')
		b = appendBytes(b, []byte(k[p:]))
		b = appendHead(append(b, majorText<<5|1, 'p'), majorUint, uint64(p))
		b = appendLink(append(b, majorText<<5|1, 't'), kids[i+1])
		b = appendLink(append(b, majorText<<5|1, 'v'), vals[i])
		prev = k
	}
	return appendLink(append(b, majorText<<5|1, 'l'), kids[0])
}

// CutCAR cuts a CAR into its header and its sections.
func CutCAR(car []byte) (header []byte, blocks [][]byte) {
	for at := 0; at < len(car); {
		n, size := binary.Uvarint(car[at:])
		end := at + size + int(n)
		if at == 0 {
			header = slices.Clone(car[:end])
		} else {
			blocks = append(blocks, slices.Clone(car[at:end]))
		}
		at = end
	}
	return header, blocks
}
