package registry

import (
	"context"
	"io"
	"iter"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Backend finds repositories. Implementations embed [UnimplementedBackend] so that it can grow.
// All methods are safe for concurrent use. A nil repository, upload, list or reader without an error is a fault of the
// implementation: the client gets 500 and the log names the method.
//
// A list yields in order until it ends or its consumer stops it. An error is yielded with the zero value and is the last: stop after it.
type Backend interface {
	// Repository returns the repository of that name as the actor sees it. It need not exist yet: the first push creates
	// it. It should cost no round trip; what is missing shows when it is used.
	// Errors: ErrNameUnknown, ErrNameInvalid, ErrDenied, ErrUnavailable.
	Repository(ctx context.Context, actor Actor, name string) (Repository, error)

	// Repositories lists names in byte order from the first after the given one, as far as the actor may see.
	// Errors: ErrUnsupported.
	Repositories(ctx context.Context, actor Actor, after string) iter.Seq2[string, error]
}

// Repository is one named collection of manifests, tags and blobs (OCI Distribution 1.1). Implementations
// embed [Unimplemented], which returns [ErrUnsupported], so that the interface can grow.
//
// Every method may also return ErrDenied, ErrUnauthorized, ErrTooManyRequests and ErrUnavailable (see [Error]);
// an error of no kind listed here is sent as 500. Methods are safe for concurrent use. Lists and nil results are as in [Backend].
type Repository interface {
	// Manifest returns a manifest by tag or by digest: exactly one of the two is set in ref.
	// Errors: ErrManifestUnknown, ErrNameUnknown.
	Manifest(ctx context.Context, ref Ref) (Manifest, error)

	// PutManifest stores a manifest and points all the tags to it: all or nothing, durable before it returns. The
	// handler has parsed it and checked its digest. What it names must exist here, save what
	// [ParsedManifest.MustExist] leaves out, in the size that it says. Errors: ErrManifestBlobUnknown (detail: the digest),
	// ErrManifestInvalid, ErrTagInvalid.
	PutManifest(ctx context.Context, m ParsedManifest, tags []string) error

	// DeleteManifest removes a manifest and every tag that points to it. Errors: ErrManifestUnknown, ErrNameUnknown.
	DeleteManifest(ctx context.Context, d digest.Digest) error

	// Parents lists indexes that a tag points to and that have d as a child, for the warning that a DELETE of d gets. It is called before
	// DeleteManifest and should be quick: a few of them, or none, are enough. Errors: ErrUnsupported.
	Parents(ctx context.Context, d digest.Digest) ([]Parent, error)

	// DeleteTag removes a tag, not the manifest. Errors: ErrManifestUnknown, ErrNameUnknown.
	DeleteTag(ctx context.Context, tag string) error

	// Tags lists tags in byte order from the first after the given one. Errors: ErrNameUnknown.
	Tags(ctx context.Context, after string) iter.Seq2[string, error]

	// Referrers lists the manifests whose subject is d, in order of digest, from the first after the given one; only
	// those of artifactType when it is not empty. One that nothing refers to is an empty list. Descriptors carry
	// artifactType and the manifest's annotations. ErrUnsupported as the first thing is sent as 404: no such list in this registry.
	Referrers(ctx context.Context, d digest.Digest, artifactType string, after digest.Digest) iter.Seq2[ocispec.Descriptor, error]

	// Blob returns a blob's description and a way to its bytes. Errors: ErrBlobUnknown, ErrNameUnknown.
	Blob(ctx context.Context, d digest.Digest) (Blob, error)

	// DeleteBlob removes a blob from the repository. Errors: ErrBlobUnknown, ErrUnsupported.
	DeleteBlob(ctx context.Context, d digest.Digest) error

	// Mount makes a blob of another repository, or with an empty from of any, present here without moving bytes, if the
	// actor may read it there. Errors: ErrBlobUnknown and ErrUnsupported, upon which the handler starts an upload.
	Mount(ctx context.Context, d digest.Digest, from string) (ocispec.Descriptor, error)

	// StartUpload begins an upload. Errors: ErrNameInvalid, ErrNoSpace.
	StartUpload(ctx context.Context, hint UploadHint) (Upload, error)

	// Upload continues an upload by its id. Errors: ErrUploadUnknown, ErrUploadBusy.
	Upload(ctx context.Context, id string) (Upload, error)
}

// Ref names a manifest within a repository: by Tag or by Digest, one of which is empty.
type Ref struct {
	Tag    string
	Digest digest.Digest
}

// Parent is an index and a tag that points to it.
type Parent struct {
	Digest digest.Digest
	Tag    string
}

// Manifest is a manifest as served: exact bytes and what describes them.
type Manifest struct {
	Digest    digest.Digest
	MediaType string
	Bytes     []byte // not to be changed by anyone
	// Warning is sent as a Warning header of code 299 when it is not empty (RFC 7234 §5.5): for an answer that may be old.
	Warning string
	// Pulled, when not nil, is called once a GET was answered with the bytes; not for a HEAD or a 304. It must be quick.
	Pulled func()

	head *manifestHead // see Prepared
}

// Blob describes a blob and gives its bytes in one of two ways: Link when set, else Open.
type Blob struct {
	Digest digest.Digest
	Size   int64
	// Link is where a GET is sent (307). A HEAD is always answered here.
	Link string
	// Open gives the bytes; it is called at most once, and not for a HEAD. A reader that is an io.Seeker is the whole blob
	// whatever the range; a bare *os.File keeps sendfile. One that can't seek gives exactly the range, and several ranges are
	// then answered by the whole.
	Open func(ctx context.Context, r Range) (io.ReadCloser, error)
	// ModTime may be zero.
	ModTime time.Time
}

// Range is what a client wants of a blob, for backends that fetch it from elsewhere. The zero value is the whole.
// It lies within the blob's Size.
type Range struct {
	Start int64
	End   int64 // first byte that is not wanted; 0 means to the end
}

// UploadHint says what is known before the bytes come.
type UploadHint struct {
	Digest digest.Digest // of a monolithic upload, else empty
	Size   int64         // bytes, as the client says; 0 when unknown
	// Algorithm is what the digest will be of, when the client said so (parameter digest-algorithm); else empty.
	Algorithm digest.Algorithm
}

// Upload is one blob on its way in. It is for one goroutine at a time; a second one that opens it gets ErrUploadBusy.
type Upload interface {
	// ID continues the upload by [Repository.Upload]; safe in a URL path segment, unguessable.
	ID() string
	// Size is the number of bytes that a client may rely on: what Range tells it.
	Size() int64
	// Link, when not empty, is where the client sends its bytes instead of here.
	Link() string
	// ReadFrom appends all of r; after an error Size says what was kept. Errors: ErrNoSpace, ErrSizeInvalid.
	io.ReaderFrom
	// Commit verifies, makes the blob part of the repository, durably, and ends the upload.
	// Errors: ErrDigestInvalid (the bytes are others), which keeps the upload; ErrDenied; ErrNoSpace.
	Commit(ctx context.Context, d digest.Digest) (ocispec.Descriptor, error)
	// Cancel throws it away.
	Cancel(ctx context.Context) error
	// Close releases it, so that a later request can go on, when Size bytes are kept as well as a client may rely on.
	// After Commit and Cancel, and a second time, it does nothing.
	Close() error
}
