package upload

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/atcr-dev/atcr/internal/realtest"
	"github.com/atcr-dev/atcr/internal/room"
)

const mallory = "did:web:mallory.test"

// atRest is an upload of a DID with one part, which nobody works on.
func (f *fixture) atRest(did string, n, size int) (id string) {
	f.t.Helper()
	id, err := f.Begin(f.t.Context(), did, "")
	if err != nil {
		f.t.Fatal(err)
	}
	f.take(id, n, strings.Repeat("x", size))
	f.ahead.Add(120)
	return id
}

func (f *fixture) there(id string) bool {
	_, err := f.Find(f.t.Context(), id)
	return err == nil
}

// What lies on another disk than the one that is full stays.
func TestRoomOnTheDiskThatIsFull(t *testing.T) {
	for _, test := range []struct {
		name            string
		spool, layers   bool // on the disk that is full
		n               int  // part that is sent
		stored, spooled bool // what goes
		full            bool
	}{
		{"spool", true, false, 3, false, true, false},
		{"layers", false, true, 1, true, false, true}, // a storage in memory frees nothing there
		{"one disk", true, true, 1, true, true, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			disk := realtest.NewSmallDisk(t, 16<<20)
			f := newFixture(t, nil)
			f.o.MaxSpool, f.o.Layers = 16<<20, t.TempDir()
			if test.spool {
				f.o.Spool = filepath.Join(disk.Dir, "spool")
			}
			if test.layers {
				f.o.Layers = disk.Dir
			}
			f.open()
			stored, spooled := f.atRest(mallory, 1, 4<<20), f.atRest(mallory, 2, 3<<20)
			disk.Fill(16<<20/16 + 4096)
			if test.name == "one disk" { // else freeing what's in memory is taken to be enough
				if err := f.Abort(t.Context(), stored); err != nil {
					t.Fatal(err)
				}
			}
			_, err := f.Take(t.Context(), f.begin(), test.n, strings.NewReader("some"))
			if errors.Is(err, room.ErrFull) != test.full || err != nil && !test.full {
				t.Errorf("a part: %v", err)
			}
			if f.there(stored) == test.stored || f.there(spooled) == test.spooled {
				t.Errorf("there are: stored %v, spooled %v", f.there(stored), f.there(spooled))
			}
		})
	}
}

// Who came back to an upload after it was listed keeps it.
func TestRoomWhileSomebodyWorks(t *testing.T) {
	d := digest.FromString("one")
	for name, meanwhile := range map[string]func(f *fixture, id string, one Part) error{
		"a part": func(f *fixture, id string, _ Part) error {
			_, err := f.Take(f.t.Context(), id, 2, strings.NewReader("two"))
			return err
		},
		"an early part": func(f *fixture, id string, _ Part) error {
			_, err := f.Take(f.t.Context(), id, 3, strings.NewReader("three"))
			return err
		},
		"completed": func(f *fixture, id string, one Part) error {
			return f.Complete(f.t.Context(), id, alice, d, given(one))
		},
		"the outcome is unknown": func(f *fixture, id string, _ Part) error {
			_, err := f.db.Write().ExecContext(f.t.Context(), `update hold_upload set commit_digest = $1`, d.String())
			return err
		},
		"aborted": func(f *fixture, id string, _ Part) error { return f.Abort(f.t.Context(), id) },
		"nothing": nil,
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, nil)
			var listed func()
			clock := f.o.Clock
			f.o.Clock = func() time.Time { // is asked once uploads are listed
				if g := listed; g != nil {
					listed = nil
					g()
				}
				return clock()
			}
			f.open()
			id := f.begin()
			one := f.take(id, 1, "one")
			on := place{stored: true, spooled: true}
			if freed, err := f.makeRoom(t.Context(), bob, on); freed != 0 || err != nil {
				t.Errorf("just after a part: %d bytes freed, %v", freed, err)
			}
			f.ahead.Add(120)
			if meanwhile == nil {
				if freed, err := f.makeRoom(t.Context(), bob, on); freed != 3 || err != nil || f.there(id) {
					t.Errorf("at rest: %d bytes freed, %v", freed, err)
				}
				return
			}
			listed = func() {
				if err := meanwhile(f, id, one); err != nil {
					t.Error(err)
				}
			}
			freed, err := f.makeRoom(t.Context(), bob, on)
			if freed != 0 || err != nil || listed != nil || f.there(id) == (name == "aborted") {
				t.Errorf("%d bytes freed, %v", freed, err)
			}
			if name == "completed" && f.Complete(t.Context(), id, alice, d, given(one)) != nil {
				t.Error("the complete upload was forgotten")
			}
		})
	}
}

// An upload that is completed after Expire listed it is remembered.
func TestExpireWhileCompleted(t *testing.T) {
	f := newFixture(t, nil)
	id := f.atRest(alice, 1, 10)
	old, err := f.old(t.Context(), f.o.Clock())
	if err != nil || len(old) != 1 {
		t.Fatal(old, err)
	}
	if _, err := f.db.Write().ExecContext(t.Context(), `update hold_upload set done = 1`); err != nil {
		t.Fatal(err)
	}
	if dropped, err := f.dropResting(t.Context(), old[0]); dropped || err != nil || !f.there(id) {
		t.Errorf("dropped: %v, %v", dropped, err)
	}
}

// Who has filled the disk with blobs has no room made by others' uploads, but one's own still go.
func TestRoomCountsBlobs(t *testing.T) {
	f := newFixture(t, nil)
	f.o.Leased = func(context.Context) (map[string]int64, error) { return map[string]int64{mallory: 1 << 30}, nil }
	f.open()
	spooled, stored := place{spooled: true}, place{stored: true}
	bobs := f.atRest(bob, 1, 100)
	f.take(bobs, 3, "early")
	f.ahead.Add(120)
	if freed, err := f.makeRoom(t.Context(), mallory, stored); freed != 0 || err != nil {
		t.Errorf("for who takes most: %d bytes freed, %v", freed, err)
	}
	own := f.atRest(mallory, 1, 10)
	for _, did := range []string{mallory, alice} {
		if freed, err := f.makeRoom(t.Context(), did, stored); freed != 10 || err != nil || f.there(own) || !f.there(bobs) {
			t.Errorf("for %s: %d bytes freed, %v", did, freed, err)
		}
		own = f.atRest(mallory, 1, 10)
	}
	if freed, err := f.makeRoom(t.Context(), mallory, spooled); freed != 5 || err != nil || f.there(bobs) {
		t.Errorf("on a disk without blobs: %d bytes freed, %v", freed, err)
	}
}
