package repo

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sort"
	"strings"
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

// apply changes the stored tree and returns the proof's nodes.
func (s *treeRows) apply(ops []treeOp) (diff, error) {
	tr, err := openTree(s.root, s.h, s.load)
	if err != nil {
		return diff{}, err
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
			return diff{}, err
		}
	}
	d := tr.flush(1)
	for _, at := range d.drop {
		delete(s.rows, at)
	}
	for _, n := range d.put {
		nd, err := decodeNode(n.Data)
		if err != nil {
			return diff{}, err
		}
		nd.cid = n.CID
		s.rows[n.Place] = nd
	}
	s.root, s.h = d.root, d.height
	return d, nil
}

func (s *treeRows) mustApply(t *testing.T, ops []treeOp) diff {
	t.Helper()
	d, err := s.apply(ops)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// treeOp sets a key, or deletes it when val is not defined.
type treeOp struct {
	key string
	val CID
}

func (op treeOp) String() string {
	if op.val.Defined() {
		return fmt.Sprintf("put %s (height %d)", op.key, keyHeight(op.key))
	}
	return fmt.Sprintf("delete %s (height %d)", op.key, keyHeight(op.key))
}

func newTreeRows() *treeRows {
	d := emptyTree().flush(1)
	s := &treeRows{rows: map[Place]*nodeData{}, root: d.root}
	nd, _ := decodeNode(d.put[0].Data)
	nd.cid = d.root
	s.rows[Place{}] = nd
	return s
}

// indigoRoot builds the tree afresh with indigo: its own trees go wrong after being emptied.
func indigoRoot(m map[string]CID) (string, error) {
	tree := mst.NewEmptyTree()
	for k, v := range m {
		c, err := cid.Cast(v.Bytes())
		if err != nil {
			return "", err
		}
		if _, err := tree.Insert([]byte(k), c); err != nil {
			return "", err
		}
	}
	c, err := tree.RootCID()
	if err != nil {
		return "", err
	}
	return c.String(), nil
}

// shape walks the stored rows and makes sure that they are exactly the tree, in their places, and in streaming order.
func (s *treeRows) shape(m map[string]CID) error {
	seen := map[Place]bool{}
	var keys []string
	var walk func(at Place, id CID, lo, hi string, root bool) error
	walk = func(at Place, id CID, lo, hi string, root bool) error {
		n, err := s.load(at, id)
		if err != nil {
			return err
		}
		seen[at] = true
		h := at.Height
		if root {
			h = -1
		}
		if got, err := n.checkAt(h, lo, hi); err != nil || got != at.Height {
			return fmt.Errorf("node at %v: height %d, %w", at, got, err)
		}
		for i := range n.kids {
			l, u := lo, hi
			if i > 0 {
				l = n.keys[i-1]
				keys = append(keys, l)
				if m[l] != n.vals[i-1] {
					return fmt.Errorf("%s is %s, want %s", l, n.vals[i-1], m[l])
				}
			}
			if i < len(n.keys) {
				u = n.keys[i]
			}
			if n.kids[i].Defined() {
				if err := walk(Place{l, at.Height - 1}, n.kids[i], l, u, false); err != nil {
					return err
				}
			}
		}
		return nil
	}
	if err := walk(Place{Height: s.h}, s.root, "", "", true); err != nil {
		return err
	}
	if len(seen) != len(s.rows) {
		return fmt.Errorf("%d rows stored, the tree has %d nodes", len(s.rows), len(seen))
	}
	if !sort.StringsAreSorted(keys) || len(keys) != len(m) {
		return fmt.Errorf("%d keys in order %v, want %d", len(keys), sort.StringsAreSorted(keys), len(m))
	}
	return nil
}

// invert undoes the operations with the proof's nodes alone: that is what every consumer of the firehose does.
func invert(d diff, ops []treeOp, old map[string]CID, oldRoot CID) error {
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
		return err
	}
	for _, op := range slices.Backward(ops) {
		if prev := old[op.key]; prev.Defined() {
			err = tr.put(op.key, prev)
		} else {
			_, err = tr.remove(op.key)
		}
		if err != nil {
			return fmt.Errorf("undo %v: %w", op, err)
		}
	}
	if got := tr.flush(1).root; got != oldRoot {
		return fmt.Errorf("undone root %s, was %s", got, oldRoot)
	}
	return nil
}

// seqOp is one operation of a sequence, and whether a commit ends after it.
type seqOp struct {
	treeOp
	commit bool
}

// randomOps alternates between growing and shrinking, in commits of up to batch operations.
func randomOps(rnd *rand.Rand, keys, commits, batch int) (seq []seqOp) {
	space := make([]string, keys)
	for i := range space {
		space[i] = fmt.Sprintf("%s/k%05d", []string{"io.atcr.tag", "io.atcr.manifest", "a.b.c", "a.b.c.d"}[i%4], i/4)
	}
	for i := range commits {
		grow := (i/40)%2 == 0
		for range 1 + rnd.IntN(batch) {
			op := treeOp{key: space[rnd.IntN(keys)]}
			if grow && rnd.IntN(5) > 0 || rnd.IntN(4) == 0 {
				op.val = RecordCID(fmt.Append(nil, op.key, rnd.Uint64()))
			}
			seq = append(seq, seqOp{treeOp: op})
		}
		seq[len(seq)-1].commit = true
	}
	return seq
}

// runTree applies a sequence and holds each commit against a map, indigo's root, and the commit undone from its own proof. A
// deletion of what isn't there, and a second operation on a key in one commit, do nothing: so any part of a sequence is one, too.
func runTree(seq []seqOp) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	s, m := newTreeRows(), map[string]CID{}
	var ops []treeOp
	old := map[string]CID{} // what the commit's keys were
	for i, op := range seq {
		_, again := old[op.key]
		if !again && (op.val.Defined() || m[op.key].Defined()) {
			old[op.key] = m[op.key]
			ops = append(ops, op.treeOp)
			if m[op.key] = op.val; !op.val.Defined() {
				delete(m, op.key)
			}
		}
		if !op.commit && i < len(seq)-1 {
			continue
		}
		oldRoot := s.root
		d, err := s.apply(ops)
		if err == nil {
			err = s.shape(m)
		}
		if err == nil {
			var want string
			if want, err = indigoRoot(m); err == nil && s.root.String() != want {
				err = fmt.Errorf("root %s, indigo says %s", s.root, want)
			}
		}
		if err == nil {
			err = invert(d, ops, old, oldRoot)
		}
		if err != nil {
			return fmt.Errorf("after operation %d: %w", i+1, err)
		}
		ops, old = nil, map[string]CID{}
	}
	return nil
}

// TestTreeAgainstIndigo runs random batches over small and large key spaces. A failure is told as the shortest sequence that
// still fails.
func TestTreeAgainstIndigo(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ keys, commits, batch int }{{24, 300, 3}, {300, 300, 6}, {5000, 40, 200}} {
		t.Run(fmt.Sprint(c.keys), func(t *testing.T) {
			seed := rand.Uint64()
			t.Logf("seed %d", seed)
			seq := randomOps(rand.New(rand.NewPCG(seed, 1)), c.keys, c.commits, c.batch)
			if err := runTree(seq); err != nil {
				t.Error(err)
				t.Fatal(explain(seq, runTree))
			}
		})
	}
}

// explain shrinks a sequence that fails and prints what is left.
func explain(seq []seqOp, run func([]seqOp) error) string {
	short := Shrink(seq, func(s []seqOp) bool { return run(s) != nil })
	var b strings.Builder
	fmt.Fprintf(&b, "%d of %d operations are enough:\n", len(short), len(seq))
	for _, op := range short {
		fmt.Fprintf(&b, "  %v\n", op.treeOp)
		if op.commit {
			b.WriteString("  commit\n")
		}
	}
	fmt.Fprintf(&b, "then: %v", run(short))
	return b.String()
}

// TestExplain: a sequence that fails is told in its shortest form.
func TestExplain(t *testing.T) {
	t.Parallel()
	seq := randomOps(rand.New(rand.NewPCG(1, 1)), 24, 100, 3)
	bad := seq[57].key
	got := explain(seq, func(s []seqOp) error {
		if err := runTree(s); err != nil {
			return err
		}
		for _, op := range s {
			if op.key == bad && op.val == seq[57].val {
				return errors.New("planted")
			}
		}
		return nil
	})
	if !strings.HasPrefix(got, "1 of ") || !strings.Contains(got, bad) || !strings.Contains(got, "then: planted") {
		t.Error(got)
	}
}
