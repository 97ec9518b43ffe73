package repo

// builder makes a tree of keys that come in order. It holds one open node a height, so its memory is one path.
type builder struct {
	rev  TID
	emit func(Node) error
	open []openNode // by height
	n    int64
}

type openNode struct {
	fence string
	keys  []string
	vals  []CID
	kids  []CID // one more than keys, once there is anything
}

func (n *openNode) none() bool { return len(n.keys) == 0 && (len(n.kids) == 0 || !n.kids[0].Defined()) }

// add takes the next key: it closes all nodes below its height, each into the one above.
func (b *builder) add(key string, val CID) error {
	h := keyHeight(key)
	for len(b.open) <= h {
		b.open = append(b.open, openNode{})
	}
	for l := range h {
		if err := b.shut(l); err != nil {
			return err
		}
		b.open[l].fence = key
	}
	n := &b.open[h]
	if len(n.kids) == 0 {
		n.kids = append(n.kids, CID{})
	}
	n.keys, n.vals, n.kids = append(n.keys, key), append(n.vals, val), append(n.kids, CID{})
	b.n++
	return nil
}

// shut ends the open node of a height and hangs it into the one above.
func (b *builder) shut(l int) error {
	if b.open[l].none() {
		return nil
	}
	id, err := b.write(l)
	if err != nil {
		return err
	}
	up := &b.open[l+1]
	if len(up.kids) == 0 {
		up.kids = append(up.kids, CID{})
	}
	up.kids[len(up.kids)-1] = id
	return nil
}

func (b *builder) write(l int) (CID, error) {
	n := &b.open[l]
	if len(n.kids) == 0 {
		n.kids = append(n.kids, CID{})
	}
	raw := encodeNode(n.keys, n.vals, n.kids)
	id := RecordCID(raw)
	err := b.emit(Node{Place: Place{n.fence, l}, CID: id, Rev: b.rev, Data: raw})
	n.keys, n.vals, n.kids = n.keys[:0], n.vals[:0], n.kids[:0]
	return id, err
}

// finish returns the root: the highest node with a key.
func (b *builder) finish() (root CID, height int, err error) {
	if len(b.open) == 0 {
		b.open = append(b.open, openNode{})
	}
	top := len(b.open) - 1
	for l := range top {
		if err := b.shut(l); err != nil {
			return CID{}, 0, err
		}
	}
	root, err = b.write(top)
	return root, top, err
}
