package repo

import (
	"context"
	"io"
	"iter"
)

// Head is the current commit.
func (r *Repo) Head(ctx context.Context) (Commit, error) { return Commit{}, ErrClosed }

// Get answers one record. Errors: [ErrNotFound].
func (r *Repo) Get(ctx context.Context, collection, rkey string) (Record, error) {
	return Record{}, ErrClosed
}

// List iterates over the records of a collection in byte order of their keys, from the first after the given key (the
// first at all when it is empty); in reverse from the last before it. The sequence ends after an error. Records belong
// to the caller. Nothing is locked meanwhile: a long loop sees the state at its start.
func (r *Repo) List(ctx context.Context, collection, after string, reverse bool) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) { yield(Record{}, ErrClosed) }
}

// Collections lists the collections that hold a record, in byte order.
func (r *Repo) Collections(ctx context.Context) ([]string, error) { return nil, ErrClosed }

// Events iterates over the events with a higher number, in order.
func (r *Repo) Events(ctx context.Context, after int64) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) { yield(Event{}, ErrClosed) }
}

// Apply changes records: one signed commit, all or nothing, on the disk and with its one event when it returns.
// Two writes of one batch may not name the same record. An empty batch is a commit, too.
//
// Errors: [ErrExists], [ErrNotFound], [ErrInvalidSwap], [ErrInvalidRecord], [ErrBlobMissing], [ErrTooLarge], what a guard
// answered, [ErrNoSpace], [ErrBusy], [ErrClosed], [ErrCorrupt]. After each of them nothing has changed.
func (r *Repo) Apply(ctx context.Context, writes []Write, guards ...Guard) (Commit, error) {
	return Commit{}, ErrClosed
}

// BlobRef of a stored blob, as records carry it in JSON.
type BlobInfo struct {
	CID       CID
	MediaType string
	Size      int64
}

// PutBlob stores a blob that no record names yet, durably, for at least a day. Errors: [ErrTooLarge], [ErrNoSpace].
func (r *Repo) PutBlob(ctx context.Context, b Blob) (BlobInfo, error) { return BlobInfo{}, ErrClosed }

// GetBlob answers a blob that some record names. Errors: [ErrNotFound].
func (r *Repo) GetBlob(ctx context.Context, c CID) (Blob, error) { return Blob{}, ErrClosed }

// ListBlobs iterates over the blobs that records name, in order of CID from the first after the given one; with since,
// a revision, only over those named first after it.
func (r *Repo) ListBlobs(ctx context.Context, after CID, since string) iter.Seq2[BlobInfo, error] {
	return func(yield func(BlobInfo, error) bool) { yield(BlobInfo{}, ErrClosed) }
}

// Prove writes a CAR that shows to anyone that the current commit holds this record with this value, or that it
// doesn't hold it: commit, nodes on the path, record. A record that isn't there is no error.
func (r *Repo) Prove(ctx context.Context, w io.Writer, collection, rkey string) error {
	return ErrClosed
}

// ExportCAR writes the whole repository as a CAR v1 in the specification's streaming order: commit, then nodes and
// records in order of path. It sees one state and uses little memory, however large the repository.
func (r *Repo) ExportCAR(ctx context.Context, w io.Writer) error { return ErrClosed }
