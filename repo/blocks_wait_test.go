package repo

import (
	"context"
	"errors"
	"io"
	"iter"
	"testing"
)

// scanned is a store that tells of each of its Views.
type scanned struct {
	Store
	views chan struct{}
}

func (s *scanned) View(ctx context.Context, f func(Reader) error) error {
	s.views <- struct{}{}
	return f(nothing{s.Read(ctx)})
}

func (s *scanned) Read(context.Context) Reader { return nothing{} }

// nothing is a repository without nodes and records.
type nothing struct{ Reader }

func (nothing) Head() (Head, error)           { return Head{}, nil }
func (nothing) Nodes() iter.Seq2[Node, error] { return func(func(Node, error) bool) {} }
func (nothing) Records(string, string, bool, int) iter.Seq2[StoredRecord, error] {
	return func(func(StoredRecord, error) bool) {}
}

// TestBlocksWait: who waits for another's pass over everything has no View open, of which a store has few.
func TestBlocksWait(t *testing.T) {
	t.Parallel()
	s := &scanned{views: make(chan struct{}, 16)}
	r := &Repo{store: s, nodes: newNodeCache(8), scan: make(chan struct{}, 1)}
	r.scan <- struct{}{} // another's
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	for i := range 8 {
		go func() {
			_, err := r.Blocks(ctx, io.Discard, []CID{RecordCID([]byte{byte(i)})})
			ended <- err
		}()
	}
	select {
	case <-s.views:
		t.Error("a View was opened while another's pass goes on")
	default:
	}
	cancel()
	for range 8 {
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("one that waited: %v", err)
		}
	}
	if len(s.views) > 0 {
		t.Error("a View was opened while another's pass goes on")
	}
	<-r.scan
	if missing, err := r.Blocks(t.Context(), io.Discard, []CID{RecordCID(nil)}); err != nil || len(missing) != 1 || len(s.views) != 1 {
		t.Errorf("after it: %v, %v, %d passes", missing, err, len(s.views))
	}
}
