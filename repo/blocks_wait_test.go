package repo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"sync/atomic"
	"testing"
)

// scanned is a store that tells of each of its Views, and has some records.
type scanned struct {
	Store
	views   atomic.Int64
	head    CID
	records []StoredRecord
	node    *Node
}

func (s *scanned) View(ctx context.Context, f func(Reader) error) error {
	s.views.Add(1)
	return f(few{s: s})
}

func (s *scanned) Read(context.Context) Reader { return few{s: s} }

type few struct {
	Reader
	s *scanned
}

func (f few) Head() (Head, error) { return Head{CID: f.s.head}, nil }

func (f few) Nodes() iter.Seq2[Node, error] {
	return func(yield func(Node, error) bool) {
		if f.s.node != nil {
			yield(*f.s.node, nil)
		}
	}
}

func (f few) Record(path string) (StoredRecord, error) {
	i := slices.IndexFunc(f.s.records, func(r StoredRecord) bool { return r.Path == path })
	if i < 0 {
		return StoredRecord{}, ErrNotFound
	}
	return f.s.records[i], nil
}

func (f few) Records(string, string, bool, int) iter.Seq2[StoredRecord, error] {
	return func(yield func(StoredRecord, error) bool) {
		for _, r := range f.s.records {
			if !yield(r, nil) {
				return
			}
		}
	}
}

func (s *scanned) repo() *Repo { return &Repo{store: s, nodes: newNodeCache(8), passes: newPasses()} }

func nothing(n int) CID { return RecordCID(fmt.Append(nil, "nothing ", n)) }

// TestBlocksWait: who waits for another's pass over everything has no View open, of which a store has few, and few may wait.
func TestBlocksWait(t *testing.T) {
	t.Parallel()
	s := &scanned{}
	r := s.repo()
	r.passes.place <- struct{}{} // another's
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 40)
	for i := range 40 {
		go func() {
			_, err := r.Blocks(ctx, io.Discard, []CID{nothing(i)})
			ended <- err
		}()
	}
	for range 40 - maxPassWaiters {
		if err := <-ended; !errors.Is(err, ErrBusy) {
			t.Errorf("one too many: %v", err)
		}
	}
	cancel()
	for range maxPassWaiters {
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("one that waited: %v", err)
		}
	}
	if n := s.views.Load(); n > 0 {
		t.Errorf("%d Views were opened while another's pass goes on", n)
	}
	<-r.passes.place
	if missing, err := r.Blocks(t.Context(), io.Discard, []CID{nothing(0)}); err != nil || len(missing) != 1 || s.views.Load() != 1 {
		t.Errorf("after it: %v, %v, %d passes", missing, err, s.views.Load())
	}
}

// TestBlocksRemembered: one who asks for the same block again and again, one that is there or not, causes one pass until the next commit.
func TestBlocksRemembered(t *testing.T) {
	t.Parallel()
	value := []byte("\xa0")
	root := []byte("\xa2\x61e\x80\x61l\xf6")
	s := &scanned{head: nothing(-1), records: []StoredRecord{{Path: "a.b.c/k", CID: RecordCID(value), Value: value}},
		node: &Node{CID: RecordCID(root), Data: root}}
	r := s.repo()
	ask := func(passes int64, missing int, ids ...CID) {
		t.Helper()
		before := s.views.Load()
		gone, err := r.Blocks(t.Context(), io.Discard, ids)
		if err != nil || len(gone) != missing || s.views.Load()-before != passes {
			t.Errorf("%v, %v, %d passes; want %d missing and %d passes", gone, err, s.views.Load()-before, missing, passes)
		}
	}
	ask(1, 1, nothing(1))
	ask(0, 1, nothing(1))
	ask(0, 1, nothing(1), nothing(2)) // the outcome is known
	ask(1, 1, nothing(2))
	ask(1, 0, RecordCID(value))
	ask(0, 0, RecordCID(value))
	ask(0, 1, RecordCID(value), nothing(2))
	ask(1, 0, RecordCID(root))
	ask(0, 0, RecordCID(root), RecordCID(value))
	s.head = nothing(-2)
	ask(1, 1, nothing(1))
	ask(0, 1, nothing(1))
	ask(0, 0, RecordCID(value))
	s.records = nil
	ask(1, 1, RecordCID(value))
	ask(0, 1, RecordCID(value))
	ask(0, 1, BlobCID(nil)) // no block of a repository
	for i := range 3 * maxPassMemory / 100 {
		var ids []CID
		for j := range 100 {
			ids = append(ids, nothing(1000+100*i+j))
		}
		ask(1, 100, ids...)
	}
	if n := len(r.passes.missing); n > maxPassMemory {
		t.Errorf("%d are remembered", n)
	}
}
