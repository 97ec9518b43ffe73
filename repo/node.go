package repo

import (
	"crypto/sha256"
	"fmt"
	"math/bits"
	"sort"
	"strings"
)

// maxKeyLen is the longest path: NSID (317), slash, record key (512).
const maxKeyLen = 830

// keyHeight is where the tree puts a key: leading zero bits of its SHA-256, two by two.
func keyHeight(key string) int {
	sum := sha256.Sum256([]byte(key))
	zeros := 0
	for _, b := range sum {
		zeros += bits.LeadingZeros8(b)
		if b != 0 {
			break
		}
	}
	return zeros / 2
}

// nodeData is a decoded node. It is shared by readers and never changed.
type nodeData struct {
	cid  CID
	rev  TID
	raw  []byte
	keys []string
	vals []CID
	kids []CID // one more than keys; zero where there is none
}

// decodeNode reads a node strictly: prefixes are exactly the common ones, keys rise and are all of one height, nothing
// else is in it.
func decodeNode(block []byte) (*nodeData, error) {
	r := cborReader{b: block}
	n := &nodeData{raw: block}
	if c := r.expect(majorMap, "node"); r.err == nil && c != 2 {
		r.fail("a node has two fields, not %d", c)
	}
	r.key("e")
	count := r.expect(majorArray, "entries")
	if r.err == nil && count > uint64(len(block)/42) { // an entry holds at least a link
		r.fail("%d entries do not fit", count)
	}
	if r.err != nil {
		return nil, r.err
	}
	n.keys = make([]string, 0, count)
	n.vals = make([]CID, 0, count)
	n.kids = make([]CID, 1, count+1)
	for range count {
		n.entry(&r)
	}
	r.key("l")
	n.kids[0] = r.nullableLink()
	if err := r.end(); err != nil {
		return nil, err
	}
	return n, nil
}

func (n *nodeData) entry(r *cborReader) {
	if c := r.expect(majorMap, "entry"); r.err == nil && c != 4 {
		r.fail("an entry has four fields, not %d", c)
	}
	r.key("k")
	suffix := r.bytes()
	r.key("p")
	p := r.expect(majorUint, "prefix length")
	r.key("t")
	right := r.nullableLink()
	r.key("v")
	val := r.link()
	if r.err != nil {
		return
	}
	prev := ""
	if len(n.keys) > 0 {
		prev = n.keys[len(n.keys)-1]
	}
	if p > uint64(len(prev)) {
		r.fail("prefix of %d bytes, the key before has %d", p, len(prev))
		return
	}
	key := prev[:p] + string(suffix)
	switch {
	case commonPrefix(prev, key) != int(p):
		r.fail("a prefix is not the longest")
	case key <= prev:
		r.fail("keys do not rise")
	case len(key) > maxKeyLen:
		r.fail("a key of %d bytes", len(key))
	case len(n.keys) > 0 && keyHeight(key) != keyHeight(n.keys[0]):
		r.fail("keys of different heights in one node")
	}
	n.keys = append(n.keys, key)
	n.vals = append(n.vals, val)
	n.kids = append(n.kids, right)
}

// kidFor is the kid on the way to a key; zero when the way ends here.
func (n *nodeData) kidFor(key string) CID {
	i := sort.SearchStrings(n.keys, key)
	if i < len(n.keys) && n.keys[i] == key {
		return CID{}
	}
	return n.kids[i]
}

// checkAt makes sure that the node may stand at a height, between two keys (hi may be empty: no bound). Height -1 is
// a root, whose own keys tell; the height is answered.
func (n *nodeData) checkAt(height int, lo, hi string) (int, error) {
	if len(n.keys) == 0 {
		switch {
		case height < 0 && !n.kids[0].Defined():
			return 0, nil // the empty tree
		case height < 0:
			return 0, fmt.Errorf("node %s: a root without keys", n.cid)
		case !n.kids[0].Defined():
			return 0, fmt.Errorf("node %s: empty below the root", n.cid)
		case height == 0:
			return 0, fmt.Errorf("node %s: a child below the leaves", n.cid)
		}
		return height, nil
	}
	h := keyHeight(n.keys[0])
	if height >= 0 && h != height {
		return 0, fmt.Errorf("node %s: keys of height %d at height %d", n.cid, h, height)
	}
	if n.keys[0] <= lo && lo != "" || hi != "" && n.keys[len(n.keys)-1] >= hi {
		return 0, fmt.Errorf("node %s: keys outside their range", n.cid)
	}
	if h == 0 {
		for _, k := range n.kids {
			if k.Defined() {
				return 0, fmt.Errorf("node %s: a child below the leaves", n.cid)
			}
		}
	}
	return h, nil
}

func encodeNode(keys []string, vals, kids []CID) []byte {
	size := 64
	for _, k := range keys {
		size += len(k) + 100
	}
	b := make([]byte, 0, size)
	b = append(b, majorMap<<5|2, majorText<<5|1, 'e')
	b = appendHead(b, majorArray, uint64(len(keys)))
	prev := ""
	for i, k := range keys {
		p := commonPrefix(prev, k)
		b = append(b, majorMap<<5|4, majorText<<5|1, 'k')
		b = appendHead(b, majorBytes, uint64(len(k)-p))
		b = append(b, k[p:]...)
		b = append(b, majorText<<5|1, 'p')
		b = appendHead(b, majorUint, uint64(p))
		b = append(b, majorText<<5|1, 't')
		b = appendLink(b, kids[i+1])
		b = append(b, majorText<<5|1, 'v')
		b = appendLink(b, vals[i])
		prev = k
	}
	b = append(b, majorText<<5|1, 'l')
	return appendLink(b, kids[0])
}

func commonPrefix(a, b string) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}

// splitPath undoes collection/rkey.
func splitPath(path string) (collection, rkey string) {
	collection, rkey, _ = strings.Cut(path, "/")
	return collection, rkey
}
