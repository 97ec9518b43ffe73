package repotest

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/atcr-dev/atcr/repo"
)

// rows checks what a store promises of its rows, without a Repo above it.
func rows(t *testing.T, open func(t *testing.T) repo.Store) {
	s := open(t)
	ctx := t.Context()
	id := func(s string) repo.CID { return repo.RecordCID([]byte(s)) }
	r := s.Read(ctx)
	if _, err := r.Head(); !errors.Is(err, repo.ErrNotFound) {
		t.Fatalf("head of a new store: %v", err)
	}
	head := repo.Head{CID: id("c"), Rev: 5, Root: id("r"), Height: 2, Records: 3, Seq: 9, Block: []byte("block")}
	order := []repo.Place{{Fence: "", Height: 3}, {Fence: "", Height: 0}, {Fence: "a.b.c.d/x", Height: 1},
		{Fence: "a.b.c/x", Height: 2}, {Fence: "a.b.c/x", Height: 0}}
	c := &repo.Changes{Head: &head}
	for i, at := range slices.Backward(order) {
		c.PutNodes = append(c.PutNodes, repo.Node{Place: at, CID: id(at.Fence), Rev: repo.TID(i), Data: []byte{byte(i)}})
	}
	for _, p := range []string{"a.b.c/x", "a.b.c.d/x", "a.b.c/", "a.b.cc/x"} {
		c.PutRecords = append(c.PutRecords, repo.StoredRecord{Path: p, CID: id(p), Rev: 5, Value: []byte(p)})
	}
	for i := range 5 {
		c.Events = append(c.Events, repo.Event{Seq: int64(i + 5), Rev: 5, Body: []byte("e")})
	}
	update := func(c *repo.Changes, fail error) error {
		return s.Update(ctx, func(repo.Reader) (*repo.Changes, error) { return c, fail })
	}
	mine := errors.New("mine")
	if err := update(c, mine); !errors.Is(err, mine) {
		t.Fatalf("Update: %v", err)
	}
	if _, err := r.Head(); !errors.Is(err, repo.ErrNotFound) {
		t.Fatalf("a failed Update wrote: %v", err)
	}
	if err := update(c, nil); err != nil {
		t.Fatal(err)
	}
	if h, err := r.Head(); err != nil || h.CID != head.CID || h.Rev != 5 || h.Root != head.Root || h.Height != 2 || h.Records != 3 ||
		h.Seq != 9 || string(h.Block) != "block" {
		t.Fatalf("head %+v, %v", h, err)
	}
	var places []repo.Place
	var paths []string
	err := s.View(ctx, func(r repo.Reader) error {
		for n, err := range r.Nodes() {
			if err != nil {
				return err
			}
			places = append(places, n.Place)
		}
		for rec, err := range r.Records("", "", false, 0) {
			if err != nil {
				return err
			}
			paths = append(paths, rec.Path)
		}
		return nil
	})
	if err != nil || !slices.Equal(places, order) {
		t.Fatalf("nodes in order %v, %v", places, err)
	}
	if want := []string{"a.b.c.d/x", "a.b.c/", "a.b.c/x", "a.b.cc/x"}; !slices.Equal(paths, want) {
		t.Fatalf("records in order %v", paths)
	}
	walk := func(r repo.Reader) error { return ways(r, order) }
	if err := s.View(ctx, walk); err != nil {
		t.Fatal(err)
	}
	if err := s.Update(ctx, func(r repo.Reader) (*repo.Changes, error) { return nil, walk(r) }); err != nil {
		t.Fatal(err)
	}
	if err := update(&repo.Changes{DropRecords: []string{"a.b.c/", "none/x"}, DropNodes: order[3:4], KeepEvents: 2}, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Record("a.b.c/"); !errors.Is(err, repo.ErrNotFound) {
		t.Fatalf("a dropped record: %v", err)
	}
	if _, err := r.Node(order[3]); !errors.Is(err, repo.ErrNotFound) {
		t.Fatalf("a dropped node: %v", err)
	}
	if n, err := r.Node(order[4]); err != nil || n.Rev != 4 || n.CID != id("a.b.c/x") || n.Data[0] != 4 {
		t.Fatalf("node %+v, %v", n, err)
	}
	var seqs []int64
	for e, err := range r.Events(0, 0) {
		if err != nil {
			t.Fatal(err)
		}
		seqs = append(seqs, e.Seq)
	}
	if !slices.Equal(seqs, []int64{8, 9}) {
		t.Fatalf("events kept: %v", seqs)
	}
}

// ways checks that a store returns the whole way to a key, if it returns any; places are all there are.
func ways(r repo.Reader, places []repo.Place) error {
	for _, key := range []string{"a", "a.b.c.d/y", "a.b.c/x", "a.b.c/y"} {
		for top := range 4 {
			nodes, err := r.Path(key, top)
			if err != nil {
				return fmt.Errorf("the way to %s: %w", key, err)
			}
			if len(nodes) == 0 {
				continue // it is cheap to ask for each
			}
			got := map[repo.Place]bool{}
			for _, n := range nodes {
				same, err := r.Node(n.Place)
				if err != nil || same.CID != n.CID || same.Rev != n.Rev || !slices.Equal(same.Data, n.Data) {
					return fmt.Errorf("the way to %s has %+v, where Node answers %+v, %v", key, n, same, err)
				}
				got[n.Place] = true
			}
			last := map[int]repo.Place{}
			for _, at := range places {
				if old, ok := last[at.Height]; at.Height <= top && at.Fence <= key && (!ok || old.Fence < at.Fence) {
					last[at.Height] = at
				}
			}
			for _, at := range last {
				if !got[at] {
					return fmt.Errorf("the way to %s from height %d lacks %+v", key, top, at)
				}
			}
		}
	}
	return nil
}
