package repo_test

import (
	"bytes"
	"testing"
	"time"
)

func TestResync(t *testing.T) {
	t.Parallel()
	r := filled(t, 3)
	before, err := r.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	seq := time.Now().Add(time.Hour).UnixMicro()
	c, err := r.Resync(t.Context(), seq)
	if err != nil || c.Seq != seq || c.Rev <= before.Rev || c.Data != before.Data {
		t.Fatalf("%+v after %+v, %v", c, before, err)
	}
	n := 0
	for e, err := range r.Events(t.Context(), seq-1) {
		if err != nil {
			t.Fatal(err)
		}
		if n++; e.Seq != seq || !bytes.Contains(e.Body, []byte("#sync")) {
			t.Errorf("event %d: %q", e.Seq, e.Body)
		}
	}
	if n != 1 {
		t.Errorf("%d events", n)
	}
	again, err := r.Resync(t.Context(), 1)
	if err != nil || again.Seq <= seq {
		t.Errorf("a lower number: %+v, %v", again, err)
	}
	if ok, err := r.Signed(t.Context()); err != nil || !ok {
		t.Errorf("signed: %v, %v", ok, err)
	}
}
