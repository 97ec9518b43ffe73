package repo_test

import (
	"context"
	"testing"

	"github.com/atcr-dev/atcr/repo"
	"github.com/atcr-dev/atcr/repo/memstore"
	"github.com/atcr-dev/atcr/repo/repotest"
)

// headOnly is a store of which nothing but the head can be read: anything else is a nil call.
type headOnly struct{ repo.Store }

func (s headOnly) Read(ctx context.Context) repo.Reader { return head{r: s.Store.Read(ctx)} }

type head struct {
	repo.Reader // nil
	r           repo.Reader
}

func (h head) Head() (repo.Head, error) { return h.r.Head() }

// TestOpenReadsHead: opening does not depend on what the repository holds.
func TestOpenReadsHead(t *testing.T) {
	t.Parallel()
	s := memstore.New()
	key := newKey(t)
	r := repotest.Open(t, s, repo.Options{DID: carDID, Key: key})
	fill(t, r, 0, 500, 1)
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	repotest.Open(t, headOnly{s}, repo.Options{DID: carDID, Key: key})
}
