package local

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"github.com/atcr-dev/atcr/internal/durable"
	"github.com/atcr-dev/atcr/internal/oci"
	"github.com/atcr-dev/atcr/internal/room"
	"github.com/atcr-dev/atcr/internal/sqlx"
	"github.com/atcr-dev/atcr/registry"
	"github.com/atcr-dev/atcr/repo"
	"github.com/atcr-dev/atcr/repo/sqlstore"
	"github.com/atcr-dev/atcr/sqldb"
	"github.com/atcr-dev/atcr/sqldb/sqlite"
	"github.com/atcr-dev/atcr/storage"
	"github.com/atcr-dev/atcr/storage/filestore"
)

//go:embed migrations
var migrations embed.FS

// Options tune a [Backend]. The zero value, and nil, are right for a server.
type Options struct {
	// CacheBytes bounds the answers that are kept in memory; 0 is 4 MiB, negative is none.
	CacheBytes int64
	// LinkTTL is how long a link to the store is good, when the store gives links; 0 is 15 minutes.
	LinkTTL time.Duration
	// UploadLife is how long an upload without new bytes is kept; 0 is a day.
	UploadLife time.Duration
	// NoAnonymousMount refuses mounts that don't say from where: who may push somewhere and knows a digest could
	// otherwise get a blob of a repository that is not theirs to read.
	NoAnonymousMount bool
	// Events keeps a firehose event for each push, for those who follow the repository by com.atproto.sync.subscribeRepos. Without
	// it none is written: an event is the larger part of what a push writes. [New] leaves that to its caller's repository.
	Events bool
	// Clock gives the time of records; nil is time.Now.
	Clock func() time.Time
	// Log gets what no client is told; nil is slog.Default().
	Log *slog.Logger
}

func (o *Options) withDefaults() Options {
	var out Options
	if o != nil {
		out = *o
	}
	if out.CacheBytes == 0 {
		out.CacheBytes = 4 << 20
	}
	if out.LinkTTL <= 0 {
		out.LinkTTL = 15 * time.Minute
	}
	if out.UploadLife <= 0 {
		out.UploadLife = 24 * time.Hour
	}
	if out.Clock == nil {
		out.Clock = time.Now
	}
	if out.Log == nil {
		out.Log = slog.Default()
	}
	return out
}

// Backend is a registry.Backend over one repository and one store. It is safe for concurrent use.
type Backend struct {
	registry.UnimplementedBackend
	opts  Options
	repo  *repo.Repo
	store storage.Store
	blobs *blobTable
	cache *cache
	names *names

	uploads *uploadIDs
	disk    *room.Disk // of a store that Open opened, else nil

	// gate keeps what a push has found to be there from being deleted before the push ends: pushes read-lock it, deletes of
	// manifests and blobs lock it.
	gate sync.RWMutex

	stop  func()         // ends the sweeper
	swept chan struct{}  // closed when it has ended
	owned []func() error // what Open opened, in order
	once  sync.Once
}

// Open opens the registry in a folder, and makes it when it isn't there. Close it in the end.
// Errors: [ErrLocked].
func Open(ctx context.Context, dir string) (*Backend, error) { return OpenWith(ctx, dir, nil) }

// OpenWith is [Open] with options, which may be nil.
func OpenWith(ctx context.Context, dir string, o *Options) (_ *Backend, err error) {
	opts := o.withDefaults()
	var owned []func() error
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("open registry %s: %w", dir, err), closeAll(owned))
		}
	}()
	if err := durable.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	// The store's lock is the folder's: nothing else is touched before it is held.
	store, err := filestore.Open(filepath.Join(dir, "blobs"), &filestore.Options{Log: opts.Log})
	if err != nil {
		return nil, err
	}
	owned = append(owned, store.Close)
	key, err := loadKey(filepath.Join(dir, "key"))
	if err != nil {
		return nil, err
	}
	pub, err := key.PublicKey()
	if err != nil {
		return nil, err
	}
	db, err := sqlite.Open(ctx, filepath.Join(dir, "registry.db"))
	if err != nil {
		return nil, err
	}
	owned = append(owned, db.Close)
	records, err := sqlstore.New(ctx, db)
	if err != nil {
		return nil, err
	}
	owned = append(owned, records.Close)
	ro := repo.Options{DID: pub.DIDKey(), Key: key, Clock: opts.Clock, Log: opts.Log, MaxBlob: oci.MaxManifestSize}
	if !opts.Events {
		ro.KeepEvents = -1
	}
	r, err := repo.Open(ctx, records, ro)
	if err != nil {
		return nil, err
	}
	owned = append(owned, r.Close)
	b, err := newBackend(ctx, r, store, db, opts)
	if err != nil {
		return nil, err
	}
	b.owned = owned
	b.disk = room.New(dir, b.makeRoom)
	return b, nil
}

// New makes a backend over a repository and a store of the caller's, who closes them after the backend. db keeps which
// repository has which blobs, in tables local_… that New migrates; it may be the repository's own (package sqldb/sqlite opens
// one, repo/sqlstore takes it, too). r should take record blobs of 4 MiB (repo.Options.MaxBlob), the limit of a
// manifest. Uploads in the store that rest for longer than Options.UploadLife are thrown away.
func New(ctx context.Context, r *repo.Repo, store storage.Store, db *sqldb.DB, o *Options) (*Backend, error) {
	b, err := newBackend(ctx, r, store, db, o.withDefaults())
	if err != nil {
		return nil, fmt.Errorf("open registry: %w", err)
	}
	return b, nil
}

func newBackend(ctx context.Context, r *repo.Repo, store storage.Store, db *sqldb.DB, opts Options) (*Backend, error) {
	folder, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, err
	}
	if err := sqlx.Migrate(ctx, db, folder, "local_version"); err != nil {
		return nil, err
	}
	b := &Backend{opts: opts, repo: r, store: store, cache: newCache(opts.CacheBytes)}
	if b.names, err = loadNames(ctx, r); err != nil {
		return nil, err
	}
	if b.blobs, err = newBlobTable(ctx, db); err != nil {
		return nil, err
	}
	if b.uploads, err = newUploadIDs(ctx, db); err != nil {
		return nil, errors.Join(err, b.blobs.close())
	}
	b.sweep(ctx)
	b.sweepHourly()
	return b, nil
}

// Close ends the backend, and what Open opened. Requests must have ended. A second call does nothing.
func (b *Backend) Close() (err error) {
	b.once.Do(func() {
		b.stop()
		<-b.swept
		err = errors.Join(b.blobs.close(), closeAll(b.owned))
	})
	return err
}

// closeAll closes in reverse order.
func closeAll(list []func() error) (err error) {
	for i := len(list) - 1; i >= 0; i-- {
		err = errors.Join(err, list[i]())
	}
	return err
}

// DID is that of the repository that holds the records.
func (b *Backend) DID() string { return b.repo.DID() }

// Repo is the repository that holds the records: for serving or exporting it. Don't change records through it.
func (b *Backend) Repo() *repo.Repo { return b.repo }

// Repository implements registry.Backend.
func (b *Backend) Repository(_ context.Context, actor registry.Actor, name string) (registry.Repository, error) {
	if err := oci.CheckName(name); err != nil {
		return nil, registry.ErrNameInvalid.With("%v", err)
	}
	return &repository{b: b, name: name, account: actor.ID}, nil
}

// Repositories implements registry.Backend.
func (b *Backend) Repositories(_ context.Context, _ registry.Actor, after string) iter.Seq2[string, error] {
	return b.names.list(after)
}

// sweep throws stale uploads away.
func (b *Backend) sweep(ctx context.Context) {
	n, err := storage.RemoveStaleUploads(ctx, b.store, b.opts.Clock().Add(-b.opts.UploadLife))
	if err != nil && ctx.Err() == nil {
		b.opts.Log.Warn("registry: stale uploads could not be removed", "err", err)
	}
	if n > 0 {
		b.opts.Log.Info("registry: removed stale uploads", "count", n)
	}
}

// sweepHourly starts a sweep each hour until Close.
func (b *Backend) sweepHourly() {
	ctx, cancel := context.WithCancel(context.Background())
	b.stop, b.swept = cancel, make(chan struct{})
	go func() {
		defer close(b.swept)
		tick := time.NewTicker(time.Hour)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				b.sweep(ctx)
			}
		}
	}()
}

// repository is a name of the backend. It keeps nothing.
type repository struct {
	registry.Unimplemented
	b       *Backend
	name    string
	account string // who asks; may be empty
}
