package repo

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sort"
	"testing"

	"github.com/bluesky-social/indigo/atproto/repo/mst"
	"github.com/ipfs/go-cid"
)

// treeRows is a node table in memory for trees alone.
type treeRows struct {
	rows map[Place]*nodeData
	root CID
	h    int
}

func (s *treeRows) load(at Place, id CID) (*nodeData, error) {
	n, ok := s.rows[at]
	if !ok || n.cid != id {
		return nil, fmt.Errorf("no node %s at %v", id, at)
	}
	return n, nil
}

// apply changes the stored tree and answers the proof's nodes.
func (s *treeRows) apply(t *testing.T, ops []treeOp) diff {
	t.Helper()
	tr, err := openTree(s.root, s.h, s.load)
	if err != nil {
		t.Fatal(err)
	}
	for _, op := range ops {
		if op.val.Defined() {
			err = tr.put(op.key, op.val)
		} else {
			var ok bool
			if ok, err = tr.remove(op.key); err == nil && !ok {
				err = fmt.Errorf("remove %s: not there", op.key)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	d := tr.flush(1)
	for _, at := range d.drop {
		delete(s.rows, at)
	}
	for _, n := range d.put {
		nd, err := decodeNode(n.Data)
		if err != nil {
			t.Fatal(err)
		}
		nd.cid = n.CID
		s.rows[n.Place] = nd
	}
	s.root, s.h = d.root, d.height
	return d
}

type treeOp struct {
	key string
	val CID
}

func newTreeRows() *treeRows {
	d := emptyTree().flush(1)
	s := &treeRows{rows: map[Place]*nodeData{}, root: d.root}
	nd, _ := decodeNode(d.put[0].Data)
	nd.cid = d.root
	s.rows[Place{}] = nd
	return s
}

func toCid(t *testing.T, c CID) cid.Cid {
	t.Helper()
	out, err := cid.Cast(c.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// indigoRoot builds the tree afresh with indigo: its own trees go wrong after being emptied.
func indigoRoot(t *testing.T, m map[string]CID) string {
	t.Helper()
	tree := mst.NewEmptyTree()
	for k, v := range m {
		if _, err := tree.Insert([]byte(k), toCid(t, v)); err != nil {
			t.Fatal(err)
		}
	}
	c, err := tree.RootCID()
	if err != nil {
		t.Fatal(err)
	}
	return c.String()
}

// shape walks the stored rows and makes sure that they are exactly the tree, in their places, and in streaming order.
func (s *treeRows) shape(t *testing.T, m map[string]CID) {
	t.Helper()
	seen := map[Place]bool{}
	var keys []string
	var walk func(at Place, id CID, lo, hi string, root bool)
	walk = func(at Place, id CID, lo, hi string, root bool) {
		n, err := s.load(at, id)
		if err != nil {
			t.Fatal(err)
		}
		seen[at] = true
		h := at.Height
		if root {
			h = -1
		}
		if got, err := n.checkAt(h, lo, hi); err != nil || got != at.Height {
			t.Fatalf("node at %v: height %d, %v", at, got, err)
		}
		for i := range n.kids {
			l, u := lo, hi
			if i > 0 {
				l = n.keys[i-1]
				keys = append(keys, l)
				if m[l] != n.vals[i-1] {
					t.Fatalf("%s is %s, want %s", l, n.vals[i-1], m[l])
				}
			}
			if i < len(n.keys) {
				u = n.keys[i]
			}
			if n.kids[i].Defined() {
				walk(Place{l, at.Height - 1}, n.kids[i], l, u, false)
			}
		}
	}
	walk(Place{Height: s.h}, s.root, "", "", true)
	if len(seen) != len(s.rows) {
		t.Fatalf("%d rows stored, the tree has %d nodes", len(s.rows), len(seen))
	}
	if !sort.StringsAreSorted(keys) || len(keys) != len(m) {
		t.Fatalf("%d keys in order %v, want %d", len(keys), sort.StringsAreSorted(keys), len(m))
	}
}

// TestTreeAgainstIndigo runs random batches over small and large key spaces and compares every root with indigo's.
func TestTreeAgainstIndigo(t *testing.T) {
	for _, c := range []struct{ keys, commits, batch int }{{24, 300, 3}, {300, 300, 6}, {5000, 40, 200}} {
		t.Run(fmt.Sprint(c.keys), func(t *testing.T) {
			seed := rand.Uint64()
			t.Logf("seed %d", seed)
			rnd := rand.New(rand.NewPCG(seed, 1))
			space := make([]string, c.keys)
			for i := range space {
				space[i] = fmt.Sprintf("%s/k%05d", []string{"io.atcr.tag", "io.atcr.manifest", "a.b.c", "a.b.c.d"}[i%4], i/4)
			}
			s, m := newTreeRows(), map[string]CID{}
			for i := range c.commits {
				grow := (i/40)%2 == 0
				used := map[string]bool{}
				var ops []treeOp
				for range 1 + rnd.IntN(c.batch) {
					k := space[rnd.IntN(len(space))]
					if used[k] {
						continue
					}
					used[k] = true
					_, there := m[k]
					switch {
					case there && rnd.IntN(4) > 0 && !grow, there && rnd.IntN(5) == 0:
						ops = append(ops, treeOp{key: k})
						delete(m, k)
					case grow || rnd.IntN(4) == 0:
						v := RecordCID(fmt.Append(nil, k, rnd.Uint64()))
						ops = append(ops, treeOp{k, v})
						m[k] = v
					}
				}
				old := make(map[string]CID)
				for _, op := range ops {
					old[op.key] = s.lookup(t, op.key)
				}
				oldRoot := s.root
				d := s.apply(t, ops)
				s.shape(t, m)
				if got, want := s.root.String(), indigoRoot(t, m); got != want {
					t.Fatalf("commit %d: root %s, indigo says %s", i, got, want)
				}
				invert(t, d, ops, old, oldRoot)
			}
		})
	}
}

func (s *treeRows) lookup(t *testing.T, key string) CID {
	t.Helper()
	blocks := map[CID][]byte{}
	for _, n := range s.rows {
		blocks[n.cid] = n.raw
	}
	c, err := walkProof(blocks, s.root, key)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// invert undoes the operations with the proof's nodes alone: that is what every consumer of the firehose does.
func invert(t *testing.T, d diff, ops []treeOp, old map[string]CID, oldRoot CID) {
	t.Helper()
	part := map[CID]*nodeData{}
	for _, n := range d.alive {
		part[n.cid] = n
	}
	load := func(at Place, id CID) (*nodeData, error) {
		if n := part[id]; n != nil {
			return n, nil
		}
		return nil, fmt.Errorf("%s at %v is not in the proof", id, at)
	}
	tr, err := openTree(d.root, d.height, load)
	if err != nil {
		t.Fatal(err)
	}
	for _, op := range slices.Backward(ops) {
		if prev := old[op.key]; prev.Defined() {
			err = tr.put(op.key, prev)
		} else {
			_, err = tr.remove(op.key)
		}
		if err != nil {
			t.Fatalf("undo %v: %v", op, err)
		}
	}
	if got := tr.flush(1).root; got != oldRoot {
		t.Fatalf("undone root %s, was %s", got, oldRoot)
	}
}
