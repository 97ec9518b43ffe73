package filestore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/atcr-dev/atcr/storage"
	"github.com/opencontainers/go-digest"
)

// Create implements [storage.Store]. It touches no disk.
func (s *Store) Create(ctx context.Context, hint storage.Hint) (storage.Upload, error) {
	alg := digest.SHA256
	if hint.Digest != "" {
		if err := storage.CheckDigest(hint.Digest); err != nil {
			return nil, err
		}
		alg = hint.Digest.Algorithm()
	}
	if err := s.usable(ctx); err != nil {
		return nil, err
	}
	id := s.ids.newID(alg, s.now())
	e, _, err := s.table.claim(id)
	if err != nil {
		return nil, err
	}
	e.touched.Store(s.now().UnixNano())
	u, err := s.emptyUpload(id, e, alg)
	if err != nil {
		s.table.release(id)
		return nil, err
	}
	return u, nil
}

// Resume implements [storage.Store].
func (s *Store) Resume(ctx context.Context, id string) (storage.Upload, error) {
	if err := s.usable(ctx); err != nil {
		return nil, err
	}
	if !isID(id) {
		return nil, storage.ErrUploadUnknown
	}
	e, rest, err := s.table.claim(id)
	if err != nil {
		return nil, err
	}
	u, err := s.reopen(id, e, rest)
	if err != nil {
		if rest != nil && !errors.Is(err, storage.ErrUploadUnknown) {
			s.table.keep(rest)
		} else {
			s.table.release(id)
		}
		return nil, err
	}
	e.size.Store(u.size)
	return u, nil
}

func (s *Store) usable(ctx context.Context) error {
	if s.closed.Load() {
		return ErrClosed
	}
	return ctx.Err()
}

func (s *Store) emptyUpload(id string, e *entry, alg digest.Algorithm) (*upload, error) {
	h, err := storage.NewHash(alg)
	if err != nil {
		return nil, err
	}
	return &upload{s: s, id: id, e: e, alg: alg, h: h}, nil
}

func (s *Store) reopen(id string, e *entry, rest *upload) (*upload, error) {
	f, err := os.OpenFile(s.upload(id), os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return s.reopenEmpty(id, e, rest)
	}
	if err != nil {
		return nil, failed("resume upload", err)
	}
	var u *upload
	if rest != nil {
		u = rest.again()
	} else if u, err = s.restore(id, e, f); err != nil {
		f.Close()
		return nil, failed("resume upload", err)
	}
	u.f = f
	return u, nil
}

// reopenEmpty revives an upload that has no file: one that rests in memory, or one of an earlier run whose id we signed.
func (s *Store) reopenEmpty(id string, e *entry, rest *upload) (*upload, error) {
	if rest != nil {
		if rest.size > 0 {
			return nil, fmt.Errorf("%w: its file is gone", storage.ErrUploadUnknown)
		}
		return rest.again(), nil
	}
	v, ok := s.ids.read(id)
	if !ok || v.thisRun || s.now().Sub(v.made) > s.life || s.table.hasEnded(id) {
		return nil, storage.ErrUploadUnknown
	}
	e.touched.Store(v.made.UnixNano())
	return s.emptyUpload(id, e, v.alg)
}

// restore puts an upload back to where its last durable state says.
func (s *Store) restore(id string, e *entry, f *os.File) (*upload, error) {
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	e.touched.Store(fi.ModTime().UnixNano())
	alg := digest.SHA256
	if v, ok := s.ids.read(id); ok {
		alg = v.alg
	}
	st, seq, err := readState(s.state(id), fi.Size(), alg)
	if err != nil {
		return nil, err
	}
	h, err := st.hash()
	if err != nil {
		return nil, err
	}
	u := &upload{s: s, id: id, e: e, alg: st.alg, h: h, size: st.offset, saved: st.offset, synced: st.offset, seq: seq, found: true}
	if fi.Size() != st.offset {
		if err := f.Truncate(st.offset); err != nil {
			return nil, err
		}
		u.synced = unsynced
	}
	return u, nil
}
