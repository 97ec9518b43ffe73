package local

import (
	"context"
	"errors"
	"io"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/atcr-dev/atcr/registry"
	"github.com/atcr-dev/atcr/storage"
)

const octetStream = "application/octet-stream"

// Blob implements registry.Repository.
func (r *repository) Blob(ctx context.Context, d digest.Digest) (registry.Blob, error) {
	size, ok, err := r.b.blobSize(ctx, r.name, d)
	if err != nil {
		return registry.Blob{}, wire(err)
	}
	if !ok {
		return registry.Blob{}, registry.ErrBlobUnknown
	}
	link, err := r.b.store.Link(ctx, d, r.b.opts.LinkTTL)
	if err != nil && !errors.Is(err, storage.ErrNoLink) {
		return registry.Blob{}, wire(err)
	}
	return registry.Blob{
		Digest: d, Size: size, Link: link,
		Open: func(ctx context.Context, _ registry.Range) (io.ReadCloser, error) {
			f, _, err := r.b.store.Open(ctx, d)
			if err != nil {
				return nil, wire(err)
			}
			return f, nil // as it is: a bare *os.File keeps sendfile
		},
	}, nil
}

// blobSize returns the size of a blob that a repository has, and whether it has it.
func (b *Backend) blobSize(ctx context.Context, repository string, d digest.Digest) (int64, bool, error) {
	key := blobEntry(repository, d)
	e, ticket := b.cache.get(key)
	if e != nil {
		return e.blobSize, true, nil
	}
	size, ok, err := b.blobs.size(ctx, repository, d)
	if ok {
		b.cache.put(&cacheEntry{key: key, blobSize: size}, ticket)
	}
	return size, ok, err
}

// DeleteBlob implements registry.Repository.
func (r *repository) DeleteBlob(ctx context.Context, d digest.Digest) error {
	r.b.gate.Lock()
	defer r.b.gate.Unlock()
	had, last, err := r.b.blobs.remove(ctx, r.name, d)
	r.b.cache.drop(blobEntry(r.name, d))
	if err != nil {
		return wire(err)
	}
	if !had {
		return registry.ErrBlobUnknown
	}
	if last {
		if err := r.b.store.Delete(ctx, d); err != nil && !errors.Is(err, storage.ErrNotFound) {
			return wire(err)
		}
	}
	return nil
}

// Mount implements registry.Repository.
func (r *repository) Mount(ctx context.Context, d digest.Digest, from string) (ocispec.Descriptor, error) {
	if from == "" && r.b.opts.NoAnonymousMount {
		return ocispec.Descriptor{}, registry.ErrUnsupported
	}
	r.b.gate.RLock()
	defer r.b.gate.RUnlock()
	size, ok, err := r.b.blobSize(ctx, r.name, d)
	if err == nil && !ok {
		if from == "" {
			size, ok, err = r.b.blobs.anywhere(ctx, d)
		} else {
			size, ok, err = r.b.blobSize(ctx, from, d)
		}
		if err == nil && ok {
			err = r.b.blobs.add(r.name, d, size)
		}
	}
	if err != nil {
		return ocispec.Descriptor{}, wire(err)
	}
	if !ok {
		return ocispec.Descriptor{}, registry.ErrBlobUnknown
	}
	return ocispec.Descriptor{MediaType: octetStream, Digest: d, Size: size}, nil
}

// StartUpload implements registry.Repository.
func (r *repository) StartUpload(ctx context.Context, hint registry.UploadHint) (registry.Upload, error) {
	up, err := r.b.store.Create(ctx, storage.Hint{Digest: hint.Digest, Size: hint.Size})
	if err != nil {
		return nil, r.b.wire(err)
	}
	r.b.uploads.begun(up.ID(), r.account)
	return &upload{ctx: ctx, r: r, up: up}, nil
}

// Upload implements registry.Repository. An upload of another repository is unknown.
func (r *repository) Upload(ctx context.Context, id string) (registry.Upload, error) {
	id, ok := r.b.uploads.take(r.name, id)
	if !ok {
		return nil, registry.ErrUploadUnknown
	}
	up, err := r.b.store.Resume(ctx, id)
	if err != nil {
		return nil, r.b.wire(err)
	}
	return &upload{ctx: ctx, r: r, up: up}, nil
}

// upload is an upload of the store on its way to a repository.
type upload struct {
	ctx context.Context // of the request: io.ReaderFrom has none
	r   *repository
	up  storage.Upload
}

func (u *upload) ID() string   { return u.r.b.uploads.give(u.r.name, u.up.ID()) }
func (u *upload) Size() int64  { return u.up.Size() }
func (u *upload) Link() string { return "" }

func (u *upload) ReadFrom(src io.Reader) (int64, error) {
	n, err := u.up.ReadFrom(u.r.b.disk.Reader(u.ctx, u.r.account, src))
	return n, u.r.b.wire(err)
}

// Commit makes the blob the store's, then the repository's.
func (u *upload) Commit(ctx context.Context, d digest.Digest) (ocispec.Descriptor, error) {
	u.r.b.gate.RLock()
	defer u.r.b.gate.RUnlock()
	info, err := u.up.Commit(ctx, d)
	if err == nil {
		err = u.r.b.blobs.add(u.r.name, d, info.Size)
	}
	if err != nil {
		return ocispec.Descriptor{}, u.r.b.wire(err)
	}
	u.r.b.uploads.ended(u.up.ID())
	return ocispec.Descriptor{MediaType: octetStream, Digest: d, Size: info.Size}, nil
}

// Cancel throws it away.
func (u *upload) Cancel(ctx context.Context) error {
	err := u.up.Cancel(ctx)
	if err == nil {
		u.r.b.uploads.ended(u.up.ID())
	}
	return u.r.b.wire(err)
}

func (u *upload) Close() error { return u.r.b.wire(u.up.Close()) }
