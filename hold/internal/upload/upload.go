// Package upload takes blobs into a hold's storage: in parts, over several connections, across crashes.
//
//	id, err := uploads.Begin(ctx, did, "")              // the digest need not be known yet
//	part, err := uploads.Take(ctx, id, 1, body)         // durable once it returns
//	part, err = uploads.Take(ctx, id, 3, body)          // early: it waits in the spool
//	part, err = uploads.Take(ctx, id, 2, body)          // and is taken after this one
//	err = uploads.Complete(ctx, id, did, d, given)      // visible under d when the bytes hash to it
//
// What is durable when: a row names the upload before Begin returns; a part's bytes and then its row before Take returns; and
// Complete, in this order, makes durable a lease on the blob together with the intent to commit it, the blob under its digest, and
// the row that says so. Each call may be repeated after a crash, with the same outcome. An upload that rested for a day is
// discarded by [Uploads.Expire].
//
// The tables are hold_upload and hold_part (hold/internal/schema). An uploadId is a right and is not kept: the row has its SHA-256.
package upload

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/atcr-dev/atcr/internal/crashpoint"
	"github.com/atcr-dev/atcr/internal/keylock"
	"github.com/atcr-dev/atcr/internal/room"
	"github.com/atcr-dev/atcr/internal/sqlx"
	"github.com/atcr-dev/atcr/storage"
)

// Limits of uploads.
const (
	MaxParts = 10_000

	life    = 24 * time.Hour // from the last part
	maxOpen = 1000           // one DID's
	maxDone = 10_000         // one DID's that are remembered since the calls that completed them may be repeated
)

// Kinds of [Error].
var (
	ErrUnknown      = errors.New("no such upload")
	ErrTooMany      = errors.New("too many open uploads")
	ErrBadPart      = errors.New("the part can't be taken as it came")
	ErrSpoolShare   = errors.New("too much came before its turn")
	ErrSpoolFull    = errors.New("what came before its turn has taken all its room")
	ErrBytesLost    = errors.New("bytes that were acknowledged are gone")
	ErrMissingParts = errors.New("the parts are not those that were acknowledged")
	ErrPartOrder    = errors.New("the parts are not in order")
	ErrOtherDigest  = errors.New("the upload was completed as another blob")
)

// Error is a refusal: its text is for the client, its kind is what errors.Is finds.
type Error struct {
	Kind    error
	Message string
}

func (e *Error) Error() string { return e.Message }

// Unwrap returns the kind.
func (e *Error) Unwrap() error { return e.Kind }

func fail(kind error, format string, args ...any) error {
	return &Error{Kind: kind, Message: fmt.Sprintf(format, args...)}
}

// BodyError names a body that broke off; errors of the storage stay what they are.
func BodyError(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return fail(ErrBadPart, "the body ended before its announced length; send the part again")
	}
	return fmt.Errorf("take part: %w", err)
}

// Options of [Open]. All but Completed and Crash are required.
type Options struct {
	DB    *sqlx.DB
	Store storage.Store
	// Spool is the folder of parts that came early, MaxSpool what they may take in bytes, all uploads together. One account may
	// have a quarter of it, and 1000 parts.
	Spool    string
	MaxSpool int64
	// Layers is the folder of the storage, whose disk is kept from running full: then uploads at rest go that have bytes on it,
	// and with them what they have elsewhere. Empty, for a storage that is no folder of ours: only the spool's disk is looked at.
	Layers string
	// Lease keeps a blob that is about to become visible from being collected, in the transaction that says so.
	Lease func(ctx context.Context, tx *sql.Tx, did string, d digest.Digest, size int64) error
	// Release undoes Lease for a blob that did not become visible.
	Release func(ctx context.Context, tx *sql.Tx, did string, d digest.Digest) error
	// Leased returns the bytes of each DID's leases: who has filled the disk with blobs makes no room on it by others' uploads.
	Leased func(ctx context.Context) (map[string]int64, error)
	// Completed is called with the size of each blob that became visible.
	Completed func(size int64)
	Clock     func() time.Time
	Log       *slog.Logger
	Crash     crashpoint.Hook
}

// Uploads are the uploads of a hold. All methods are safe for concurrent use.
type Uploads struct {
	o     Options
	db    *sqlx.DB
	store storage.Store
	clock func() time.Time
	locks keylock.Locks // uploads being written to
	spool *spool

	layers, spooled *room.Disk // the first may be nil
}

// Open opens the spool, and removes what a crash left half written in it.
func Open(ctx context.Context, o Options) (*Uploads, error) {
	sp, err := openSpool(o.Spool, o.MaxSpool, func(upload string) (did string, err error) {
		err = o.DB.Read().QueryRowContext(ctx, `select did from hold_upload where id = $1`, upload).Scan(&did)
		if errors.Is(err, sql.ErrNoRows) {
			return "", nil
		}
		return did, sqlx.Wrap(err)
	})
	if err != nil {
		return nil, err
	}
	s := &Uploads{o: o, db: o.DB, store: o.Store, clock: o.Clock, spool: sp}
	oneDisk := func() bool { return o.Layers != "" && room.Same(o.Spool, o.Layers) }
	s.spooled = room.New(o.Spool, func(ctx context.Context, did string) (int64, error) {
		return s.makeRoom(ctx, did, place{stored: oneDisk(), spooled: true})
	})
	if o.Layers != "" {
		s.layers = room.New(o.Layers, func(ctx context.Context, did string) (int64, error) {
			return s.makeRoom(ctx, did, place{stored: true, spooled: oneDisk()})
		})
	}
	return s, nil
}

func (s *Uploads) reach(point string) { _ = s.o.Crash.Reach(point) }

// Upload is an upload as [Uploads.Find] found it.
type Upload struct {
	DID    string
	Digest digest.Digest // as announced; may be empty
	Bytes  int64         // of the parts that were taken in their turn
	Done   bool          // the blob is visible

	key       string // sha-256 of the uploadId
	storageID string
	taken     int // parts 1..taken are in the storage's upload
	commit    digest.Digest
	touched   int64
}

// Part is a part that was acknowledged.
type Part struct {
	Number int    `json:"partNumber"`
	Size   int64  `json:"size"`
	ETag   string `json:"etag"`

	spooled bool
}

func keyOf(id string) string {
	sum := sha256.Sum256([]byte(id))
	return hex.EncodeToString(sum[:])
}

func newID() string {
	b := make([]byte, 32)
	_, _ = rand.Read(b) // never fails
	return base64.RawURLEncoding.EncodeToString(b)
}

// Begin makes an upload for a DID and returns its uploadId: 256 random bits. d is the digest as announced, or empty. Errors:
// [ErrTooMany], those of the storage.
func (s *Uploads) Begin(ctx context.Context, did string, d digest.Digest) (string, error) {
	if err := s.checkOpen(ctx, s.db.Read(), did); err != nil {
		return "", err
	}
	up, err := s.store.Create(ctx, storage.Hint{Digest: d})
	if err != nil {
		return "", fmt.Errorf("begin upload: %w", err)
	}
	storageID := up.ID()
	if err := up.Close(); err != nil {
		return "", fmt.Errorf("begin upload: %w", err)
	}
	id := newID()
	now := s.clock().Unix()
	err = sqlx.InTx(ctx, s.db.Write(), func(tx *sql.Tx) error {
		if err := s.checkOpen(ctx, tx, did); err != nil { // many may begin at once
			return err
		}
		_, err := tx.ExecContext(ctx, `insert into hold_upload
			(id, did, digest, storage_id, parts, bytes, commit_digest, done, created, touched)
			values ($1, $2, $3, $4, 0, 0, '', 0, $5, $5)`, keyOf(id), did, d.String(), storageID, now)
		return err
	})
	if err != nil {
		if up, err := s.store.Resume(ctx, storageID); err == nil { // else Expire removes it
			_ = up.Cancel(ctx)
		}
		return "", fmt.Errorf("record upload: %w", err)
	}
	s.reach(crashpoint.UploadBegun)
	return id, nil
}

// rows is a database or a transaction.
type rows interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// checkOpen is ErrTooMany for one who has as many uploads under way as one may.
func (s *Uploads) checkOpen(ctx context.Context, q rows, did string) error {
	var open int
	if err := q.QueryRowContext(ctx, `select count(*) from hold_upload where did = $1 and done = 0`, did).Scan(&open); err != nil {
		return fmt.Errorf("count uploads: %w", sqlx.Wrap(err))
	}
	if open >= maxOpen {
		return fail(ErrTooMany, "%d uploads are under way for %s: complete or abort some", open, did)
	}
	return nil
}

// Find reads an upload. Errors: [ErrUnknown].
func (s *Uploads) Find(ctx context.Context, id string) (*Upload, error) {
	if id == "" || len(id) > 256 {
		return nil, fail(ErrUnknown, "uploadId is missing or over 256 bytes")
	}
	u, err := s.read(ctx, keyOf(id))
	if errors.Is(err, sql.ErrNoRows) || err == nil && s.clock().Sub(time.Unix(u.touched, 0)) > life {
		return nil, fail(ErrUnknown, "no such upload: it was never begun, was aborted, or rested for a day; begin anew")
	}
	return u, err
}

// read reads an upload, also one that rested for too long. Errors: sql.ErrNoRows.
func (s *Uploads) read(ctx context.Context, key string) (*Upload, error) {
	u := &Upload{key: key}
	row := s.db.Read().QueryRowContext(ctx, `select did, digest, storage_id, parts, bytes, commit_digest, done, touched
		from hold_upload where id = $1`, key)
	err := row.Scan(&u.DID, &u.Digest, &u.storageID, &u.taken, &u.Bytes, &u.commit, &u.Done, &u.touched)
	if err != nil {
		return nil, fmt.Errorf("read upload: %w", sqlx.Wrap(err))
	}
	return u, nil
}

// parts lists the acknowledged parts in order, early ones among them.
func (s *Uploads) parts(ctx context.Context, u *Upload) ([]Part, error) {
	rows, err := s.db.Read().QueryContext(ctx, `select n, size, etag, spooled from hold_part where upload_id = $1 order by n`, u.key)
	if err != nil {
		return nil, fmt.Errorf("read parts: %w", sqlx.Wrap(err))
	}
	defer rows.Close()
	parts := []Part{}
	for rows.Next() {
		var p Part
		if err := rows.Scan(&p.Number, &p.Size, &p.ETag, &p.spooled); err != nil {
			return nil, fmt.Errorf("read parts: %w", sqlx.Wrap(err))
		}
		parts = append(parts, p)
	}
	return parts, sqlx.Wrap(rows.Err())
}

// Parts lists the parts that were taken in their turn.
func (s *Uploads) Parts(ctx context.Context, u *Upload) ([]Part, error) {
	parts, err := s.parts(ctx, u)
	return slices.DeleteFunc(parts, func(p Part) bool { return p.Number > u.taken }), err
}

// Users returns the DIDs that have uploads under way.
func (s *Uploads) Users(ctx context.Context) (dids []string, err error) {
	dids, err = sqlx.Strings(ctx, s.db.Read(), `select distinct did from hold_upload where done = 0`)
	if err != nil {
		return nil, fmt.Errorf("users of uploads: %w", err)
	}
	return dids, nil
}
