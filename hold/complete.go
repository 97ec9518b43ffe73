package hold

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/atcr-dev/atcr/internal/crashpoint"
	"github.com/atcr-dev/atcr/internal/sqlx"
	"github.com/atcr-dev/atcr/storage"
)

// givenPart is a part as completeUpload names it.
type givenPart struct {
	Number int    `json:"partNumber"`
	ETag   string `json:"etag"`
}

// completeUpload makes the blob visible under d when the bytes hash to it. It may be repeated: the row remembers.
// The lease is written before the blob becomes visible, so that at no moment a collector finds it unowned.
func (s *Server) completeUpload(ctx context.Context, id, did string, d digest.Digest, given []givenPart) error {
	u, err := s.findUpload(ctx, id)
	if err != nil {
		return err
	}
	if u.did != did {
		return invalidUpload("the upload was begun by another account")
	}
	unlock, err := s.uploads.lock(ctx, u.key)
	if err != nil {
		return err
	}
	defer unlock()
	if u, err = s.findUpload(ctx, id); err != nil {
		return err
	}
	if u.done {
		if u.commit != d {
			return invalidDigest("the upload was completed as %s", u.commit)
		}
		return nil
	}
	if u.commit == "" { // an early part may have come just after the one before it looked for it
		if err := s.drainSpool(ctx, u); err != nil {
			return err
		}
	}
	if err := s.checkParts(ctx, u, given); err != nil {
		return err
	}
	if err := s.intendCommit(ctx, u, d); err != nil {
		return err
	}
	s.reach(crashpoint.CommitIntended)
	if err := s.commitBytes(ctx, u, d); err != nil {
		if knownUndone(err) {
			s.undoIntent(context.WithoutCancel(ctx), u, d)
		}
		return err
	}
	s.reach(crashpoint.BlobVisible)
	_, err = s.db.Write().ExecContext(context.WithoutCancel(ctx), `update hold_upload set done = 1, touched = $1 where id = $2`, s.clock().Unix(), u.key)
	if err != nil {
		return fmt.Errorf("end upload: %w", sqlx.Wrap(err))
	}
	s.spool.dropAll(u.key)
	s.reach(crashpoint.UploadDone)
	s.metrics.uploads.Inc()
	s.metrics.uploadedBytes.Add(float64(u.bytes))
	return nil
}

// checkParts holds what the client names against what was acknowledged: all parts from 1 on, none missing, none more.
func (s *Server) checkParts(ctx context.Context, u *upload, given []givenPart) error {
	have, err := s.uploadParts(ctx, u)
	if err != nil {
		return err
	}
	missing := func(format string, args ...any) error { return fail(400, "MissingParts", format, args...) }
	if len(given) != len(have) {
		return missing("%d parts are named, %d were acknowledged", len(given), len(have))
	}
	for i, p := range have {
		switch {
		case p.Number != i+1 || p.spooled:
			return missing("part %d has not come", i+1)
		case given[i].Number != p.Number:
			return invalid("parts[%d].partNumber is %d, want %d: parts stand in order", i, given[i].Number, p.Number)
		case !sameETag(given[i].ETag, p.ETag):
			return missing("parts[%d].etag is not the one that part %d was acknowledged with", i, p.Number)
		}
	}
	return nil
}

func (s *Server) intendCommit(ctx context.Context, u *upload, d digest.Digest) error {
	now := s.clock()
	err := sqlx.InTx(ctx, s.db.Write(), func(tx *sql.Tx) error {
		if err := s.lease(ctx, tx, u.did, "", []blobSize{{d, u.bytes}}, now); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `update hold_upload set commit_digest = $1, touched = $2 where id = $3`, d.String(), now.Unix(), u.key)
		return err
	})
	if err != nil {
		return fmt.Errorf("intend commit: %w", err)
	}
	return nil
}

// knownUndone tells failures after which nothing was made visible. After any other the outcome is unknown: the intent stays, and a
// repeated completeUpload finds out.
func knownUndone(err error) bool {
	var refused *xrpcError
	return errors.As(err, &refused) || errors.Is(err, storage.ErrDigestMismatch) || errors.Is(err, storage.ErrDigestInvalid) ||
		errors.Is(err, storage.ErrNoSpace) || errors.Is(err, storage.ErrUploadBusy)
}

// undoIntent opens the upload again after its bytes turned out to be something else.
func (s *Server) undoIntent(ctx context.Context, u *upload, d digest.Digest) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	err := sqlx.InTx(ctx, s.db.Write(), func(tx *sql.Tx) error {
		if _, err := s.store.Stat(ctx, d); errors.Is(err, storage.ErrNotFound) {
			if _, err := tx.ExecContext(ctx, `delete from hold_lease where did = $1 and digest = $2`, u.did, d.String()); err != nil {
				return err
			}
		}
		_, err := tx.ExecContext(ctx, `update hold_upload set commit_digest = '' where id = $1`, u.key)
		return err
	})
	if err != nil {
		s.log.Warn("an upload that failed could not be opened again", "error", err)
	}
}

func (s *Server) commitBytes(ctx context.Context, u *upload, d digest.Digest) error {
	up, err := s.store.Resume(ctx, u.storageID)
	if errors.Is(err, storage.ErrUploadUnknown) && u.commit == d {
		// A crash came between the commit and the row: then the blob is there.
		if _, statErr := s.store.Stat(ctx, d); statErr == nil {
			return nil
		}
	}
	if err != nil {
		return fmt.Errorf("resume upload: %w", err)
	}
	defer up.Close()
	if up.Size() != u.bytes {
		return fail(400, "MissingParts", "%d bytes of a part that was not acknowledged are there; send that part again", up.Size()-u.bytes)
	}
	if _, err := up.Commit(ctx, d); err != nil {
		return fmt.Errorf("commit %s: %w", d, err)
	}
	return nil
}

// abortUpload throws an upload away; one that is complete stays.
func (s *Server) abortUpload(ctx context.Context, id string) error {
	u, err := s.findUpload(ctx, id)
	if err != nil {
		return err
	}
	unlock, ok := s.uploads.try(u.key)
	if !ok {
		return storage.ErrUploadBusy
	}
	defer unlock()
	return s.dropUpload(ctx, u)
}

// dropUpload forgets an upload. The caller holds its lock.
func (s *Server) dropUpload(ctx context.Context, u *upload) error {
	if !u.done {
		up, err := s.store.Resume(ctx, u.storageID)
		if err == nil {
			err = up.Cancel(ctx)
		}
		if err != nil && !errors.Is(err, storage.ErrUploadUnknown) {
			return fmt.Errorf("cancel upload: %w", err)
		}
	}
	s.spool.dropAll(u.key)
	err := sqlx.InTx(ctx, s.db.Write(), func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, `delete from hold_part where upload_id = $1`, u.key); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `delete from hold_upload where id = $1`, u.key)
		return err
	})
	if err != nil {
		return fmt.Errorf("forget upload: %w", err)
	}
	return nil
}
