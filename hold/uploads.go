package hold

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/atcr-dev/atcr/internal/crashpoint"
	"github.com/atcr-dev/atcr/internal/sqlx"
	"github.com/atcr-dev/atcr/storage"
)

// Limits of uploads.
const (
	uploadLife     = 24 * time.Hour // from the last part
	maxParts       = 10_000
	maxOpenUploads = 1000 // one DID's
)

// upload is a row of hold_upload.
type upload struct {
	key       string // sha-256 of the uploadId
	did       string
	digest    digest.Digest // as announced
	storageID string
	parts     int   // parts 1..parts are in the storage upload
	bytes     int64 // their size
	commit    digest.Digest
	done      bool
	touched   int64
}

// part is a part that was acknowledged.
type part struct {
	Number  int    `json:"partNumber"`
	Size    int64  `json:"size"`
	ETag    string `json:"etag"`
	spooled bool
}

func uploadKey(id string) string {
	sum := sha256.Sum256([]byte(id))
	return hex.EncodeToString(sum[:])
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return b
}

// beginUpload makes an upload for a DID and answers its uploadId: 256 random bits.
func (s *Server) beginUpload(ctx context.Context, did string, d digest.Digest) (string, error) {
	var open int
	row := s.db.Read().QueryRowContext(ctx, `select count(*) from hold_upload where did = $1 and done = 0`, did)
	if err := row.Scan(&open); err != nil {
		return "", fmt.Errorf("count uploads: %w", sqlx.Wrap(err))
	}
	if open >= maxOpenUploads {
		return "", &xrpcError{status: 429, name: "TooManyOpenUploads", retryAfter: time.Minute,
			message: fmt.Sprintf("%d uploads are under way for %s: complete or abort some", open, did)}
	}
	up, err := s.store.Create(ctx, storage.Hint{Digest: d})
	if err != nil {
		return "", fmt.Errorf("begin upload: %w", err)
	}
	storageID := up.ID()
	if err := up.Close(); err != nil {
		return "", fmt.Errorf("begin upload: %w", err)
	}
	id := base64.RawURLEncoding.EncodeToString(randomBytes(32))
	now := s.clock().Unix()
	_, err = s.db.Write().ExecContext(ctx, `insert into hold_upload
		(id, did, digest, storage_id, parts, bytes, commit_digest, done, created, touched)
		values ($1, $2, $3, $4, 0, 0, '', 0, $5, $5)`, uploadKey(id), did, d.String(), storageID, now)
	if err != nil {
		return "", fmt.Errorf("record upload: %w", sqlx.Wrap(err))
	}
	s.reach(crashpoint.UploadBegun)
	return id, nil
}

// findUpload reads the row of an uploadId. Errors: InvalidUploadId.
func (s *Server) findUpload(ctx context.Context, id string) (*upload, error) {
	if id == "" || len(id) > 256 {
		return nil, invalidUpload("uploadId is missing or over 256 bytes")
	}
	u := &upload{key: uploadKey(id)}
	row := s.db.Read().QueryRowContext(ctx, `select did, digest, storage_id, parts, bytes, commit_digest, done, touched
		from hold_upload where id = $1`, u.key)
	err := row.Scan(&u.did, &u.digest, &u.storageID, &u.parts, &u.bytes, &u.commit, &u.done, &u.touched)
	if errors.Is(err, sql.ErrNoRows) || err == nil && s.clock().Sub(time.Unix(u.touched, 0)) > uploadLife {
		return nil, invalidUpload("no such upload: it was never begun, was aborted, or rested for a day; begin anew")
	}
	if err != nil {
		return nil, fmt.Errorf("read upload: %w", sqlx.Wrap(err))
	}
	return u, nil
}

// uploadParts lists the acknowledged parts in order.
func (s *Server) uploadParts(ctx context.Context, u *upload) ([]part, error) {
	rows, err := s.db.Read().QueryContext(ctx, `select n, size, etag, spooled from hold_part where upload_id = $1 order by n`, u.key)
	if err != nil {
		return nil, fmt.Errorf("read parts: %w", sqlx.Wrap(err))
	}
	defer rows.Close()
	parts := []part{}
	for rows.Next() {
		var p part
		if err := rows.Scan(&p.Number, &p.Size, &p.ETag, &p.spooled); err != nil {
			return nil, fmt.Errorf("read parts: %w", sqlx.Wrap(err))
		}
		parts = append(parts, p)
	}
	return parts, sqlx.Wrap(rows.Err())
}

// takePart takes part n. In its turn it goes into the storage's upload and is hashed; early it waits in the spool; late, it
// is acknowledged again if it is what was taken before.
func (s *Server) takePart(ctx context.Context, id string, n int, body io.Reader) (part, error) {
	u, err := s.findUpload(ctx, id)
	if err != nil {
		return part{}, err
	}
	if u.done {
		return part{}, invalidUpload("the upload is complete")
	}
	if n > u.parts+1 {
		return s.takeEarly(ctx, u, n, body)
	}
	unlock, ok := s.uploads.try(u.key)
	if !ok {
		return part{}, storage.ErrUploadBusy
	}
	defer unlock()
	if u, err = s.findUpload(ctx, id); err != nil { // as it stands now that it is ours
		return part{}, err
	}
	switch {
	case u.done || u.commit != "":
		return part{}, invalidUpload("the upload is being completed")
	case n <= u.parts:
		return s.takeAgain(ctx, u, n, body)
	}
	p, err := s.takeNext(ctx, u, n, body)
	if err == nil {
		s.spool.drop(u.key, n) // it may have come early, too
		err = s.drainSpool(ctx, u)
	}
	return p, err
}

// takeNext appends part u.parts+1. Bytes that an interrupted try left in the storage's upload are taken as the beginning of this
// one; should they differ, the digest won't hold in the end.
func (s *Server) takeNext(ctx context.Context, u *upload, n int, body io.Reader) (part, error) {
	up, err := s.store.Resume(ctx, u.storageID)
	if err != nil {
		return part{}, fmt.Errorf("resume upload: %w", err)
	}
	defer up.Close()
	there := up.Size() - u.bytes
	if there < 0 {
		return part{}, fail(500, "UploadFailed", "bytes that were acknowledged are gone; abort and begin anew")
	}
	sum := crc32.New(castagnoli())
	counted := &counter{r: io.TeeReader(body, sum)}
	if there > 0 {
		if _, err := io.CopyN(io.Discard, counted, there); errors.Is(err, io.EOF) {
			return part{}, fail(400, "UploadFailed", "part %d is shorter than what came of it before; abort and begin anew", n)
		} else if err != nil {
			return part{}, bodyError(err)
		}
	}
	if _, err := up.ReadFrom(counted); err != nil {
		return part{}, bodyError(err)
	}
	if err := up.Flush(ctx); err != nil {
		return part{}, fmt.Errorf("flush part: %w", err)
	}
	s.reach(crashpoint.PartBytesDurable)
	p := part{Number: n, Size: counted.n, ETag: etag(n, counted.n, sum.Sum32())}
	if err := s.recordPart(ctx, u, p); err != nil {
		return part{}, err
	}
	s.reach(crashpoint.PartRecorded)
	return p, nil
}

func (s *Server) recordPart(ctx context.Context, u *upload, p part) error {
	now := s.clock().Unix()
	err := sqlx.InTx(ctx, s.db.Write(), func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `insert into hold_part (upload_id, n, size, etag, spooled) values ($1, $2, $3, $4, 0)
			on conflict (upload_id, n) do update set size = $3, etag = $4, spooled = 0`, u.key, p.Number, p.Size, p.ETag)
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `update hold_upload set parts = $1, bytes = $2, touched = $3 where id = $4`,
			p.Number, u.bytes+p.Size, now, u.key)
		return err
	})
	if err != nil {
		return fmt.Errorf("record part: %w", err)
	}
	u.parts, u.bytes = p.Number, u.bytes+p.Size
	return nil
}

// takeAgain answers a part that was acknowledged before, when it is the same.
func (s *Server) takeAgain(ctx context.Context, u *upload, n int, body io.Reader) (part, error) {
	sum := crc32.New(castagnoli())
	size, err := io.Copy(sum, body)
	if err != nil {
		return part{}, bodyError(err)
	}
	want := etag(n, size, sum.Sum32())
	parts, err := s.uploadParts(ctx, u)
	if err != nil {
		return part{}, err
	}
	for _, p := range parts {
		if p.Number == n && p.ETag == want {
			return p, nil
		}
	}
	return part{}, fail(400, "UploadFailed", "part %d was taken before with other bytes; abort and begin anew", n)
}

// takeEarly puts a part into the spool, to be read back when its turn comes.
func (s *Server) takeEarly(ctx context.Context, u *upload, n int, body io.Reader) (part, error) {
	size, sum, err := s.spool.put(u.key, n, body)
	if err != nil {
		return part{}, bodyError(err)
	}
	p := part{Number: n, Size: size, ETag: etag(n, size, sum), spooled: true}
	_, err = s.db.Write().ExecContext(ctx, `insert into hold_part (upload_id, n, size, etag, spooled) values ($1, $2, $3, $4, 1)
		on conflict (upload_id, n) do update set size = $3, etag = $4, spooled = 1`, u.key, n, p.Size, p.ETag)
	if err != nil {
		return part{}, fmt.Errorf("record part: %w", sqlx.Wrap(err))
	}
	_, err = s.db.Write().ExecContext(ctx, `update hold_upload set touched = $1 where id = $2`, s.clock().Unix(), u.key)
	return p, sqlx.Wrap(err)
}

// drainSpool appends the parts whose turn has come. The caller holds the upload's lock.
func (s *Server) drainSpool(ctx context.Context, u *upload) error {
	for {
		n := u.parts + 1
		f, err := s.spool.open(u.key, n)
		if err != nil {
			return nil // not there yet
		}
		_, err = s.takeNext(ctx, u, n, f)
		_ = f.Close()
		if err != nil {
			return err
		}
		s.spool.drop(u.key, n)
	}
}

func etag(n int, size int64, sum uint32) string {
	return strconv.Itoa(n) + "-" + strconv.FormatInt(size, 10) + "-" + fmt.Sprintf("%08x", sum)
}

// sameETag compares as S3 clients need it: with or without quotes.
func sameETag(a, b string) bool { return strings.Trim(a, `"`) == strings.Trim(b, `"`) }

// counter counts what is read.
type counter struct {
	r io.Reader
	n int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

// bodyError names a body that broke off; errors of the storage stay what they are.
func bodyError(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return fail(400, "UploadFailed", "the body ended before its announced length; send the part again")
	}
	return fmt.Errorf("take part: %w", err)
}
