package firehose

import (
	"testing"

	"github.com/atcr-dev/atcr/repo"
)

// TestRing: what is ready for one consumer is the very bytes that are ready for another, and what is dropped is let go.
func TestRing(t *testing.T) {
	s := New(new(repo.Repo), &Options{MaxLag: 100})
	for i := range 10 {
		f := frame{int64(i + 1), wsFrame(make([]byte, 18))}
		s.ring, s.size = append(s.ring, f), s.size+len(f.data)
	}
	all := s.ring
	held, _, ok := s.ready(0, 1000)
	other, last, ok2 := s.ready(5, 1000)
	if !ok || !ok2 || len(held) != 10 || len(other) != 5 || last != 10 || &held[5][0] != &other[0][0] {
		t.Fatalf("%d and %d frames to %d, %v %v", len(held), len(other), last, ok, ok2)
	}
	if one, last, ok := s.ready(3, 1); !ok || len(one) != 1 || last != 4 {
		t.Errorf("%d frames to %d, %v", len(one), last, ok)
	}
	s.trim()
	if s.floor != 5 || len(s.ring) != 5 || s.size != 100 {
		t.Errorf("floor %d, %d frames, %d bytes", s.floor, len(s.ring), s.size)
	}
	if _, _, ok := s.ready(4, 1000); ok {
		t.Error("a frame that was dropped is ready")
	}
	if all[4].data != nil || held[4] == nil {
		t.Error("a dropped frame is kept, or was taken from one who writes it")
	}
}
