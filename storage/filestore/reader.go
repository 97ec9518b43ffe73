package filestore

import (
	"context"
	"io"

	"github.com/atcr-dev/atcr/storage"
	"github.com/opencontainers/go-digest"
)

// Reader reads the blobs of a folder, also while another process has it open as a [Store]. It writes nothing and needs no Close.
type Reader struct{ s Store }

// NewReader returns a reader of the folder's blobs; of the options only Prefix matters.
func NewReader(dir string, opts *Options) (*Reader, error) {
	prefix := ""
	if opts != nil {
		prefix = opts.Prefix
	}
	l, err := newLayout(dir, prefix)
	if err != nil {
		return nil, err
	}
	return &Reader{Store{layout: l}}, nil
}

// Stat is [storage.Store]'s.
func (r *Reader) Stat(ctx context.Context, d digest.Digest) (storage.Info, error) {
	return r.s.Stat(ctx, d)
}

// Open is [storage.Store]'s; the reader is an *os.File.
func (r *Reader) Open(ctx context.Context, d digest.Digest) (io.ReadSeekCloser, storage.Info, error) {
	return r.s.Open(ctx, d)
}
