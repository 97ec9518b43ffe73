package datadir

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/atcr-dev/atcr/hold/internal/disk"
	"github.com/atcr-dev/atcr/hold/internal/ledger"
	"github.com/atcr-dev/atcr/identity"
	"github.com/atcr-dev/atcr/repo"
	"github.com/atcr-dev/atcr/sqldb"
	"github.com/atcr-dev/atcr/storage"
)

// Contents are what a hold consists of, for reading: what hold/backup takes. Those of a running hold come from hold.Server.Contents,
// those of any data folder from [Read].
type Contents struct {
	// Dir is the data folder.
	Dir string
	// Repo is the repository: who may do what, and which layers are whose.
	Repo *repo.Repo
	// Identity is what package identity/backup exports by.
	Identity identity.Config
	// Layers are the blobs.
	Layers LayerReader
	// DB has the hold's tables; nil when none were made, because no server has run here yet.
	DB *sqldb.DB

	closers []func() error
}

// LayerReader reads blobs as a [storage.Store] does.
type LayerReader interface {
	Stat(ctx context.Context, d digest.Digest) (storage.Info, error)
	Open(ctx context.Context, d digest.Digest) (io.ReadSeekCloser, storage.Info, error)
}

// WriteMetadata writes what the hold knows beyond its repository and can't find out again, as lines of JSON: which manifests were
// pushed here, so that their pulls are counted. Uploads, leases and the index of layers are not among it.
func (c *Contents) WriteMetadata(ctx context.Context, w io.Writer) error {
	if c.DB == nil { // only a server writes what it would say
		return nil
	}
	return ledger.WriteManifests(ctx, c.DB, w)
}

// Close closes what [Read] opened. Those of a running hold need no Close.
func (c *Contents) Close() error {
	var err error
	for i := len(c.closers) - 1; i >= 0; i-- {
		err = errors.Join(err, c.closers[i]())
	}
	return err
}

// Read opens the contents of a hold for reading, stopped or beside its running server. A hold that was never started is
// fs.ErrNotExist, one that is restored in part [ErrRestoreInProgress]. Close them.
func Read(ctx context.Context, cfg Config) (_ *Contents, err error) {
	if err := cfg.fill(); err != nil {
		return nil, err
	}
	if _, err := disk.Restored(cfg.Dir, time.Now()); err != nil {
		return nil, err
	}
	o, err := ReadRepo(ctx, cfg)
	if err != nil {
		return nil, err
	}
	c := &Contents{Dir: cfg.Dir, Repo: o.Repo, Identity: cfg.Identity, closers: []func() error{o.Close}}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.Close())
		}
	}()
	if c.Layers, err = cfg.Layers(); err != nil {
		return nil, err
	}
	db, done, err := cfg.places().ReadTables(ctx)
	if err != nil {
		return nil, fmt.Errorf("hold: database: %w", err)
	}
	c.DB, c.closers = db, append(c.closers, done)
	return c, nil
}

// Layers reads the hold's layers, also beside its running server. It needs no Close.
func (c Config) Layers() (LayerReader, error) {
	if c.Storage != nil {
		return c.Storage, nil
	}
	return c.places().ReadLayers()
}
