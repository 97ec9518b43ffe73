package hold

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/atcr-dev/atcr/identity"
	"github.com/atcr-dev/atcr/internal/durable"
	"github.com/atcr-dev/atcr/repo"
	"github.com/atcr-dev/atcr/repo/sqlstore"
)

// OfflineRepo is a hold's repository without its server. Close it.
type OfflineRepo struct {
	Repo     *repo.Repo
	Identity *identity.Identity

	closers []func() error
}

// Close closes the repository and lets go of the folder.
func (o *OfflineRepo) Close() error {
	var err error
	for i := len(o.closers) - 1; i >= 0; i-- {
		err = errors.Join(err, o.closers[i]())
	}
	return err
}

// OpenRepo opens the repository of a hold that is stopped, for writing: it locks the folder, and makes identity and
// repository where there are none. What is changed is seen by the next New. While another process has the folder it fails with
// durable's ErrLocked, naming its pid.
func OpenRepo(ctx context.Context, cfg Config) (*OfflineRepo, error) {
	return openOffline(ctx, cfg, true)
}

// ReadRepo opens the repository of a hold for reading, also beside a running server; don't write with it. A hold that was
// never started is fs.ErrNotExist.
func ReadRepo(ctx context.Context, cfg Config) (*OfflineRepo, error) {
	return openOffline(ctx, cfg, false)
}

func openOffline(ctx context.Context, cfg Config, write bool) (_ *OfflineRepo, err error) {
	who, err := cfg.IdentityConfig()
	if err != nil {
		return nil, err
	}
	o := &OfflineRepo{}
	defer func() {
		if err != nil {
			err = fmt.Errorf("open the repository in %s: %w", cfg.Dir, errors.Join(err, o.Close()))
		}
	}()
	path := filepath.Join(cfg.Dir, repoFile)
	if write {
		if err := durable.MkdirAll(cfg.Dir, 0o700); err != nil {
			return nil, err
		}
		lock, err := durable.LockDir(cfg.Dir)
		if err != nil {
			return nil, err
		}
		o.closers = append(o.closers, lock.Close)
		if _, err := checkRestored(cfg.Dir, time.Now()); err != nil {
			return nil, err
		}
		if o.Identity, err = identity.LoadOrCreateDID(ctx, who); err != nil {
			return nil, err
		}
	} else {
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("the hold has no repository yet: %w", fs.ErrNotExist)
		}
		if o.Identity, err = identity.Load(who); err != nil {
			return nil, err
		}
	}
	store, err := sqlstore.Open(ctx, path)
	if err != nil {
		return nil, err
	}
	o.closers = append(o.closers, store.Close)
	o.Repo, err = repo.Open(ctx, store, repo.Options{DID: o.Identity.DID.String(), Key: o.Identity.Key, Clock: cfg.Clock, Log: cfg.Log})
	if err != nil {
		return nil, err
	}
	o.closers = append(o.closers, o.Repo.Close)
	return o, nil
}

// openStore opens the place of the repository, and answers what closes it.
func (c *Config) openStore(ctx context.Context) (repo.Store, func() error, error) {
	store, err := sqlstore.Open(ctx, filepath.Join(c.Dir, repoFile))
	if err != nil {
		return nil, nil, err
	}
	return store, store.Close, nil
}
