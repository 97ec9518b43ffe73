package storage

import (
	"context"
	"errors"
	"io"
	"iter"
	"net/http"
	"time"

	"github.com/opencontainers/go-digest"
)

// Kinds of errors that a [Store] and an [Upload] return; test with [errors.Is].
var (
	// ErrNotFound: the store holds no blob under that digest.
	ErrNotFound = errors.New("blob not found")
	// ErrNoLink: this store has no address that a client could be sent to; serve the bytes instead.
	ErrNoLink = errors.New("store gives no links")
	// ErrUploadUnknown: no upload has that id: it was never begun, was committed, cancelled or expired.
	ErrUploadUnknown = errors.New("upload unknown")
	// ErrUploadBusy: another writer has the upload open.
	ErrUploadBusy = errors.New("upload is in use")
	// ErrDigestMismatch: the bytes don't hash to the digest that Commit was given. The upload is kept.
	ErrDigestMismatch = errors.New("digest mismatch")
	// ErrDigestInvalid: the digest is malformed or of an algorithm other than sha256 and sha512.
	ErrDigestInvalid = errors.New("digest invalid")
	// ErrNoSpace: the storage is full. Nothing was made visible.
	ErrNoSpace = errors.New("no space left in storage")
)

// Info describes one stored blob.
type Info struct {
	Digest  digest.Digest
	Size    int64     // bytes
	ModTime time.Time // when the blob became visible
}

// Hint says what is known of a blob before its bytes arrive. The zero value is right when nothing is known.
type Hint struct {
	// Digest, when known, chooses the hash that is computed while writing; without it that is sha256,
	// and a Commit with a sha512 digest reads the bytes back.
	Digest digest.Digest
	// Size in bytes, 0 when unknown. It is a hint only: nothing is refused for being longer or shorter. A client may
	// have chosen it, so a driver reserves no space by it.
	Size int64
}

// UploadInfo describes an upload that is under way.
type UploadInfo struct {
	ID      string
	Size    int64     // bytes a Resume would start from
	ModTime time.Time // of the last byte
}

// Store keeps blobs by digest. A blob is visible whole or not at all, and its bytes hash to its digest.
//
// All methods are safe for concurrent use, by several processes too where the driver says so.
//
// A call whose context has ended returns the context's error. Create, Resume, and an upload's Flush and Commit must look at it before
// they do anything, also where they would succeed at once: nothing has changed then. Walk and Uploads look at it before each
// item and end with its error. The other methods may carry out what needs no waiting. An upload outlives the context that it
// was created or resumed under; a reader of Open need not.
type Store interface {
	// Stat describes the blob. Errors: ErrNotFound, ErrDigestInvalid.
	Stat(ctx context.Context, d digest.Digest) (Info, error)

	// Open gives the blob's bytes. Seeking costs nothing until the next Read. A driver over files returns
	// the bare *os.File as reader, so that net/http can use sendfile. Errors: ErrNotFound, ErrDigestInvalid.
	Open(ctx context.Context, d digest.Digest) (io.ReadSeekCloser, Info, error)

	// Link gives an address from which anyone can GET the blob until ttl has passed.
	// Errors: ErrNoLink, ErrNotFound, ErrDigestInvalid.
	Link(ctx context.Context, d digest.Digest, ttl time.Duration) (string, error)

	// Create begins an upload. It may leave the disk untouched until the first byte comes.
	// Errors: ErrNoSpace, ErrDigestInvalid (a bad hint).
	Create(ctx context.Context, hint Hint) (Upload, error)

	// Resume opens an upload that Close released, or that a crash ended. After a Close in this process it
	// stands where it was; otherwise at the last state that was made durable (see Flush), and bytes past it are
	// cut off. The id of an upload that ended before a restart may come back as an empty upload instead of
	// ErrUploadUnknown. Errors: ErrUploadUnknown, ErrUploadBusy, ErrNoSpace.
	Resume(ctx context.Context, id string) (Upload, error)

	// Uploads lists uploads under way in order of id, from the first after the given id.
	Uploads(ctx context.Context, after string) iter.Seq2[UploadInfo, error]

	// Delete removes the blob; one that is not there is ErrNotFound. Readers that have it open go on reading.
	Delete(ctx context.Context, d digest.Digest) error

	// Walk lists the blobs in order of their digest's string, from the first after the given one.
	// It may or may not see what is written meanwhile. The first error ends it.
	Walk(ctx context.Context, after digest.Digest) iter.Seq2[Info, error]
}

// Upload takes the bytes of one blob and hashes them on the way. It is for one goroutine at a time. [Store] says which methods must
// look at their context.
type Upload interface {
	// ID finds the upload again by [Store.Resume], also in another process. It is safe in a URL and
	// unguessable (128 random bits or more), but isn't by itself a right to anything.
	ID() string

	// Size is the number of bytes taken so far.
	Size() int64

	// Write and ReadFrom append. After an error the upload stands where Size says and can go on, unless the error
	// is of an fsync: then this and every later call fails with it, and the upload can only be closed and resumed.
	// What a failing reader gave before its error is kept. Errors: ErrNoSpace, and the reader's own.
	// ErrUploadUnknown once the upload has ended or was closed, here and in all methods below but Close.
	io.Writer
	io.ReaderFrom

	// PartLink gives a request by which a client sends part n (from 1) of size bytes to the storage
	// itself. Errors: ErrNoLink.
	PartLink(ctx context.Context, n int, size int64) (*http.Request, error)

	// Flush makes the bytes durable, then the hash state: a Resume after it stands at Size or later, whatever
	// happens to process or machine. Call it before promising a client that it need not send the bytes again.
	// Errors: ErrNoSpace.
	Flush(ctx context.Context) error

	// Commit makes the blob visible under d, durably, if the bytes hash to d, and ends the upload. A blob that
	// is there already is success. Errors: ErrDigestMismatch and ErrDigestInvalid keep the upload as it was;
	// ErrNoSpace. After an error, that of a context that has ended too, the upload can go on.
	Commit(ctx context.Context, d digest.Digest) (Info, error)

	// Cancel throws the upload away.
	Cancel(ctx context.Context) error

	// Close releases the upload, which can then be resumed. It flushes, but a driver may leave an upload of under
	// 1 MiB to memory: a crash then takes it back to an earlier offset. After Commit or Cancel, or a second time, it
	// does nothing.
	Close() error
}
