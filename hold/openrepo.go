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
	"github.com/atcr-dev/atcr/sqldb"
	"github.com/atcr-dev/atcr/sqldb/postgres"
	"github.com/atcr-dev/atcr/sqldb/sqlite"
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

// OpenRepo opens the repository of a hold for writing, and makes identity and repository where there are none. In Dir it locks the
// folder: the hold must be stopped, and while another process has the folder this fails with [ErrLocked], naming its pid. In
// Config.DatabaseURL it works beside a running server, which goes on from what is changed here; each commit has the repository's
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
	who, err := cfg.IdentityConfig()
	if err != nil {
		return nil, err
	}
	o := &OfflineRepo{}
	defer func() {
		if err != nil {
			err = fmt.Errorf("open the repository of the hold in %s: %w", cfg.Dir, errors.Join(err, o.Close()))
		}
	}()
	if cfg.DatabaseURL == "" && !write {
		if _, err := os.Stat(filepath.Join(cfg.Dir, repoFile)); errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("the hold has no repository yet: %w", fs.ErrNotExist)
		}
	}
	if o.Identity, err = o.identity(ctx, cfg, who, write); err != nil {
		return nil, err
	}
	store, done, err := cfg.openStore(ctx, 0)
	if err != nil {
		return nil, err
	}
	o.closers = append(o.closers, done)
	if !write {
		if _, err := store.Read(ctx).Head(); errors.Is(err, repo.ErrNotFound) {
			return nil, fmt.Errorf("the hold has no repository yet: %w", fs.ErrNotExist)
		}
	}
	o.Repo, err = openRepository(ctx, store, repo.Options{DID: o.Identity.DID.String(), Key: o.Identity.Key, Clock: cfg.Clock, Log: cfg.Log})
	if err != nil {
		return nil, err
	}
	o.closers = append(o.closers, o.Repo.Close)
	return o, nil
}

// identity answers the hold's, and for writing makes it when there is none. The folder stays locked when the repository is in it.
func (o *OfflineRepo) identity(ctx context.Context, cfg Config, who identity.Config, write bool) (*identity.Identity, error) {
	if _, err := checkRestored(cfg.Dir, time.Now()); write && err != nil {
		return nil, err
	}
	if !write || cfg.DatabaseURL != "" {
		id, err := identity.Load(who)
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
	if cfg.DatabaseURL == "" {
		o.closers = append(o.closers, lock.Close)
		return identity.LoadOrCreateDID(ctx, who)
	}
	id, err := identity.LoadOrCreateDID(ctx, who)
	return id, errors.Join(err, lock.Close())
}

// mapped is how much of the repository's file the server's readers map: at a million records a read is a third faster, and
// stays within twice what it takes at a thousand (docs/performance.md). The verbs map nothing: mapped pages count as resident.
const mapped = 1 << 30

// openStore opens where the repository lies: the configured database, or a file in the folder, of which mmap bytes are mapped.
func (c *Config) openStore(ctx context.Context, mmap int64) (*sqlstore.Store, func() error, error) {
	var db *sqldb.DB
	var err error
	if c.DatabaseURL == "" {
		db, err = sqlite.OpenWith(ctx, filepath.Join(c.Dir, repoFile), &sqlite.Options{Mmap: mmap})
	} else {
		db, err = postgres.Open(ctx, c.DatabaseURL)
	}
	if err != nil {
		return nil, nil, err
	}
	store, err := sqlstore.New(ctx, db)
	if err != nil {
		return nil, nil, errors.Join(err, db.Close())
	}
	return store, func() error { return errors.Join(store.Close(), db.Close()) }, nil
}
