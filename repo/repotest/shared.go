package repotest

import (
	"errors"
	"testing"
	"time"

	"github.com/atcr-dev/atcr/repo"
)

// shared checks, of a store that others may write meanwhile, that two repositories over it go on from each other's commits and
// tell their followers of them. Other stores promise nothing of it.
func shared(t *testing.T, s repo.Store) {
	if !s.Shared() {
		return
	}
	ctx := t.Context()
	key := newKey(t)
	one := Open(t, s, repo.Options{Key: key})
	two := Open(t, s, repo.Options{Key: key})
	for n := range 3 {
		theirs := must[repo.Commit](t)(one.Apply(ctx, []repo.Write{put(t, "one", n)}))
		finds(t, two, uint64(n+1))
		if ours := must[repo.Commit](t)(two.Apply(ctx, []repo.Write{put(t, "two", n)})); ours.Since != theirs.Rev {
			t.Fatalf("a commit follows %s, not the other's %s", ours.Since, theirs.Rev)
		}
		finds(t, one, uint64(n+1))
	}
	if _, err := one.Apply(ctx, []repo.Write{{Action: repo.Create, Collection: coll, RKey: "two",
		Record: record(t, `{"$type":%q}`, coll)}}); !errors.Is(err, repo.ErrExists) {
		t.Fatalf("a create of what the other wrote: %v", err)
	}
	Check(t, one, s)
}

// finds waits until a repository has found so many commits of others, by what it tells its followers.
func finds(t *testing.T, r *repo.Repo, want uint64) {
	t.Helper()
	late := time.After(time.Minute)
	for {
		changed := r.Changed()
		if r.Foreign() >= want {
			break
		}
		select {
		case <-changed:
		case <-late:
			t.Fatalf("a repository over a shared store found %d of the %d commits that another made", r.Foreign(), want)
		}
	}
	if got := r.Foreign(); got != want {
		t.Fatalf("%d commits of others were found, of %d", got, want)
	}
}
