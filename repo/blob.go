package repo

import (
	"context"
	"fmt"
	"iter"
	"time"
)

// BlobInfo describes a blob of a record.
type BlobInfo struct {
	CID       CID
	MediaType string
	Size      int64 // bytes
}

// keepUnnamed is how long a blob stays that no record names.
const keepUnnamed = 24 * time.Hour

// PutBlob stores a blob that no record names yet, durably, for at least a day; a blob that is there already keeps the
// media type it has. Errors: [ErrTooLarge], [ErrNoSpace].
func (r *Repo) PutBlob(ctx context.Context, b Blob) (BlobInfo, error) {
	if err := r.checkBlob(b); err != nil {
		return BlobInfo{}, err
	}
	c := BlobCID(b.Data)
	req := newRequest(ctx)
	req.blobs = []StoredBlob{r.storedBlob(c, b)}
	req.blobsOnly = true
	if err := r.submit(ctx, req); err != nil {
		return BlobInfo{}, fmt.Errorf("store blob %s of %s: %w", c, r.did, err)
	}
	return BlobInfo{CID: c, MediaType: b.MediaType, Size: int64(len(b.Data))}, nil
}

func (r *Repo) checkBlob(b Blob) error {
	if int64(len(b.Data)) > r.maxBlob {
		return fmt.Errorf("%w: the blob has %d bytes, at most %d are taken", ErrTooLarge, len(b.Data), r.maxBlob)
	}
	return nil
}

func (r *Repo) storedBlob(c CID, b Blob) StoredBlob {
	return StoredBlob{CID: c, MediaType: b.MediaType, Size: int64(len(b.Data)), Data: b.Data, Created: r.clock().Unix()}
}

// GetBlob returns a blob that some record names. Errors: [ErrNotFound].
func (r *Repo) GetBlob(ctx context.Context, c CID) (Blob, error) {
	s, err := r.store.Read(ctx).Blob(c)
	if err == nil && s.Refs == 0 {
		err = ErrNotFound
	}
	if err != nil {
		return Blob{}, fmt.Errorf("blob %s of %s: %w", c, r.did, err)
	}
	return Blob{MediaType: s.MediaType, Data: s.Data}, nil
}

// ListBlobs iterates over the blobs that records name, in order of CID from the first after the given one; with since,
// a revision, only over those that a record written after it names.
func (r *Repo) ListBlobs(ctx context.Context, after CID, since string) iter.Seq2[BlobInfo, error] {
	return func(yield func(BlobInfo, error) bool) {
		var rev TID
		if since != "" {
			var err error
			if rev, err = ParseTID(since); err != nil {
				yield(BlobInfo{}, fmt.Errorf("list blobs of %s: since: %w", r.did, err))
				return
			}
		}
		for {
			var page []BlobInfo
			for s, err := range r.store.Read(ctx).Blobs(after, rev, maxPage) {
				if err != nil {
					yield(BlobInfo{}, fmt.Errorf("list blobs of %s: %w", r.did, err))
					return
				}
				page = append(page, BlobInfo{s.CID, s.MediaType, s.Size})
			}
			for _, b := range page {
				if !yield(b, nil) {
					return
				}
				after = b.CID
			}
			if len(page) < maxPage {
				return
			}
		}
	}
}
