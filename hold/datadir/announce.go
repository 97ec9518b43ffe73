package datadir

import (
	"context"
	"errors"
	"fmt"

	"github.com/atcr-dev/atcr/identity"
	"github.com/atcr-dev/atcr/repo"
)

// AnnounceIdentity writes to the repository of a stopped hold what followers must see after its DID document has changed: an
// #identity event, and when the signing key is new a commit by it. Call it while holding the folder's lock. A hold that has no
// repository yet has no followers: then it does nothing.
func AnnounceIdentity(ctx context.Context, cfg Config, id *identity.Identity) (err error) {
	if err := cfg.fill(); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("announce the identity: %w", err)
		}
	}()
	at := cfg.places()
	if has, err := at.HasRepo(); err != nil || !has {
		return err
	}
	if err := at.Moved(ctx); err != nil {
		return err
	}
	store, done, err := at.OpenStore(ctx, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, done()) }()
	if _, err := store.Read(ctx).Head(); errors.Is(err, repo.ErrNotFound) {
		return nil
	}
	r, err := repo.Open(ctx, store, repo.Options{DID: id.DID.String(), Key: id.Key, Clock: cfg.Clock, Log: cfg.Log})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	signed, err := r.Signed(ctx)
	if err != nil {
		return err
	}
	if signed {
		return r.Announce(ctx, id.Handle.String())
	}
	_, err = r.Resign(ctx, id.Handle.String())
	return err
}
