// Package memstore is a [storage.Store] in memory, for tests and for programs that need nothing after they end.
//
// It keeps the whole contract but durability: uploads survive Close of a handle, and nothing survives the process.
package memstore

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/atcr-dev/atcr/storage"
	"github.com/opencontainers/go-digest"
)

// Options for [NewWith]. The zero value is useful.
type Options struct {
	// Limit in bytes on all blobs and uploads together; beyond it is ErrNoSpace. 0 is none.
	Limit int64
	// Clock returns the time; nil is time.Now.
	Clock func() time.Time
}

// Store is a [storage.Store] in memory. It is safe for concurrent use.
type Store struct {
	limit int64
	now   func() time.Time

	mu      sync.Mutex
	used    int64
	blobs   map[digest.Digest]blob
	uploads map[string]*bytesOf
}

var _ storage.Store = (*Store)(nil)

type blob struct {
	data []byte
	at   time.Time
}

// bytesOf are the bytes of an upload, whoever has it open.
type bytesOf struct {
	data []byte
	at   time.Time
	open bool
}

// New makes an empty store that takes as much as there is memory.
func New() *Store { return NewWith(nil) }

// NewWith makes an empty store; opts may be nil.
func NewWith(opts *Options) *Store {
	s := &Store{now: time.Now, blobs: make(map[digest.Digest]blob), uploads: make(map[string]*bytesOf)}
	if opts != nil {
		s.limit = opts.Limit
		if opts.Clock != nil {
			s.now = opts.Clock
		}
	}
	return s
}

// Stat implements [storage.Store].
func (s *Store) Stat(_ context.Context, d digest.Digest) (storage.Info, error) {
	_, info, err := s.find(d)
	return info, err
}

// Open implements [storage.Store].
func (s *Store) Open(_ context.Context, d digest.Digest) (io.ReadSeekCloser, storage.Info, error) {
	b, info, err := s.find(d)
	if err != nil {
		return nil, info, err
	}
	return reader{bytes.NewReader(b.data)}, info, nil
}

type reader struct{ *bytes.Reader }

func (reader) Close() error { return nil }

// Link implements [storage.Store]: memory gives no links.
func (s *Store) Link(_ context.Context, d digest.Digest, _ time.Duration) (string, error) {
	if err := storage.CheckDigest(d); err != nil {
		return "", err
	}
	return "", storage.ErrNoLink
}

func (s *Store) find(d digest.Digest) (blob, storage.Info, error) {
	if err := storage.CheckDigest(d); err != nil {
		return blob{}, storage.Info{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	b, ok := s.blobs[d]
	if !ok {
		return blob{}, storage.Info{}, fmt.Errorf("%w: %s", storage.ErrNotFound, d)
	}
	return b, storage.Info{Digest: d, Size: int64(len(b.data)), ModTime: b.at}, nil
}

// Delete implements [storage.Store].
func (s *Store) Delete(_ context.Context, d digest.Digest) error {
	if err := storage.CheckDigest(d); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	b, ok := s.blobs[d]
	if !ok {
		return fmt.Errorf("%w: %s", storage.ErrNotFound, d)
	}
	delete(s.blobs, d)
	s.used -= int64(len(b.data))
	return nil
}

// Walk implements [storage.Store].
func (s *Store) Walk(ctx context.Context, after digest.Digest) iter.Seq2[storage.Info, error] {
	return func(yield func(storage.Info, error) bool) {
		s.mu.Lock()
		ds := slices.Sorted(maps.Keys(s.blobs))
		s.mu.Unlock()
		for _, d := range ds {
			if d <= after {
				continue
			}
			if err := ctx.Err(); err != nil {
				yield(storage.Info{}, err)
				return
			}
			info, err := s.Stat(ctx, d)
			if errors.Is(err, storage.ErrNotFound) {
				continue
			}
			if !yield(info, err) {
				return
			}
		}
	}
}

// Uploads implements [storage.Store].
func (s *Store) Uploads(ctx context.Context, after string) iter.Seq2[storage.UploadInfo, error] {
	return func(yield func(storage.UploadInfo, error) bool) {
		s.mu.Lock()
		var list []storage.UploadInfo
		for id, u := range s.uploads {
			if id > after {
				list = append(list, storage.UploadInfo{ID: id, Size: int64(len(u.data)), ModTime: u.at})
			}
		}
		s.mu.Unlock()
		slices.SortFunc(list, func(a, b storage.UploadInfo) int { return strings.Compare(a.ID, b.ID) })
		for _, info := range list {
			if err := ctx.Err(); err != nil {
				yield(storage.UploadInfo{}, err)
				return
			}
			if !yield(info, nil) {
				return
			}
		}
	}
}

// Create implements [storage.Store].
func (s *Store) Create(ctx context.Context, hint storage.Hint) (storage.Upload, error) {
	if hint.Digest != "" {
		if err := storage.CheckDigest(hint.Digest); err != nil {
			return nil, err
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	id := rand.Text()
	b := &bytesOf{at: s.now(), open: true}
	s.uploads[id] = b
	return &upload{s: s, id: id, b: b}, nil
}

// Resume implements [storage.Store].
func (s *Store) Resume(ctx context.Context, id string) (storage.Upload, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	b, ok := s.uploads[id]
	switch {
	case !ok:
		return nil, storage.ErrUploadUnknown
	case b.open:
		return nil, storage.ErrUploadBusy
	}
	b.open = true
	return &upload{s: s, id: id, b: b}, nil
}

type upload struct {
	s    *Store
	id   string
	b    *bytesOf
	over bool
}

func (u *upload) ID() string { return u.id }

func (u *upload) Size() int64 {
	u.s.mu.Lock()
	defer u.s.mu.Unlock()
	return int64(len(u.b.data))
}

func (u *upload) Write(p []byte) (int, error) {
	if u.over {
		return 0, storage.ErrUploadUnknown
	}
	s := u.s
	s.mu.Lock()
	defer s.mu.Unlock()
	n := int64(len(p))
	if s.limit > 0 {
		n = min(n, max(0, s.limit-s.used))
	}
	u.b.data = append(u.b.data, p[:n]...)
	u.b.at = s.now()
	s.used += n
	if int(n) < len(p) {
		return int(n), fmt.Errorf("write upload: %w", storage.ErrNoSpace)
	}
	return len(p), nil
}

func (u *upload) ReadFrom(r io.Reader) (int64, error) {
	// Hides ReadFrom, which io.Copy would call again.
	return io.Copy(struct{ io.Writer }{u}, r)
}

func (u *upload) PartLink(context.Context, int, int64) (*http.Request, error) {
	if u.over {
		return nil, storage.ErrUploadUnknown
	}
	return nil, storage.ErrNoLink
}

func (u *upload) Flush(ctx context.Context) error {
	if u.over {
		return storage.ErrUploadUnknown
	}
	return ctx.Err()
}

func (u *upload) Commit(ctx context.Context, d digest.Digest) (storage.Info, error) {
	if u.over {
		return storage.Info{}, storage.ErrUploadUnknown
	}
	if err := storage.CheckDigest(d); err != nil {
		return storage.Info{}, err
	}
	if err := ctx.Err(); err != nil {
		return storage.Info{}, err
	}
	data := u.b.data
	if got := d.Algorithm().FromBytes(data); got != d {
		return storage.Info{}, fmt.Errorf("%w: the bytes hash to %s, not to %s", storage.ErrDigestMismatch, got, d)
	}
	u.over = true
	s := u.s
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.uploads, u.id)
	b, ok := s.blobs[d]
	if ok {
		s.used -= int64(len(data))
	} else {
		b = blob{data: data, at: s.now()}
		s.blobs[d] = b
	}
	return storage.Info{Digest: d, Size: int64(len(b.data)), ModTime: b.at}, nil
}

func (u *upload) Cancel(context.Context) error {
	if u.over {
		return storage.ErrUploadUnknown
	}
	u.over = true
	u.s.mu.Lock()
	defer u.s.mu.Unlock()
	delete(u.s.uploads, u.id)
	u.s.used -= int64(len(u.b.data))
	return nil
}

func (u *upload) Close() error {
	if u.over {
		return nil
	}
	u.over = true
	u.s.mu.Lock()
	defer u.s.mu.Unlock()
	u.b.open = false
	return nil
}
