// Package owndriver is a storage driver of one's own: 8 methods of a store and 9 of an upload, which keep layers as plain files. The
// test beside it has storage/storagetest check that they keep the contract; examples/own-hold is a hold that runs on it.
package owndriver

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/atcr-dev/atcr/storage"
)

// Driver is a [storage.Store] of plain files: DIR/blobs/DIGEST, and DIR/uploads/ID while they come. It hashes a blob when it is
// committed, by reading it again. One process has a folder; storage/filestore does more, and does it faster.
type Driver struct {
	dir string

	mu   sync.Mutex
	open map[string]bool // uploads that somebody has open
}

// Open makes a driver in a folder, which is made when missing.
func Open(dir string) (*Driver, error) {
	d := &Driver{dir: dir, open: map[string]bool{}}
	return d, errors.Join(os.MkdirAll(filepath.Join(dir, "blobs"), 0o700), os.MkdirAll(filepath.Join(dir, "uploads"), 0o700))
}

func (s *Driver) blob(d digest.Digest) string { return filepath.Join(s.dir, "blobs", d.String()) }

func (s *Driver) upload(id string) string { return filepath.Join(s.dir, "uploads", id) }

// kind gives an error of the system the kind that the contract names; missing may be nil.
func kind(err, missing error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist) && missing != nil:
		return missing
	case errors.Is(err, syscall.ENOSPC):
		return fmt.Errorf("%w: %w", storage.ErrNoSpace, err)
	}
	return err
}

func (s *Driver) Stat(_ context.Context, d digest.Digest) (storage.Info, error) {
	if err := storage.CheckDigest(d); err != nil {
		return storage.Info{}, err
	}
	fi, err := os.Stat(s.blob(d))
	if err != nil {
		return storage.Info{}, kind(err, storage.ErrNotFound)
	}
	return storage.Info{Digest: d, Size: fi.Size(), ModTime: fi.ModTime()}, nil
}

func (s *Driver) Open(ctx context.Context, d digest.Digest) (io.ReadSeekCloser, storage.Info, error) {
	info, err := s.Stat(ctx, d)
	if err != nil {
		return nil, info, err
	}
	f, err := os.Open(s.blob(d))
	if err != nil {
		return nil, info, kind(err, storage.ErrNotFound)
	}
	return f, info, nil
}

func (s *Driver) Link(_ context.Context, d digest.Digest, _ time.Duration) (string, error) {
	return "", errors.Join(storage.ErrNoLink, storage.CheckDigest(d))
}

func (s *Driver) Delete(_ context.Context, d digest.Digest) error {
	if err := storage.CheckDigest(d); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return kind(os.Remove(s.blob(d)), storage.ErrNotFound)
}

func (s *Driver) Walk(ctx context.Context, after digest.Digest) iter.Seq2[storage.Info, error] {
	return list(ctx, filepath.Join(s.dir, "blobs"), string(after), func(fi fs.FileInfo) storage.Info {
		return storage.Info{Digest: digest.Digest(fi.Name()), Size: fi.Size(), ModTime: fi.ModTime()}
	})
}

func (s *Driver) Uploads(ctx context.Context, after string) iter.Seq2[storage.UploadInfo, error] {
	return list(ctx, filepath.Join(s.dir, "uploads"), after, func(fi fs.FileInfo) storage.UploadInfo {
		return storage.UploadInfo{ID: fi.Name(), Size: fi.Size(), ModTime: fi.ModTime()}
	})
}

// list yields a folder's files in order of their names, from the first after the given one.
func list[T any](ctx context.Context, dir, after string, describe func(fs.FileInfo) T) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var none T
		entries, err := os.ReadDir(dir)
		if err != nil {
			yield(none, err)
			return
		}
		for _, e := range entries {
			if e.Name() <= after {
				continue
			}
			fi, err := e.Info()
			if errors.Is(err, fs.ErrNotExist) {
				continue // gone meanwhile
			}
			if err = errors.Join(err, ctx.Err()); err != nil {
				yield(none, err)
				return
			}
			if !yield(describe(fi), nil) {
				return
			}
		}
	}
}

func (s *Driver) Create(ctx context.Context, hint storage.Hint) (storage.Upload, error) {
	if hint.Digest != "" {
		if err := storage.CheckDigest(hint.Digest); err != nil {
			return nil, err
		}
	}
	return s.begin(ctx, rand.Text(), os.O_CREATE|os.O_EXCL)
}

func (s *Driver) Resume(ctx context.Context, id string) (storage.Upload, error) {
	if id == "" || strings.Trim(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") != "" { // rand.Text makes no other, and no path
		return nil, storage.ErrUploadUnknown
	}
	return s.begin(ctx, id, 0)
}

func (s *Driver) begin(ctx context.Context, id string, flags int) (storage.Upload, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open[id] {
		return nil, storage.ErrUploadBusy
	}
	f, err := os.OpenFile(s.upload(id), flags|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return nil, kind(err, storage.ErrUploadUnknown)
	}
	fi, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	s.open[id] = true
	return &upload{s: s, id: id, f: f, size: fi.Size()}, nil
}

// upload is a [storage.Upload].
type upload struct {
	s     *Driver
	id    string
	f     *os.File
	size  int64
	ended bool
}

func (u *upload) ID() string  { return u.id }
func (u *upload) Size() int64 { return u.size }

// usable is what each call but Close asks first.
func (u *upload) usable(ctx context.Context) error {
	if u.ended {
		return storage.ErrUploadUnknown
	}
	return ctx.Err()
}

func (u *upload) Write(p []byte) (int, error) {
	if u.ended {
		return 0, storage.ErrUploadUnknown
	}
	n, err := u.f.Write(p)
	u.size += int64(n)
	return n, kind(err, nil)
}

func (u *upload) ReadFrom(r io.Reader) (int64, error) {
	return io.Copy(struct{ io.Writer }{u}, r) // which hides ReadFrom
}

func (u *upload) PartLink(ctx context.Context, _ int, _ int64) (*http.Request, error) {
	return nil, errors.Join(storage.ErrNoLink, u.usable(ctx))
}

func (u *upload) Flush(ctx context.Context) error {
	if err := u.usable(ctx); err != nil {
		return err
	}
	return kind(u.f.Sync(), nil)
}

func (u *upload) Commit(ctx context.Context, d digest.Digest) (storage.Info, error) {
	if err := errors.Join(u.usable(ctx), storage.CheckDigest(d)); err != nil {
		return storage.Info{}, err
	}
	got, err := d.Algorithm().FromReader(io.NewSectionReader(u.f, 0, u.size))
	if err == nil && got != d {
		err = fmt.Errorf("%w: the bytes hash to %s, not to %s", storage.ErrDigestMismatch, got, d)
	}
	if err == nil {
		err = u.Flush(ctx)
	}
	if err != nil {
		return storage.Info{}, kind(err, nil)
	}
	info, err := u.s.publish(ctx, u.id, d)
	if err != nil {
		return storage.Info{}, err
	}
	return info, u.Cancel(ctx)
}

// publish gives an upload's bytes the name of a blob, durably. A hard link leaves a blob alone that is there already.
func (s *Driver) publish(ctx context.Context, id string, d digest.Digest) (storage.Info, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := os.Link(s.upload(id), s.blob(d)); err != nil && !errors.Is(err, fs.ErrExist) {
		return storage.Info{}, kind(err, nil)
	}
	if err := syncDir(filepath.Join(s.dir, "blobs")); err != nil {
		return storage.Info{}, err
	}
	return s.Stat(ctx, d)
}

func (u *upload) Cancel(context.Context) error {
	if u.ended {
		return storage.ErrUploadUnknown
	}
	if err := os.Remove(u.s.upload(u.id)); err != nil {
		return err
	}
	return u.Close()
}

func (u *upload) Close() error {
	if u.ended {
		return nil
	}
	u.ended = true
	err := errors.Join(u.f.Sync(), u.f.Close())
	u.s.mu.Lock()
	defer u.s.mu.Unlock()
	delete(u.s.open, u.id)
	return err
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
