package repo

import (
	"slices"
	"sort"
)

// tree is the part of the repository's Merkle search tree that one change touches. Nodes are loaded when they are
// walked into, by the place where they must be, and only if their hash is the one that the parent shows.
//
// A node's fence is the key before its range. Where keys come and go, whole left edges get another fence and their
// rows move, even where the bytes stay the same.
type tree struct {
	load   func(Place, CID) (*nodeData, error)
	root   *treeNode
	loaded map[Place]*nodeData
}

type treeNode struct {
	Place
	keys  []string
	vals  []CID
	kids  []kid     // one more than keys
	as    *nodeData // as it was loaded, when nothing in it has changed since
	dirty bool
}

// kid is nothing, a node that isn't loaded (hash alone), or a loaded one.
type kid struct {
	cid CID
	n   *treeNode
}

func (k kid) none() bool { return k.n == nil && !k.cid.Defined() }

func openTree(root CID, height int, load func(Place, CID) (*nodeData, error)) (*tree, error) {
	t := &tree{load: load, loaded: map[Place]*nodeData{}}
	var err error
	t.root, err = t.fetch(Place{Height: height}, root)
	return t, err
}

func emptyTree() *tree {
	return &tree{loaded: map[Place]*nodeData{}, root: &treeNode{kids: make([]kid, 1), dirty: true}}
}

func (t *tree) fetch(at Place, id CID) (*treeNode, error) {
	d, err := t.load(at, id)
	if err != nil {
		return nil, err
	}
	t.loaded[at] = d
	n := &treeNode{Place: at, keys: slices.Clone(d.keys), vals: slices.Clone(d.vals), kids: make([]kid, len(d.kids)), as: d}
	for i, c := range d.kids {
		n.kids[i].cid = c
	}
	return n, nil
}

// fence of the i-th kid.
func (n *treeNode) fenceOf(i int) string {
	if i == 0 {
		return n.Fence
	}
	return n.keys[i-1]
}

// kid loads the i-th kid; nil when there is none. n's fence must still be the one it was loaded with.
func (t *tree) kid(n *treeNode, i int) (*treeNode, error) {
	k := &n.kids[i]
	if k.n == nil && k.cid.Defined() {
		c, err := t.fetch(Place{n.fenceOf(i), n.Height - 1}, k.cid)
		if err != nil {
			return nil, err
		}
		k.n = c
	}
	return k.n, nil
}

// put sets a key.
func (t *tree) put(key string, val CID) error {
	h := keyHeight(key)
	if len(t.root.keys) == 0 && t.root.kids[0].none() {
		t.root = &treeNode{Place: Place{Height: h}, keys: []string{key}, vals: []CID{val}, kids: make([]kid, 2), dirty: true}
		return nil
	}
	for t.root.Height < h {
		t.root = &treeNode{Place: Place{Height: t.root.Height + 1}, kids: []kid{{n: t.root}}, dirty: true}
	}
	n := t.root
	for n.Height > h {
		n.dirty = true
		i := sort.SearchStrings(n.keys, key)
		c, err := t.kid(n, i)
		if err != nil {
			return err
		}
		if c == nil {
			c = &treeNode{Place: Place{n.fenceOf(i), n.Height - 1}, kids: make([]kid, 1), dirty: true}
			n.kids[i].n = c
		}
		n = c
	}
	n.dirty = true
	i := sort.SearchStrings(n.keys, key)
	if i < len(n.keys) && n.keys[i] == key {
		n.vals[i] = val
		return nil
	}
	left, right, err := t.splitKid(n, i, key)
	if err != nil {
		return err
	}
	n.keys = slices.Insert(n.keys, i, key)
	n.vals = slices.Insert(n.vals, i, val)
	n.kids[i] = left
	n.kids = slices.Insert(n.kids, i+1, right)
	return nil
}

// splitKid divides the i-th kid of n into what is before key and what is after.
func (t *tree) splitKid(n *treeNode, i int, key string) (left, right kid, err error) {
	c, err := t.kid(n, i)
	if c == nil || err != nil {
		return kid{}, kid{}, err
	}
	at := sort.SearchStrings(c.keys, key)
	l, r, err := t.splitKid(c, at, key)
	if err != nil {
		return kid{}, kid{}, err
	}
	if at > 0 || !l.none() {
		left.n = &treeNode{Place: c.Place, dirty: true,
			keys: slices.Clone(c.keys[:at]), vals: slices.Clone(c.vals[:at]), kids: append(slices.Clone(c.kids[:at]), l)}
	}
	if at < len(c.keys) || !r.none() {
		right.n = &treeNode{Place: Place{key, c.Height}, dirty: true,
			keys: slices.Clone(c.keys[at:]), vals: slices.Clone(c.vals[at:]), kids: append([]kid{r}, c.kids[at+1:]...)}
	}
	return left, right, nil
}

// remove takes a key out; false when it isn't there.
func (t *tree) remove(key string) (bool, error) {
	h := keyHeight(key)
	type step struct {
		n *treeNode
		i int
	}
	var path []step
	n := t.root
	for n != nil && n.Height > h {
		i := sort.SearchStrings(n.keys, key)
		path = append(path, step{n, i})
		var err error
		if n, err = t.kid(n, i); err != nil {
			return false, err
		}
	}
	if n == nil || n.Height != h {
		return false, nil
	}
	i := sort.SearchStrings(n.keys, key)
	if i == len(n.keys) || n.keys[i] != key {
		return false, nil
	}
	merged, err := t.mergeKids(n, i, n, i+1, n.fenceOf(i))
	if err != nil {
		return false, err
	}
	n.dirty = true
	n.keys = slices.Delete(n.keys, i, i+1)
	n.vals = slices.Delete(n.vals, i, i+1)
	n.kids = slices.Delete(n.kids, i, i+1)
	n.kids[i] = merged
	for _, s := range slices.Backward(path) {
		s.n.dirty = true
		if len(n.keys) == 0 && n.kids[0].none() {
			s.n.kids[s.i] = kid{}
		}
		n = s.n
	}
	return true, t.trim()
}

// trim makes the highest node with a key the root; an empty tree is a node without keys at height 0.
func (t *tree) trim() error {
	for len(t.root.keys) == 0 {
		c, err := t.kid(t.root, 0)
		if err != nil {
			return err
		}
		if c == nil {
			t.root = &treeNode{kids: make([]kid, 1), dirty: true}
			return nil
		}
		t.root = c
	}
	return nil
}

// mergeKids joins the i-th kid of a and the j-th of b, between which the only key is leaving, into one at the fence.
func (t *tree) mergeKids(a *treeNode, i int, b *treeNode, j int, fence string) (kid, error) {
	l, err := t.kid(a, i)
	if err != nil {
		return kid{}, err
	}
	r, err := t.kid(b, j)
	switch {
	case err != nil:
		return kid{}, err
	case r == nil:
		// Whoever undoes the removal splits the left kid down its right edge: the proof must hold it.
		return a.kids[i], t.loadRightEdge(l)
	case l == nil:
		return kid{n: r}, t.move(r, fence)
	}
	mid, err := t.mergeKids(l, len(l.keys), r, 0, l.fenceOf(len(l.keys)))
	if err != nil {
		return kid{}, err
	}
	m := &treeNode{Place: Place{fence, l.Height}, dirty: true,
		keys: slices.Concat(l.keys, r.keys), vals: slices.Concat(l.vals, r.vals)}
	m.kids = append(append(slices.Clone(l.kids[:len(l.keys)]), mid), r.kids[1:]...)
	return kid{n: m}, nil
}

func (t *tree) loadRightEdge(n *treeNode) (err error) {
	for n != nil && err == nil {
		n, err = t.kid(n, len(n.keys))
	}
	return err
}

// move gives a node and its left edge another fence.
func (t *tree) move(n *treeNode, fence string) error {
	for n != nil {
		c, err := t.kid(n, 0) // under the old fence
		if err != nil {
			return err
		}
		n.Fence = fence
		n.dirty = true
		n = c
	}
	return nil
}

// diff is what a change of the tree means for its rows.
type diff struct {
	root   CID
	height int
	put    []Node
	drop   []Place
	alive  []*nodeData // every node that was walked into and is part of the new tree: what proves the change
}

// flush encodes what has changed.
func (t *tree) flush(rev TID) diff {
	revs := make(map[CID]TID, len(t.loaded))
	for _, d := range t.loaded {
		revs[d.cid] = d.rev
	}
	alive := make(map[Place]bool, len(t.loaded)+4)
	var out diff
	out.root = t.flushNode(t.root, rev, revs, alive, &out)
	out.height = t.root.Height
	for at := range t.loaded {
		if !alive[at] {
			out.drop = append(out.drop, at)
		}
	}
	return out
}

func (t *tree) flushNode(n *treeNode, rev TID, revs map[CID]TID, alive map[Place]bool, out *diff) CID {
	at := len(out.alive)
	out.alive = append(out.alive, nil) // parents come first
	kids := make([]CID, len(n.kids))
	for i, k := range n.kids {
		if kids[i] = k.cid; k.n != nil {
			kids[i] = t.flushNode(k.n, rev, revs, alive, out)
		}
	}
	d := n.as
	if n.dirty || d == nil {
		raw := encodeNode(n.keys, n.vals, kids)
		d = &nodeData{cid: RecordCID(raw), rev: rev, raw: raw, keys: n.keys, vals: n.vals, kids: kids}
		if old, ok := revs[d.cid]; ok {
			d.rev = old // moved, or changed back: nothing new for those who have it
		}
	}
	if old := t.loaded[n.Place]; old == nil || old.cid != d.cid {
		out.put = append(out.put, Node{Place: n.Place, CID: d.cid, Rev: d.rev, Data: d.raw})
	}
	alive[n.Place] = true
	out.alive[at] = d
	return d.cid
}
