package repo

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
)

// Options say whose repository it is. DID and Key are required.
type Options struct {
	// DID of the account. Opening a repository that was made for another DID fails.
	DID string
	// Key signs commits, until [Repo.Rekey]: the key that the account's DID document shows as #atproto.
	Key atcrypto.PrivateKey
	// Clock gives the time of commits; nil is time.Now. A clock that goes back does no harm: revisions still rise.
	Clock func() time.Time
	// Log gets what no caller is told; nil is slog.Default().
	Log *slog.Logger
	// MaxBlob limits one record blob, in bytes; 0 is 1 MiB.
	MaxBlob int64
	// KeepEvents is how many of the newest events are kept; 0 is 4096. Less than 0 writes none: for a repository that
	// nobody follows, since an event is the larger part of what a commit writes.
	KeepEvents int
}

// Repo is one open repository. All methods are safe for concurrent use.
type Repo struct {
	store Store
	did   string
	signs atomic.Pointer[signer] // written by the writer
	clock func() time.Time
	log   *slog.Logger

	maxBlob    int64
	keepEvents int
	clockID    TID          // in the record keys that we choose
	lastKey    atomic.Int64 // newest of them

	nodes   *nodeCache
	commits int                 // made by the writer
	owed    *identityEvent      // the writer's: a new key signs, and followers have not been told
	last    atomic.Pointer[CID] // the newest commit that the writer made or found
	foreign atomic.Uint64       // how often it found one that it had not made
	queue   chan *request
	bulk    chan *bulkRequest
	passes  *passes // for Blocks
	changed atomic.Pointer[chan struct{}]
	stop    chan struct{}
	done    chan struct{} // the writer has ended
	running sync.WaitGroup
	once    sync.Once
}

// Open opens the repository in a store, and makes its first, empty commit if there is none. The caller must Close it
// before the store. One store is open in one Repo at a time, and who may open a folder is the caller's to lock; but a store that
// is Shared may be open in many, also of other processes.
//
// Errors: [ErrInvalidOptions], [ErrCorrupt] (also when the store holds another DID's repository).
func Open(ctx context.Context, store Store, o Options) (*Repo, error) {
	r, err := newRepo(store, o)
	if err != nil {
		return nil, err
	}
	head, err := store.Read(ctx).Head()
	if errors.Is(err, ErrNotFound) {
		if head, err = r.create(ctx); err != nil {
			return nil, fmt.Errorf("make the first commit of %s: %w", r.did, err)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("open repository %s: %w", r.did, err)
	}
	if err := r.checkHead(head); err != nil {
		return nil, err
	}
	r.last.Store(&head.CID)
	r.running.Go(r.write)
	if store.Shared() {
		r.running.Go(r.watch)
	}
	return r, nil
}

func newRepo(store Store, o Options) (*Repo, error) {
	if store == nil {
		return nil, fmt.Errorf("%w: Store is missing", ErrInvalidOptions)
	}
	if err := checkDID(o.DID); err != nil {
		return nil, fmt.Errorf("%w: DID %q: want a DID, as in did:web:hold.example.com: %w", ErrInvalidOptions, clip(o.DID), err)
	}
	key, err := newSigner(o.Key)
	if err != nil {
		return nil, err
	}
	r := &Repo{
		store: store, did: o.DID,
		clock: o.Clock, log: o.Log, maxBlob: o.MaxBlob, keepEvents: o.KeepEvents,
		clockID: TID(rand.IntN(1024)),
		nodes:   newNodeCache(nodeCacheSize),
		queue:   make(chan *request, maxGroup),
		bulk:    make(chan *bulkRequest),
		passes:  newPasses(),
		stop:    make(chan struct{}),
		done:    make(chan struct{}),
	}
	wait := make(chan struct{})
	r.changed.Store(&wait)
	r.signs.Store(key)
	if r.clock == nil {
		r.clock = time.Now
	}
	if r.log == nil {
		r.log = slog.Default()
	}
	if r.maxBlob <= 0 {
		r.maxBlob = 1 << 20
	}
	if r.keepEvents == 0 {
		r.keepEvents = 4096
	}
	return r, nil
}

// checkHead makes sure that the stored commit is ours and whole.
func (r *Repo) checkHead(h Head) error {
	c, err := decodeCommit(h.Block)
	if err != nil {
		return fmt.Errorf("open repository %s: %w", r.did, err)
	}
	switch {
	case c.did != r.did:
		return fmt.Errorf("%w: the store holds the repository of %s, not of %s: open it by that DID, or another store", ErrCorrupt,
			c.did, r.did)
	case RecordCID(h.Block) != h.CID || c.rev != h.Rev || c.data != h.Root:
		return fmt.Errorf("%w: the stored head of %s does not match its commit block", ErrCorrupt, r.did)
	}
	if err := c.verify(r.PublicKey()); err != nil {
		r.log.Warn("the stored commit is signed by another key than the one given; the next commit is signed by the new one", "did", r.did)
	}
	return nil
}

// DID of the account.
func (r *Repo) DID() string { return r.did }

// PublicKey is the public half of the signing key: the given one, or that of the newest [Repo.Rekey].
func (r *Repo) PublicKey() atcrypto.PublicKey { return r.signs.Load().pub }

// Close stops the writer: Applies that it has taken are finished first, later ones get [ErrClosed]. It leaves the store
// open. Calling it again does nothing.
func (r *Repo) Close() error {
	r.once.Do(func() { close(r.stop) })
	r.running.Wait()
	return nil
}
