package repo

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// MirrorCAR restores a repository as it was, with the same commit and DID, into a store that holds none. Unlike
// [ImportCAR] it signs nothing, so the Source needs a Key (or says AnyKey, as for [VerifyCAR]) and should have a DID. The
// next commit of a [Repo] opened on the store follows on. Records must be canonical. Blobs are taken from the CAR; one that is not
// there is left out. clock may be nil.
//
// Errors: [ErrInvalidCAR]; [ErrInvalidOptions] for a Source without Reader or Key; [ErrExists] when the store has a
// repository; the store's. After each of them nothing has changed.
func MirrorCAR(ctx context.Context, store Store, src Source, clock func() time.Time) (CARInfo, error) {
	if clock == nil {
		clock = time.Now
	}
	src.Strict = true
	car, err := OpenCAR(ctx, src)
	if err != nil {
		return CARInfo{}, fmt.Errorf("mirror: %w", err)
	}
	err = store.Bulk(ctx, func(s Reader, part func(*Changes) error) error {
		if _, err := s.Head(); !errors.Is(err, ErrNotFound) {
			if err == nil {
				err = fmt.Errorf("the store holds a repository: %w", ErrExists)
			}
			return err
		}
		return mirror(ctx, &bulk{s: s, part: part, now: clock()}, car)
	})
	if err = errors.Join(err, car.Close()); err != nil {
		return CARInfo{}, fmt.Errorf("mirror: %w", err)
	}
	return car.Info, nil
}

func mirror(ctx context.Context, b *bulk, car *CAR) (err error) {
	b.ahead = true
	defer func() { err = errors.Join(err, b.settle()) }()
	c, err := decodeCommit(car.Info.block)
	if err != nil {
		return err
	}
	b.rev = c.rev
	tree := &builder{rev: b.rev, emit: b.node}
	for rec, err := range car.walkRecords(ctx) {
		if err != nil {
			return err
		}
		var blobs []StoredBlob
		for _, ref := range rec.named {
			blob, err := car.readBlob(ref.cid)
			if errors.Is(err, ErrNotFound) {
				continue
			}
			if err != nil {
				return err
			}
			blobs = append(blobs, StoredBlob{CID: ref.cid, MediaType: ref.mediaType, Size: int64(len(blob.Data)), Data: blob.Data,
				Created: b.now.Unix()})
		}
		if err := b.record(rec, blobs); err != nil {
			return err
		}
		if err := tree.add(rec.path, rec.cid); err != nil {
			return err
		}
	}
	root, height, err := tree.finish()
	if err != nil {
		return err
	}
	if root != c.data {
		return carErrorf(0, "the records make the tree %s, the commit says %s", root, c.data)
	}
	h := Head{CID: car.Info.Commit, Rev: c.rev, Root: root, Height: height, Records: tree.n, Seq: b.now.UnixMicro(), Block: car.Info.block}
	return b.finish(&Changes{Head: &h})
}
