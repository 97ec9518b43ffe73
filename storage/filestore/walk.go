package filestore

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/atcr-dev/atcr/storage"
	"github.com/opencontainers/go-digest"
)

// Walk implements [storage.Store]. It holds the names of one 256th of the blobs in memory at a time.
func (s *Store) Walk(ctx context.Context, after digest.Digest) iter.Seq2[storage.Info, error] {
	return func(yield func(storage.Info, error) bool) {
		for _, a := range algorithms {
			for i := range 256 {
				shard := fmt.Sprintf("%02x", i)
				// "~" sorts behind every hex digit: the whole shard comes before.
				if string(a)+":"+shard+"~" <= string(after) {
					continue
				}
				if !s.walkShard(ctx, a, shard, after, yield) {
					return
				}
			}
		}
	}
}

// walkShard reports whether to go on.
func (s *Store) walkShard(
	ctx context.Context, a digest.Algorithm, shard string, after digest.Digest, yield func(storage.Info, error) bool,
) bool {
	if err := ctx.Err(); err != nil {
		yield(storage.Info{}, err)
		return false
	}
	names, err := readNames(filepath.Join(s.blobs, a.String(), shard))
	if err != nil {
		yield(storage.Info{}, failed("list blobs", err))
		return false
	}
	for _, name := range names {
		d := digest.NewDigestFromEncoded(a, name)
		if d <= after || len(name) < 2 || name[:2] != shard || storage.CheckDigest(d) != nil {
			continue
		}
		if err := ctx.Err(); err != nil {
			yield(storage.Info{}, err)
			return false
		}
		info, err := s.Stat(ctx, d)
		if errors.Is(err, storage.ErrNotFound) {
			continue
		}
		if !yield(info, err) || err != nil {
			return false
		}
	}
	return true
}

// Uploads implements [storage.Store].
func (s *Store) Uploads(ctx context.Context, after string) iter.Seq2[storage.UploadInfo, error] {
	return func(yield func(storage.UploadInfo, error) bool) {
		names, err := readNames(s.uploads)
		if err != nil {
			yield(storage.UploadInfo{}, failed("list uploads", err))
			return
		}
		ids := s.table.list(after)
		for _, name := range names {
			if name > after && isID(name) {
				ids = append(ids, name)
			}
		}
		slices.Sort(ids)
		for _, id := range slices.Compact(ids) {
			if err := ctx.Err(); err != nil {
				yield(storage.UploadInfo{}, err)
				return
			}
			info, err := s.uploadInfo(id)
			if errors.Is(err, storage.ErrUploadUnknown) {
				continue
			}
			if !yield(info, err) || err != nil {
				return
			}
		}
	}
}

func (s *Store) uploadInfo(id string) (storage.UploadInfo, error) {
	if e := s.table.get(id); e != nil {
		return storage.UploadInfo{ID: id, Size: e.size.Load(), ModTime: time.Unix(0, e.touched.Load())}, nil
	}
	fi, err := os.Stat(s.upload(id))
	if isMissing(err) || err == nil && !fi.Mode().IsRegular() {
		return storage.UploadInfo{}, storage.ErrUploadUnknown
	}
	if err != nil {
		return storage.UploadInfo{}, failed("list uploads", err)
	}
	st, _, err := readState(s.state(id), fi.Size(), digest.SHA256)
	if err != nil {
		return storage.UploadInfo{}, failed("list uploads", err)
	}
	return storage.UploadInfo{ID: id, Size: st.offset, ModTime: fi.ModTime()}, nil
}

// readNames lists a folder in order; one that is missing is empty.
func readNames(dir string) ([]string, error) {
	f, err := os.Open(dir)
	if isMissing(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	if isMissing(err) {
		return nil, nil
	}
	slices.Sort(names)
	return names, err
}
