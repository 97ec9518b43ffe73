package disk

import (
	"context"
	"errors"

	"github.com/atcr-dev/atcr/repo"
)

// OpenRepo opens a hold's repository in its store. One that is made by this announces to its followers that its account is active
// here; so does a restored one, see datadir.Restore.
func OpenRepo(ctx context.Context, store repo.Store, o repo.Options) (*repo.Repo, error) {
	_, err := store.Read(ctx).Head()
	made := errors.Is(err, repo.ErrNotFound)
	r, err := repo.Open(ctx, store, o)
	if err != nil || !made {
		return r, err
	}
	if err := r.AnnounceAccount(ctx, ""); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}
