package repo

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"github.com/atcr-dev/atcr"
)

// request is one Apply or PutBlob on its way through the writer.
type request struct {
	ctx       context.Context
	writes    []prepared
	blobs     []StoredBlob
	guards    []Guard
	blobsOnly bool // no commit
	look      func(Snapshot) error
	identity  *identityEvent
	rekey     *signer

	state  atomic.Int32 // who has it: waiting, taken by the writer, or withdrawn by its caller
	done   chan struct{}
	commit Commit
	err    error
}

const (
	waiting = iota
	taken
	withdrawn
)

// prepared is a write that has been checked and hashed before it queues.
type prepared struct {
	Write
	path  string
	cid   CID
	named []blobRef
}

func newRequest(ctx context.Context) *request {
	return &request{ctx: ctx, done: make(chan struct{})}
}

// Apply changes records: one signed commit, all or nothing, on the disk and with its one event when it returns.
// Two writes of one batch may not name the same record. An empty batch is a commit, too.
//
// Errors: [ErrExists], [ErrNotFound], [ErrInvalidSwap], [ErrInvalidRecord], [ErrBlobMissing], [ErrTooLarge], what a guard
// returned, [ErrNoSpace], [ErrBusy], [ErrClosed], [ErrCorrupt]. After each of them nothing has changed. After [ErrUnsettled], which a
// database on another machine may give, that is not known.
func (r *Repo) Apply(ctx context.Context, writes []Write, guards ...Guard) (Commit, error) {
	req, err := r.prepare(ctx, writes, guards)
	if err == nil {
		err = r.submit(ctx, req)
	}
	if err != nil {
		return Commit{}, fmt.Errorf("apply to %s: %w", r.did, err)
	}
	return req.commit, nil
}

// submit queues a request and waits for its outcome. Once the writer has taken it, the context no longer matters.
func (r *Repo) submit(ctx context.Context, req *request) error {
	select {
	case <-r.stop:
		return ErrClosed
	default:
	}
	select {
	case r.queue <- req:
	case <-ctx.Done():
		return ctx.Err()
	case <-r.stop:
		return ErrClosed
	}
	select {
	case <-req.done:
		return req.err
	case <-ctx.Done():
		if req.state.CompareAndSwap(waiting, withdrawn) {
			return ctx.Err()
		}
	case <-r.done:
		if req.state.CompareAndSwap(waiting, withdrawn) {
			return ErrClosed
		}
	}
	<-req.done
	return req.err
}

// prepare does all that needs no lock: the writer is the bottleneck.
func (r *Repo) prepare(ctx context.Context, writes []Write, guards []Guard) (*request, error) {
	if len(writes) > MaxWrites {
		return nil, fmt.Errorf("%w: %d writes, at most %d are taken", ErrTooLarge, len(writes), MaxWrites)
	}
	req := newRequest(ctx)
	req.guards = guards
	req.writes = make([]prepared, len(writes))
	seen := make(map[string]bool, len(writes))
	size := 0
	for i, w := range writes {
		p, err := r.prepareWrite(w)
		if err != nil {
			return nil, fmt.Errorf("write %d: %w", i, err)
		}
		if seen[p.path] {
			return nil, fmt.Errorf("write %d: %w: %s is written twice in one batch", i, ErrInvalidRecord, p.path)
		}
		seen[p.path] = true
		req.writes[i] = p
		size += len(w.Record)
		for _, b := range w.Blobs {
			if err := r.checkBlob(b); err != nil {
				return nil, fmt.Errorf("write %d: %w", i, err)
			}
			size += len(b.Data)
			req.blobs = append(req.blobs, r.storedBlob(BlobCID(b.Data), b))
		}
	}
	if size > MaxBatchSize {
		return nil, fmt.Errorf("%w: the batch has %d bytes, at most %d are taken", ErrTooLarge, size, MaxBatchSize)
	}
	return req, nil
}

func (r *Repo) prepareWrite(w Write) (prepared, error) {
	p := prepared{Write: w}
	switch w.Action {
	case Create, Put:
		if w.RKey == "" {
			if w.Action == Put {
				return p, fmt.Errorf("%w: RKey is missing (only a create may leave it out)", ErrInvalidRecord)
			}
			p.RKey = r.nextKey()
		}
	case Update, Delete:
	default:
		return p, fmt.Errorf("%w: action %q is none of create, update, delete, put", ErrInvalidRecord, w.Action)
	}
	err := checkPath(p.Collection, p.RKey)
	if errors.Is(err, errNotNormalized) && w.Action == Delete {
		err = nil // earlier versions took such a record
	}
	if err != nil {
		return p, fmt.Errorf("%w: %w", ErrInvalidRecord, err)
	}
	p.path = p.Collection + "/" + p.RKey
	if w.Action == Delete {
		return p, nil
	}
	if p.named, err = checkRecord(w.Record); err != nil {
		return p, fmt.Errorf("%s: %w", p.path, err)
	}
	p.cid = RecordCID(w.Record)
	return p, nil
}

// nextKey chooses a record key: a TID that no other call of this process gets.
func (r *Repo) nextKey() string {
	for {
		last := r.lastKey.Load()
		next := nextTID(r.clock(), TID(last)) &^ 1023
		if next <= TID(last) {
			next += 1 << 10
		}
		if r.lastKey.CompareAndSwap(last, int64(next)) {
			return (next | r.clockID).String()
		}
	}
}

var errNotNormalized = errors.New("the domain in an NSID is in lower case")

// checkPath checks a record's path (https://atproto.com/specs/repository, "Repository Paths"): a normalized NSID, whose last part may have
// capitals, and a record key.
func checkPath(collection, rkey string) error {
	nsid, err := syntax.ParseNSID(collection)
	if err != nil {
		return fmt.Errorf("collection %q: want an NSID, as in io.atcr.tag", clip(collection))
	}
	if _, err := syntax.ParseRecordKey(rkey); err != nil {
		return fmt.Errorf("record key %q: want 1 to 512 characters of A-Z, a-z, 0-9 and . _ ~ : -, but neither . nor .. alone", clip(rkey))
	}
	if n := nsid.Normalize(); n != nsid {
		return fmt.Errorf("collection %q: %w: write %q", clip(collection), errNotNormalized, clip(n.String()))
	}
	return nil
}

// checkDID makes sure that a DID is one that an account can have, in its one spelling.
func checkDID(did string) error {
	normal, err := atcr.NormalizeDID(did)
	if err == nil && normal != did {
		err = fmt.Errorf("DID %q: write %q", clip(did), clip(normal))
	}
	return err
}
