package repo

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestTwoTrees adds keys to trees in many ways and compares what is stored then with a tree that is built at once. What did not
// change is not written.
func TestTwoTrees(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(3, 5))
	for round := range 600 {
		space := []int{6, 40, 400, 3000}[round%4]
		was, now := map[string]CID{}, map[string]CID{}
		some := func(n int, into map[string]CID) {
			for range n {
				key := fmt.Sprintf("a.b.c/%d", rnd.IntN(space))
				into[key] = RecordCID(fmt.Append(nil, key, rnd.IntN(2)))
			}
		}
		some(1+rnd.IntN(space), was)
		maps.Copy(now, was)
		some(rnd.IntN(space), now)

		rows := map[Place]Node{}
		root, height := built(t, was, 1, rows)
		want := map[Place]Node{}
		wantRoot, wantHeight := built(t, now, 2, want)

		b := &bulk{rev: 2, part: func(c *Changes) error {
			for _, n := range c.PutNodes {
				if rows[n.Place].CID == n.CID {
					t.Errorf("round %d: the node at %v was written and is the same", round, n.Place)
				}
				rows[n.Place] = n
			}
			for _, at := range c.DropNodes {
				if _, ok := rows[at]; !ok {
					t.Errorf("round %d: %v was dropped and is not there", round, at)
				}
				delete(rows, at)
			}
			return nil
		}}
		two := newTwoTrees(b)
		for _, key := range slices.Sorted(maps.Keys(now)) {
			var old *storedKey
			if id, ok := was[key]; ok {
				old = &storedKey{path: key, cid: id}
			}
			if err := two.add(key, now[key], old); err != nil {
				t.Fatal(err)
			}
		}
		gotRoot, gotHeight, err := two.finish(Head{Root: root, Height: height})
		if err == nil {
			err = b.flush()
		}
		if err != nil || gotRoot != wantRoot || gotHeight != wantHeight {
			t.Fatalf("round %d: root %s at %d, want %s at %d; %v", round, gotRoot, gotHeight, wantRoot, wantHeight, err)
		}
		if len(rows) != len(want) {
			t.Fatalf("round %d: %d nodes, want %d", round, len(rows), len(want))
		}
		for at, n := range want {
			if rows[at].CID != n.CID {
				t.Fatalf("round %d: at %v is %s, want %s", round, at, rows[at].CID, n.CID)
			}
		}
	}
}

// TestTwoTreesOfOther refuses records that do not make the tree of the head.
func TestTwoTreesOfOther(t *testing.T) {
	t.Parallel()
	two := newTwoTrees(&bulk{part: func(*Changes) error { return nil }})
	if err := two.add("a.b.c/k", RecordCID(nil), &storedKey{path: "a.b.c/k", cid: RecordCID([]byte("x"))}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := two.finish(Head{Root: RecordCID([]byte("y"))}); !errors.Is(err, ErrCorrupt) {
		t.Errorf("error is %v, want ErrCorrupt", err)
	}
}

func built(t *testing.T, keys map[string]CID, rev TID, into map[Place]Node) (CID, int) {
	t.Helper()
	b := builder{rev: rev, emit: func(n Node) error { into[n.Place] = n; return nil }}
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		if err := b.add(key, keys[key]); err != nil {
			t.Fatal(err)
		}
	}
	root, height, err := b.finish()
	if err != nil {
		t.Fatal(err)
	}
	return root, height
}
