package datadir

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/atcr-dev/atcr/hold/internal/disk"
	"github.com/atcr-dev/atcr/identity"
	"github.com/atcr-dev/atcr/internal/durable"
	"github.com/atcr-dev/atcr/repo"
)

// errNoRepo is fs.ErrNotExist, and says what to do in place of "file does not exist".
var errNoRepo error = noRepoError{}

type noRepoError struct{}

func (noRepoError) Error() string {
	return "the hold has no repository yet, so nothing has been stored: start the hold once, or restore a backup"
}

func (noRepoError) Is(target error) bool { return target == fs.ErrNotExist }

// OfflineRepo is a hold's repository without its server. Close it.
type OfflineRepo struct {
	Repo     *repo.Repo
	Identity *identity.Identity

	count   func(context.Context) (int64, error)
	closers []func() error
}

// Records returns how many records the repository has. It takes longer the more there are, though little.
func (o *OfflineRepo) Records(ctx context.Context) (int64, error) { return o.count(ctx) }

// Close closes the repository and releases the folder.
func (o *OfflineRepo) Close() error {
	var err error
	for i := len(o.closers) - 1; i >= 0; i-- {
		err = errors.Join(err, o.closers[i]())
	}
	return err
}

// OpenRepo opens the repository of a hold for writing, and creates identity and repository where there are none. In Dir it locks the
// folder: the hold must be stopped, and while another process has the folder this fails with [ErrLocked], naming its pid. In
// a Config.DB of PostgreSQL it works beside a running server, which goes on from what is changed here; each commit has the repository's
// row lock.
func OpenRepo(ctx context.Context, cfg Config) (*OfflineRepo, error) {
	return openOffline(ctx, cfg, true)
}

// ReadRepo opens the repository of a hold for reading, also beside a running server; don't write with it. A hold that was
// never started is fs.ErrNotExist.
func ReadRepo(ctx context.Context, cfg Config) (*OfflineRepo, error) {
	return openOffline(ctx, cfg, false)
}

func openOffline(ctx context.Context, cfg Config, write bool) (_ *OfflineRepo, err error) {
	if err := cfg.fill(); err != nil {
		return nil, err
	}
	o := &OfflineRepo{}
	defer func() {
		if err != nil {
			err = fmt.Errorf("open the repository of the hold in %s: %w", cfg.Dir, errors.Join(err, o.Close()))
		}
	}()
	at := cfg.places()
	if !write {
		has, err := at.HasRepo()
		if err != nil {
			return nil, err
		}
		if !has {
			return nil, errNoRepo
		}
	}
	if o.Identity, err = o.identity(ctx, cfg, write); err != nil {
		return nil, err
	}
	if err := at.Moved(ctx); err != nil {
		return nil, err
	}
	store, done, err := at.OpenStore(ctx, 0)
	if err != nil {
		return nil, err
	}
	o.closers, o.count = append(o.closers, done), store.Records
	if !write {
		if _, err := store.Read(ctx).Head(); errors.Is(err, repo.ErrNotFound) {
			return nil, errNoRepo
		}
	}
	o.Repo, err = disk.OpenRepo(ctx, store, repo.Options{DID: o.Identity.DID.String(), Key: o.Identity.Key, Clock: cfg.Clock, Log: cfg.Log})
	if err != nil {
		return nil, err
	}
	o.closers = append(o.closers, o.Repo.Close)
	return o, nil
}

// identity returns the hold's, and for writing creates it when there is none. The folder stays locked when the repository is in it.
func (o *OfflineRepo) identity(ctx context.Context, cfg Config, write bool) (*identity.Identity, error) {
	if _, err := disk.Restored(cfg.Dir, time.Now()); write && err != nil {
		return nil, err
	}
	if !write || cfg.places().Shared() {
		id, err := identity.Load(cfg.Identity)
		if !write || !errors.Is(err, fs.ErrNotExist) {
			return id, err
		}
	}
	if err := durable.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, err
	}
	lock, err := durable.LockDir(cfg.Dir)
	if err != nil {
		return nil, err
	}
	if !cfg.places().Shared() {
		o.closers = append(o.closers, lock.Close)
		return identity.LoadOrCreateDID(ctx, cfg.Identity)
	}
	id, err := identity.LoadOrCreateDID(ctx, cfg.Identity)
	return id, errors.Join(err, lock.Close())
}
