package upload

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

// Given is a part as [Uploads.Complete] is given it.
type Given struct {
	Number int    `json:"partNumber"`
	ETag   string `json:"etag"`
}

// Complete makes the blob visible under d when the bytes hash to it. It may be repeated: the row remembers.
// The lease is written before the blob becomes visible, so that at no moment a collector finds it unowned.
// Errors: [ErrUnknown], also for another account than did; [ErrMissingParts]; [ErrPartOrder]; [ErrOtherDigest]; storage.ErrDigestMismatch,
// after which the upload is kept; others of the storage.
func (s *Uploads) Complete(ctx context.Context, id, did string, d digest.Digest, given []Given) error {
	u, err := s.Find(ctx, id)
	if err != nil {
		return err
	}
	if u.DID != did {
		return fail(ErrUnknown, "the upload was begun by another account")
	}
	unlock, err := s.locks.Lock(ctx, u.key)
	if err != nil {
		return err
	}
	defer unlock()
	if u, err = s.Find(ctx, id); err != nil {
		return err
	}
	if u.Done {
		if u.commit != d {
			return fail(ErrOtherDigest, "the upload was completed as %s", u.commit)
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
	_, err = s.db.Write().ExecContext(context.WithoutCancel(ctx), `update hold_upload set done = 1, touched = $1 where id = $2`,
		s.clock().Unix(), u.key)
	if err != nil {
		return fmt.Errorf("end upload: %w", sqlx.Wrap(err))
	}
	s.spool.dropAll(u.key)
	s.reach(crashpoint.UploadDone)
	if s.o.Completed != nil {
		s.o.Completed(u.Bytes)
	}
	return nil
}

// checkParts holds what the client names against what was acknowledged: all parts from 1 on, none missing, none more.
func (s *Uploads) checkParts(ctx context.Context, u *Upload, given []Given) error {
	have, err := s.parts(ctx, u)
	if err != nil {
		return err
	}
	missing := func(format string, args ...any) error { return fail(ErrMissingParts, format, args...) }
	if len(given) != len(have) {
		return missing("%d parts are named, %d were acknowledged", len(given), len(have))
	}
	for i, p := range have {
		switch {
		case p.Number != i+1 || p.spooled:
			return missing("part %d has not come", i+1)
		case given[i].Number != p.Number:
			return fail(ErrPartOrder, "parts[%d].partNumber is %d, want %d: parts stand in order", i, given[i].Number, p.Number)
		case !sameETag(given[i].ETag, p.ETag):
			return missing("parts[%d].etag is not the one that part %d was acknowledged with", i, p.Number)
		}
	}
	return nil
}

func (s *Uploads) intendCommit(ctx context.Context, u *Upload, d digest.Digest) error {
	now := s.clock().Unix()
	err := sqlx.InTx(ctx, s.db.Write(), func(tx *sql.Tx) error {
		if err := s.o.Lease(ctx, tx, u.DID, d, u.Bytes); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `update hold_upload set commit_digest = $1, touched = $2 where id = $3`, d.String(), now, u.key)
		return err
	})
	if err != nil {
		return fmt.Errorf("intend commit: %w", err)
	}
	return nil
}

// knownUndone reports whether an error is one after which nothing was made visible. After any other the outcome is unknown: the
// intent stays, and a repeated completeUpload finds out.
func knownUndone(err error) bool {
	var refused *Error
	return errors.As(err, &refused) || errors.Is(err, storage.ErrDigestMismatch) || errors.Is(err, storage.ErrDigestInvalid) ||
		errors.Is(err, storage.ErrNoSpace) || errors.Is(err, storage.ErrUploadBusy)
}

// undoIntent opens the upload again after its bytes turned out to be something else.
func (s *Uploads) undoIntent(ctx context.Context, u *Upload, d digest.Digest) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	err := sqlx.InTx(ctx, s.db.Write(), func(tx *sql.Tx) error {
		if _, err := s.store.Stat(ctx, d); errors.Is(err, storage.ErrNotFound) {
			if err := s.o.Release(ctx, tx, u.DID, d); err != nil {
				return err
			}
		}
		_, err := tx.ExecContext(ctx, `update hold_upload set commit_digest = '' where id = $1`, u.key)
		return err
	})
	if err != nil {
		s.o.Log.Warn("an upload that failed could not be opened again", "error", err)
	}
}

func (s *Uploads) commitBytes(ctx context.Context, u *Upload, d digest.Digest) error {
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
	if up.Size() != u.Bytes {
		return fail(ErrMissingParts, "%d bytes of a part that was not acknowledged are there; send that part again", up.Size()-u.Bytes)
	}
	if _, err := up.Commit(ctx, d); err != nil {
		return fmt.Errorf("commit %s: %w", d, err)
	}
	return nil
}

// Abort discards an upload; of one that is complete the blob stays. Errors: [ErrUnknown], storage.ErrUploadBusy.
func (s *Uploads) Abort(ctx context.Context, id string) error {
	u, err := s.Find(ctx, id)
	if err != nil {
		return err
	}
	unlock, ok := s.locks.Try(u.key)
	if !ok {
		return storage.ErrUploadBusy
	}
	defer unlock()
	return s.drop(ctx, u)
}

// dropResting drops an upload that was listed, unless somebody works on it or has since.
func (s *Uploads) dropResting(ctx context.Context, listed *Upload) (dropped bool, err error) {
	unlock, ok := s.locks.Try(listed.key)
	if !ok {
		return false, nil
	}
	defer unlock()
	u, err := s.read(ctx, listed.key)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if u.Done || u.commit != listed.commit || u.taken != listed.taken || u.touched != listed.touched {
		return false, nil
	}
	err = s.drop(ctx, u)
	return err == nil, err
}

// drop forgets an upload. The caller holds its lock.
func (s *Uploads) drop(ctx context.Context, u *Upload) error {
	if !u.Done {
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
