package upload

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/atcr-dev/atcr/storage"
)

const bob = "did:web:bob.test"

func newSpool(t *testing.T, dir string, limit int64) *spool {
	t.Helper()
	sp, err := openSpool(dir, limit, func(upload string) (string, error) { return "did:web:" + strings.TrimRight(upload, "0123456789"), nil })
	if err != nil {
		t.Fatal(err)
	}
	return sp
}

func (sp *spool) putText(did, upload string, n, size int) error {
	_, _, err := sp.put(did, upload, n, strings.NewReader(strings.Repeat("x", size)))
	return err
}

// However often a part comes at once, the spool counts what lies in it: else one client could fill it for everybody by
// sending the same part again and again.
func TestSpoolCountsWhatIsThere(t *testing.T) {
	t.Parallel()
	sp := newSpool(t, t.TempDir(), 1<<30)
	part := bytes.Repeat([]byte("x"), 1000)
	for n := range 20 {
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				if _, _, err := sp.put(alice, "upload", n, bytes.NewReader(part)); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	}
	if want := (amount{20 * 1000, 20}); sp.used != want || sp.byDID[alice] != want {
		t.Errorf("the spool counts %v, of the account %v, want %v", sp.used, sp.byDID[alice], want)
	}
	sp.dropAll("upload")
	if sp.used != (amount{}) || len(sp.byDID) != 0 || len(sp.owners) != 0 {
		t.Errorf("empty, it counts %v, %v, %v", sp.used, sp.byDID, sp.owners)
	}
}

// One account has its share of the spool, in bytes and in files, however many uploads it makes; who has used it up keeps nobody else out.
func TestSpoolShares(t *testing.T) {
	t.Parallel()
	sp := newSpool(t, t.TempDir(), 1<<20)
	put := func(did, upload string, n, size int, want error) {
		t.Helper()
		before := sp.used
		if err := sp.putText(did, upload, n, size); !errors.Is(err, want) {
			t.Errorf("%s part %d of %d bytes: %v, want %v", upload, n, size, err, want)
		}
		if want != nil && sp.used != before {
			t.Errorf("%s part %d left %v, before it was %v", upload, n, sp.used, before)
		}
	}
	put(alice, "alice1", 2, 200_000, nil)
	put(alice, "alice1", 3, 100_000, ErrSpoolShare)
	put(alice, "alice2", 2, 100_000, ErrSpoolShare)
	put(alice, "alice2", 2, 60_000, nil)
	put(alice, "alice2", 3, 0, ErrBadPart)
	put(bob, "bob1", 2, 200_000, nil)
	sp.drop("alice1", 2)
	put(alice, "alice2", 3, 200_000, nil)
	for i := range 2 {
		put(fmt.Sprint("did:web:c", i), fmt.Sprint("c", i), 2, 260_000, nil)
	}
	put("did:web:d", "d", 2, 200_000, storage.ErrNoSpace) // all of it is used up, by four
	sp.dropAll("c0")
	sp.dropAll("alice2")
	sp.count(alice, amount{files: maxSpoolParts - 2}) // of other uploads
	put(alice, "alice1", 3, 1, nil)
	put(alice, "alice2", 3, 1, nil)
	put(alice, "alice9", 2, 1, ErrSpoolShare)
	put(alice, "alice1", 3, 1, ErrSpoolShare) // one that is there
	put(bob, "bob1", 3, 1, nil)
}

// What lies in the spool counts to its account again after a start, and an unfinished file is removed.
func TestSpoolOpened(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	sp := newSpool(t, dir, 1<<20)
	for n := range 3 {
		if err := sp.putText("did:web:alice", "alice1", n, 50_000); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(dir+"/alice1/.tmp-x", make([]byte, 100_000), 0o600); err != nil {
		t.Fatal(err)
	}
	sp = newSpool(t, dir, 1<<20)
	if want := (amount{150_000, 3}); sp.used != want || sp.byDID["did:web:alice"] != want {
		t.Errorf("counted %v, of the account %v", sp.used, sp.byDID)
	}
	if err := sp.putText("did:web:alice", "alice2", 2, 200_000); !errors.Is(err, ErrSpoolShare) {
		t.Errorf("more than the share: %v", err)
	}
	sp.dropAll("alice1")
	if sp.used != (amount{}) || len(sp.byDID) != 0 {
		t.Errorf("empty, it counts %v, %v", sp.used, sp.byDID)
	}
}
