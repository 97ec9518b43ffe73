package filestore

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/atcr-dev/atcr/storage"
	"github.com/opencontainers/go-digest"
)

func stateOf(t *testing.T, alg digest.Algorithm, seq uint64, b []byte) state {
	t.Helper()
	h, err := storage.NewHash(alg)
	must(t, err)
	h.Write(b)
	sum, err := marshalHash(h)
	must(t, err)
	return state{seq: seq, offset: int64(len(b)), alg: alg, sum: sum}
}

// TestStateSlots: whatever happens to one slot, the other one counts, and only if the bytes reach that far.
func TestStateSlots(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	var d disk
	read := func(size int64) (int64, uint64) {
		t.Helper()
		st, seq, err := readState(path, size, digest.SHA512)
		must(t, err)
		if _, err := st.hash(); err != nil {
			t.Fatal(err)
		}
		return st.offset, seq
	}
	want := func(what string, size, offset int64, seq uint64) {
		t.Helper()
		if o, s := read(size); o != offset || s != seq {
			t.Errorf("%s: offset %d, sequence %d; want %d, %d", what, o, s, offset, seq)
		}
	}
	want("no file", 1000, 0, 0)
	for i, alg := range []digest.Algorithm{digest.SHA256, digest.SHA512, digest.SHA256} {
		must(t, d.writeState(path, stateOf(t, alg, uint64(i+1), pattern(100*(i+1)))))
		want("after writing", 1000, int64(100*(i+1)), uint64(i+1))
	}
	want("bytes are shorter than the newest", 250, 200, 3)
	want("bytes are shorter than both", 50, 0, 3)
	whole, err := os.ReadFile(path)
	must(t, err)
	// The newest is in slot 1. Tear it at every length, then flip every bit.
	end := slotSize + slotHeader + len(stateOf(t, digest.SHA256, 1, nil).sum) + 4
	for n := slotSize; n < end; n++ {
		must(t, os.WriteFile(path, whole[:n], 0o600))
		if o, _ := read(1000); o != 200 {
			t.Fatalf("newest slot torn at %d: offset %d, want the older 200", n-slotSize, o)
		}
	}
	for bit := range 8 * 120 {
		b := bytes.Clone(whole)
		b[slotSize+bit/8] ^= 1 << (bit % 8)
		must(t, os.WriteFile(path, b, 0o600))
		if o, _ := read(1000); o != 200 {
			t.Fatalf("bit %d of the newest slot flipped: offset %d, want the older 200", bit, o)
		}
	}
}

func FuzzParseSlot(f *testing.F) {
	dir := f.TempDir()
	var d disk
	for i, alg := range algorithms {
		h, _ := storage.NewHash(alg)
		h.Write([]byte("seed"))
		sum, _ := marshalHash(h)
		path := filepath.Join(dir, alg.String())
		if err := d.writeState(path, state{seq: uint64(i + 1), offset: 4, alg: alg, sum: sum}); err != nil {
			f.Fatal(err)
		}
		b, _ := os.ReadFile(path)
		f.Add(b[max(0, len(b)-slotSize):])
	}
	f.Add([]byte{})
	f.Add([]byte(slotMagic))
	f.Fuzz(func(t *testing.T, b []byte) {
		st, ok := parseSlot(b)
		if !ok {
			return
		}
		if h, err := st.hash(); err != nil || h == nil || st.offset < 0 {
			t.Errorf("accepted %x, but: %v, offset %d", b, err, st.offset)
		}
	})
}

func FuzzID(f *testing.F) {
	s, err := loadSigner(f.TempDir())
	if err != nil {
		f.Fatal(err)
	}
	good := s.newID(digest.SHA512, time.Unix(1_700_000_000, 0))
	for _, seed := range []string{good, good[1:], "", "../" + good, good + "=", "\x00"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, id string) {
		_, signed := s.read(id)
		if signed && id != good {
			t.Errorf("%q passes for signed", id)
		}
		if isID(id) && filepath.Base(id) != id {
			t.Errorf("%q passes for a name", id)
		}
	})
}

func TestIDs(t *testing.T) {
	dir := t.TempDir()
	s, err := loadSigner(dir)
	must(t, err)
	at := time.Unix(1_700_000_000, 0)
	for _, alg := range algorithms {
		id := s.newID(alg, at)
		v, ok := s.read(id)
		if !ok || !isID(id) || v.alg != alg || !v.made.Equal(at) || !v.thisRun {
			t.Errorf("id %s reads as %+v, %v", id, v, ok)
		}
		next, err := loadSigner(dir)
		must(t, err)
		if v, ok := next.read(id); !ok || v.thisRun {
			t.Errorf("in the next run id %s reads as %+v, %v", id, v, ok)
		}
		other, err := loadSigner(t.TempDir())
		must(t, err)
		if _, ok := other.read(id); ok {
			t.Error("another store's id passes")
		}
	}
	if st, err := os.Stat(filepath.Join(dir, keyName)); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("the key's mode is %v, %v; want 0600", st.Mode(), err)
	}
}
