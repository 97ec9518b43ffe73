package repo_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/atcr-dev/atcr/repo"
	"github.com/atcr-dev/atcr/repo/memstore"
	"github.com/atcr-dev/atcr/repo/repotest"
)

// A clock that is set back by two minutes, once while the repository is open and once between two starts: revisions and event
// numbers rise all the same, and everything verifies.
func TestClockSetBack(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	clock := func() time.Time { return now }
	store := memstore.New()
	key := newKey(t)
	r := repotest.Open(t, store, repo.Options{DID: testDID, Key: key, Clock: clock})
	rev, seq := "", int64(0)
	write := func(n int) {
		t.Helper()
		for range n {
			value, err := repo.RecordFromJSON([]byte(fmt.Sprintf(`{"seq":%d}`, seq)))
			if err != nil {
				t.Fatal(err)
			}
			c, err := r.Apply(t.Context(), []repo.Write{{Action: repo.Put, Collection: "io.atcr.tag", RKey: "k", Record: value}})
			if err != nil {
				t.Fatal(err)
			}
			now2, err := r.Seq(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if c.Rev <= rev || now2 <= seq {
				t.Fatalf("revision %s after %s, event %d after %d", c.Rev, rev, now2, seq)
			}
			rev, seq = c.Rev, now2
		}
	}
	write(3)
	now = now.Add(-2 * time.Minute)
	write(3)
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	now = now.Add(-2 * time.Minute)
	r = repotest.Open(t, store, repo.Options{DID: testDID, Key: key, Clock: clock})
	write(3)
	now = now.Add(time.Hour)
	write(1)
	repotest.Check(t, r, store)
}
