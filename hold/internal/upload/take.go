package upload

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strconv"
	"strings"

	"github.com/atcr-dev/atcr/internal/crashpoint"
	"github.com/atcr-dev/atcr/internal/sqlx"
	"github.com/atcr-dev/atcr/storage"
)

// Take takes part n, which must be from 1 to [MaxParts]. In its turn it goes into the storage's upload and is hashed; early it
// waits in the spool, of which each account has a share; late, it is acknowledged again if it is what was taken before. Errors:
// [ErrUnknown], [ErrBadPart], [ErrSpoolShare], [ErrBytesLost], those of the storage.
func (s *Uploads) Take(ctx context.Context, id string, n int, body io.Reader) (Part, error) {
	u, err := s.Find(ctx, id)
	if err != nil {
		return Part{}, err
	}
	if u.Done {
		return Part{}, fail(ErrUnknown, "the upload is complete")
	}
	if n > u.taken+1 {
		return s.takeEarly(ctx, u, n, body)
	}
	unlock, ok := s.locks.Try(u.key)
	if !ok {
		return Part{}, storage.ErrUploadBusy
	}
	defer unlock()
	if u, err = s.Find(ctx, id); err != nil { // as it stands now that it is ours
		return Part{}, err
	}
	switch {
	case u.Done || u.commit != "":
		return Part{}, fail(ErrUnknown, "the upload is being completed")
	case n <= u.taken:
		return s.takeAgain(ctx, u, n, body)
	}
	p, err := s.takeNext(ctx, u, n, body)
	if err == nil {
		s.spool.drop(u.key, n) // it may have come early, too
		err = s.drainSpool(ctx, u)
	}
	return p, err
}

// takeNext appends part u.taken+1. Bytes that an interrupted try left in the storage's upload are taken as the beginning of this
// one; should they differ, the digest won't hold in the end.
func (s *Uploads) takeNext(ctx context.Context, u *Upload, n int, body io.Reader) (Part, error) {
	up, err := s.store.Resume(ctx, u.storageID)
	if err != nil {
		return Part{}, fmt.Errorf("resume upload: %w", err)
	}
	defer up.Close()
	there := up.Size() - u.Bytes
	if there < 0 {
		return Part{}, fail(ErrBytesLost, "bytes that were acknowledged are gone; abort and begin anew")
	}
	sum := crc32.New(castagnoli())
	counted := &counter{r: io.TeeReader(body, sum)}
	if there > 0 {
		if _, err := io.CopyN(io.Discard, counted, there); errors.Is(err, io.EOF) {
			return Part{}, fail(ErrBadPart, "part %d is shorter than what came of it before; abort and begin anew", n)
		} else if err != nil {
			return Part{}, BodyError(err)
		}
	}
	if _, err := up.ReadFrom(s.layers.Reader(ctx, u.DID, counted)); err != nil {
		return Part{}, BodyError(err)
	}
	if err := up.Flush(ctx); err != nil {
		return Part{}, fmt.Errorf("flush part: %w", err)
	}
	s.reach(crashpoint.PartBytesDurable)
	p := Part{Number: n, Size: counted.n, ETag: etag(n, counted.n, sum.Sum32())}
	if err := s.recordPart(ctx, u, p); err != nil {
		return Part{}, err
	}
	s.reach(crashpoint.PartRecorded)
	return p, nil
}

func (s *Uploads) recordPart(ctx context.Context, u *Upload, p Part) error {
	now := s.clock().Unix()
	err := sqlx.InTx(ctx, s.db.Write(), func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `insert into hold_part (upload_id, n, size, etag, spooled) values ($1, $2, $3, $4, 0)
			on conflict (upload_id, n) do update set size = $3, etag = $4, spooled = 0`, u.key, p.Number, p.Size, p.ETag)
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `update hold_upload set parts = $1, bytes = $2, touched = $3 where id = $4`,
			p.Number, u.Bytes+p.Size, now, u.key)
		return err
	})
	if err != nil {
		return fmt.Errorf("record part: %w", err)
	}
	u.taken, u.Bytes = p.Number, u.Bytes+p.Size
	return nil
}

// takeAgain returns a part that was acknowledged before, when it is the same.
func (s *Uploads) takeAgain(ctx context.Context, u *Upload, n int, body io.Reader) (Part, error) {
	sum := crc32.New(castagnoli())
	size, err := io.Copy(sum, body)
	if err != nil {
		return Part{}, BodyError(err)
	}
	want := etag(n, size, sum.Sum32())
	parts, err := s.parts(ctx, u)
	if err != nil {
		return Part{}, err
	}
	for _, p := range parts {
		if p.Number == n && p.ETag == want {
			return p, nil
		}
	}
	return Part{}, fail(ErrBadPart, "part %d was taken before with other bytes; abort and begin anew", n)
}

// takeEarly puts a part into the spool, to be read back when its turn comes.
func (s *Uploads) takeEarly(ctx context.Context, u *Upload, n int, body io.Reader) (Part, error) {
	size, sum, err := s.spool.put(u.DID, u.key, n, s.spooled.Reader(ctx, u.DID, body))
	if err != nil {
		return Part{}, BodyError(err)
	}
	p := Part{Number: n, Size: size, ETag: etag(n, size, sum), spooled: true}
	_, err = s.db.Write().ExecContext(ctx, `insert into hold_part (upload_id, n, size, etag, spooled) values ($1, $2, $3, $4, 1)
		on conflict (upload_id, n) do update set size = $3, etag = $4, spooled = 1`, u.key, n, p.Size, p.ETag)
	if err != nil {
		return Part{}, fmt.Errorf("record part: %w", sqlx.Wrap(err))
	}
	_, err = s.db.Write().ExecContext(ctx, `update hold_upload set touched = $1 where id = $2`, s.clock().Unix(), u.key)
	return p, sqlx.Wrap(err)
}

// drainSpool appends the parts whose turn has come. The caller holds the upload's lock.
func (s *Uploads) drainSpool(ctx context.Context, u *Upload) error {
	for {
		n := u.taken + 1
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
