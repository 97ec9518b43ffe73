package keyed_test

import (
	"testing"
	"time"

	"github.com/atcr-dev/atcr/registry/pds/internal/keyed"
)

func TestMemo(t *testing.T) {
	now := time.Now()
	m := keyed.NewMemo[int, string](2)
	m.Put(1, "one", now.Add(time.Second))
	if v, ok := m.Get(1, now); v != "one" || !ok {
		t.Errorf("%q %v", v, ok)
	}
	if v, ok := m.Get(1, now.Add(time.Second)); v != "" || ok {
		t.Errorf("after its end: %q %v", v, ok)
	}
	m.Put(1, "uno", now.Add(time.Second)) // no place is needed
	m.Put(2, "two", now.Add(time.Second))
	m.Put(3, "three", now.Add(time.Second))
	n := 0
	for k := range 4 {
		if _, ok := m.Get(k, now); ok {
			n++
		}
	}
	if _, ok := m.Get(3, now); n != 2 || !ok {
		t.Errorf("%d are kept, the last: %v", n, ok)
	}
	m.Drop(3)
	if _, ok := m.Get(3, now); ok {
		t.Error("it was dropped")
	}
}
