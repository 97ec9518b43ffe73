package registry

import (
	"context"
	"iter"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// UnimplementedBackend returns [ErrUnsupported] to every call. Embed it, so that a method that comes later does not break
// your [Backend].
type UnimplementedBackend struct{}

var _ Backend = UnimplementedBackend{}

// Repository returns ErrUnsupported.
func (UnimplementedBackend) Repository(context.Context, Actor, string) (Repository, error) {
	return nil, ErrUnsupported
}

// Repositories yields ErrUnsupported.
func (UnimplementedBackend) Repositories(context.Context, Actor, string) iter.Seq2[string, error] {
	return Fail[string](ErrUnsupported)
}

// Unimplemented returns [ErrUnsupported] to every call. Embed it, so that a method that comes later does not break your
// [Repository].
type Unimplemented struct{}

var _ Repository = Unimplemented{}

// Manifest returns ErrUnsupported.
func (Unimplemented) Manifest(context.Context, Ref) (Manifest, error) {
	return Manifest{}, ErrUnsupported
}

// PutManifest returns ErrUnsupported.
func (Unimplemented) PutManifest(context.Context, ParsedManifest, []string) error {
	return ErrUnsupported
}

// DeleteManifest returns ErrUnsupported.
func (Unimplemented) DeleteManifest(context.Context, digest.Digest) error { return ErrUnsupported }

// Parents returns ErrUnsupported, upon which a DELETE is answered without a warning.
func (Unimplemented) Parents(context.Context, digest.Digest) ([]Parent, error) {
	return nil, ErrUnsupported
}

// DeleteTag returns ErrUnsupported.
func (Unimplemented) DeleteTag(context.Context, string) error { return ErrUnsupported }

// Tags yields ErrUnsupported.
func (Unimplemented) Tags(context.Context, string) iter.Seq2[string, error] {
	return Fail[string](ErrUnsupported)
}

// Referrers yields ErrUnsupported, which is sent as 404: clients then look for a tag in place of the list.
func (Unimplemented) Referrers(context.Context, digest.Digest, string, digest.Digest) iter.Seq2[ocispec.Descriptor, error] {
	return Fail[ocispec.Descriptor](ErrUnsupported)
}

// Blob returns ErrUnsupported.
func (Unimplemented) Blob(context.Context, digest.Digest) (Blob, error) {
	return Blob{}, ErrUnsupported
}

// DeleteBlob returns ErrUnsupported.
func (Unimplemented) DeleteBlob(context.Context, digest.Digest) error { return ErrUnsupported }

// Mount returns ErrUnsupported, upon which the handler starts an upload.
func (Unimplemented) Mount(context.Context, digest.Digest, string) (ocispec.Descriptor, error) {
	return ocispec.Descriptor{}, ErrUnsupported
}

// StartUpload returns ErrUnsupported.
func (Unimplemented) StartUpload(context.Context, UploadHint) (Upload, error) {
	return nil, ErrUnsupported
}

// Upload returns ErrUnsupported.
func (Unimplemented) Upload(context.Context, string) (Upload, error) { return nil, ErrUnsupported }

// Fail is a list that yields one error and ends.
func Fail[T any](err error) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var none T
		yield(none, err)
	}
}
