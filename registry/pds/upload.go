package pds

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/atcr-dev/atcr/hold/holdclient"
	"github.com/atcr-dev/atcr/internal/crashpoint"
	"github.com/atcr-dev/atcr/internal/sqlx"
	"github.com/atcr-dev/atcr/registry"
)

const (
	uploadLife = 24 * time.Hour // from an upload's last byte
	partTries  = 3
	maxUploads = 10_000 // states kept in memory; others are read from the database
)

// uploadState is an upload as the database has it.
type uploadState struct {
	ID, Owner, Actor, Session, Repository, Hold string
	UploadID                                    string // at the hold; empty before the first byte
	Size                                        int64  // what the hold acknowledged
	Parts                                       []holdclient.Part

	stored bool // there is a row
	sure   bool // the hold has exactly Parts
	gone   bool // the hold knows the upload no more: completed or lost
	busy   bool // guarded by Backend.uploadsMu
}

// upload is one request's hold on an upload.
type upload struct {
	r   *repository
	s   *uploadState
	ctx context.Context // of the request: io.ReaderFrom has none
	end bool            // committed, cancelled or closed

	closed int64 // Size at Close: afterwards the state may be another request's
}

// StartUpload begins an upload to the owner's present hold, which is not asked before there are bytes.
func (r *repository) StartUpload(ctx context.Context, hint registry.UploadHint) (registry.Upload, error) {
	o, err := r.writer(ctx)
	if err != nil {
		return nil, err
	}
	hold, err := r.b.presentHold(ctx, o, r.actor.Session)
	if err != nil {
		return nil, err
	}
	if err := r.b.ensureWriter(ctx, r.actor, hold); err != nil {
		return nil, err
	}
	s := &uploadState{
		ID: newID(), Owner: o.DID, Actor: r.actor.ID, Session: r.actor.Session, Repository: r.name, Hold: hold, sure: true, busy: true,
	}
	// A blob that comes whole with its digest is over with this request; else the id has to last.
	if hint.Digest == "" {
		if err := r.b.saveUpload(ctx, s); err != nil {
			return nil, err
		}
	}
	r.b.uploadsMu.Lock()
	defer r.b.uploadsMu.Unlock()
	r.b.makeRoom()
	r.b.uploads[s.ID] = s
	return &upload{r: r, s: s, ctx: ctx}, nil
}

// makeRoom forgets states that can be read again. The caller holds uploadsMu.
func (b *Backend) makeRoom() {
	if len(b.uploads) < maxUploads {
		return
	}
	for id, s := range b.uploads {
		if !s.busy && s.stored {
			delete(b.uploads, id)
		}
	}
}

// Upload continues an upload of the same account.
func (r *repository) Upload(ctx context.Context, id string) (registry.Upload, error) {
	s, err := r.b.takeUpload(ctx, id)
	if err != nil {
		return nil, err
	}
	u := &upload{r: r, s: s, ctx: ctx}
	if s.Actor != r.actor.ID || s.Repository != r.name {
		u.free()
		return nil, registry.ErrUploadUnknown
	}
	if r.actor.Session != "" {
		s.Session = r.actor.Session
	}
	if err := r.b.verify(ctx, s); err != nil {
		u.free()
		return nil, err
	}
	return u, nil
}

// takeUpload finds an upload and marks it as used.
func (b *Backend) takeUpload(ctx context.Context, id string) (*uploadState, error) {
	take := func() (*uploadState, error) {
		b.uploadsMu.Lock()
		defer b.uploadsMu.Unlock()
		s := b.uploads[id]
		if s == nil {
			return nil, nil
		}
		if s.busy {
			return nil, registry.ErrUploadBusy
		}
		s.busy = true
		return s, nil
	}
	if s, err := take(); s != nil || err != nil {
		return s, err
	}
	s, err := b.loadUpload(ctx, id)
	if err != nil {
		return nil, err
	}
	b.uploadsMu.Lock()
	if b.uploads[id] == nil { // else another request was faster
		b.makeRoom()
		b.uploads[id] = s
	}
	b.uploadsMu.Unlock()
	if s, err = take(); s == nil && err == nil {
		err = registry.ErrUploadUnknown
	}
	return s, err
}

func (b *Backend) loadUpload(ctx context.Context, id string) (*uploadState, error) {
	s := &uploadState{ID: id, stored: true}
	var parts string
	err := b.db.Read().QueryRowContext(ctx, `select owner, actor, session, repository, hold, upload_id, size, parts from pds_upload where id = $1 and touched >= $2`,
		id, b.clock().Add(-uploadLife).Unix()).
		Scan(&s.Owner, &s.Actor, &s.Session, &s.Repository, &s.Hold, &s.UploadID, &s.Size, &parts)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, registry.ErrUploadUnknown
	}
	if err == nil {
		err = json.Unmarshal([]byte(parts), &s.Parts)
	}
	if err != nil {
		return nil, fmt.Errorf("read the upload: %w", sqlx.Wrap(err))
	}
	return s, nil
}

func (b *Backend) saveUpload(ctx context.Context, s *uploadState) error {
	parts, err := json.Marshal(s.Parts)
	if err != nil {
		return err
	}
	_, err = b.db.Write().ExecContext(ctx, `insert into pds_upload (id, owner, actor, session, repository, hold, upload_id, size, parts, touched)
		values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
		on conflict (id) do update set session = $4, upload_id = $7, size = $8, parts = $9, touched = $10`,
		s.ID, s.Owner, s.Actor, s.Session, s.Repository, s.Hold, s.UploadID, s.Size, string(parts), b.clock().Unix())
	if err = sqlx.Wrap(err); errors.Is(err, sqlx.ErrNoSpace) {
		return registry.ErrNoSpace.Wrap(err)
	}
	if err != nil {
		return fmt.Errorf("write the upload: %w", err)
	}
	s.stored = true
	return nil
}

func (b *Backend) deleteUpload(ctx context.Context, s *uploadState) error {
	b.uploadsMu.Lock()
	delete(b.uploads, s.ID)
	b.uploadsMu.Unlock()
	if !s.stored {
		return nil
	}
	if _, err := b.db.Write().ExecContext(ctx, `delete from pds_upload where id = $1`, s.ID); err != nil {
		return fmt.Errorf("delete the upload: %w", sqlx.Wrap(err))
	}
	return nil
}

// verify learns after a restart, or a part whose fate is unknown, how far the hold has come. Where it can't say, the
// parts that it acknowledged count.
func (b *Backend) verify(ctx context.Context, s *uploadState) error {
	if s.sure || s.UploadID == "" {
		return nil
	}
	c, err := b.holdAs(ctx, s.Hold, s.Session)
	if err != nil {
		return err
	}
	state, err := c.GetUpload(ctx, s.UploadID)
	switch {
	case errors.Is(err, holdclient.ErrNotSupported):
	case errors.Is(err, holdclient.ErrInvalidUpload), errors.Is(err, holdclient.ErrNotFound):
		s.gone = true
	case err != nil:
		return holdError(s.Hold, err)
	default:
		s.Parts, s.Size = state.Parts, state.Offset
	}
	s.sure = true
	return nil
}

// ID continues the upload.
func (u *upload) ID() string { return u.s.ID }

// Size is what the hold has acknowledged.
func (u *upload) Size() int64 {
	if u.end {
		return u.closed
	}
	return u.s.Size
}

// Link is empty: bytes come here.
func (u *upload) Link() string { return "" }

// ReadFrom sends all of r to the hold, in parts.
func (u *upload) ReadFrom(r io.Reader) (int64, error) {
	if u.s.gone {
		return 0, registry.ErrUploadUnknown
	}
	if err := u.r.b.verify(u.ctx, u.s); err != nil {
		return 0, err
	}
	var total int64
	for {
		buf, rerr := u.r.b.fill(u.ctx, r)
		n := buf.size()
		if n > 0 {
			// What has come is worth keeping, also when the client is gone.
			if err := u.send(context.WithoutCancel(u.ctx), buf); err != nil {
				buf.free()
				return total, err
			}
			total += n
		}
		buf.free()
		if errors.Is(rerr, io.EOF) {
			return total, nil
		}
		if rerr != nil {
			return total, rerr
		}
	}
}

// send puts one part to the hold. When nobody knows whether it arrived the hold is asked.
func (u *upload) send(ctx context.Context, buf *buffer) error {
	s, b := u.s, u.r.b
	c, err := b.holdAs(ctx, s.Hold, s.Session)
	if err != nil {
		return err
	}
	if err := u.initiate(ctx, c, ""); err != nil {
		return err
	}
	size := buf.size()
	for try := 1; ; try++ {
		work, cancel := context.WithTimeout(ctx, 10*time.Minute)
		var part holdclient.Part
		part, err = c.UploadPart(work, s.UploadID, len(s.Parts)+1, size, buf.reader())
		cancel()
		if err == nil {
			part.Size = size
			s.Parts, s.Size = append(s.Parts, part), s.Size+size
			break
		}
		if state, gerr := c.GetUpload(ctx, s.UploadID); gerr == nil && state.Offset == s.Size+size {
			s.Parts, s.Size = state.Parts, state.Offset
			break
		}
		if !errors.Is(err, holdclient.ErrUnavailable) || try == partTries {
			s.sure = false
			return holdError(s.Hold, err)
		}
		if err := pause(ctx, time.Duration(try)*100*time.Millisecond); err != nil {
			return err
		}
	}
	if s.stored {
		if err := b.saveUpload(ctx, s); err != nil {
			return err
		}
	}
	return b.crash.Reach(crashpoint.PartAcknowledged)
}

// initiate begins the upload at the hold, once.
func (u *upload) initiate(ctx context.Context, c *holdclient.Client, d digest.Digest) error {
	if u.s.UploadID != "" {
		return nil
	}
	if d == "" { // not known yet: a placeholder that is nobody's blob
		d = digest.FromString(u.s.ID)
	}
	id, err := c.InitiateUpload(ctx, d)
	if err != nil {
		return holdError(u.s.Hold, err)
	}
	u.s.UploadID = id
	if u.s.stored {
		return u.r.b.saveUpload(ctx, u.s)
	}
	return nil
}

// Commit has the hold verify and keep the blob.
func (u *upload) Commit(ctx context.Context, d digest.Digest) (ocispec.Descriptor, error) {
	s, b := u.s, u.r.b
	if err := b.ensureWriter(ctx, u.r.actor, s.Hold); err != nil {
		return ocispec.Descriptor{}, err
	}
	c, err := b.holdAs(ctx, s.Hold, s.Session)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	if s.gone {
		// It may have been completed before this server, or the answer, got lost.
		err = holdclient.ErrInvalidUpload
	} else {
		err = u.complete(ctx, c, d)
	}
	if errors.Is(err, holdclient.ErrUnavailable) || errors.Is(err, holdclient.ErrInvalidUpload) {
		if size, serr := c.StatBlob(ctx, s.Owner, d); serr == nil && size == s.Size {
			err = nil
		} else if errors.Is(err, holdclient.ErrUnavailable) {
			s.sure = false
		}
	}
	if errors.Is(err, holdclient.ErrInvalidUpload) {
		_ = b.deleteUpload(ctx, s) // nothing comes of it; what fails here runs out
		u.end, u.closed = true, s.Size
	}
	if err != nil {
		return ocispec.Descriptor{}, holdError(s.Hold, err)
	}
	if err := b.crash.Reach(crashpoint.UploadCompleted); err != nil {
		return ocispec.Descriptor{}, err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTimeout)
	defer cancel()
	if err := b.rememberUpload(ctx, s.Owner, s.Repository, d, s.Hold, s.Size); err != nil {
		return ocispec.Descriptor{}, err
	}
	if err := b.deleteUpload(ctx, s); err != nil {
		b.log.Warn("a finished upload stays in the table until it runs out", "err", err)
	}
	u.end, u.closed = true, s.Size
	b.leased.put(s.Owner+"/"+s.Repository+"@"+d.String(), place{s.Hold, s.Size}, b.clock().Add(rightsFor))
	return ocispec.Descriptor{MediaType: "application/octet-stream", Digest: d, Size: s.Size}, nil
}

func (u *upload) complete(ctx context.Context, c *holdclient.Client, d digest.Digest) error {
	if err := u.initiate(ctx, c, d); err != nil {
		return err
	}
	if len(u.s.Parts) == 0 { // an empty blob
		part, err := c.UploadPart(ctx, u.s.UploadID, 1, 0, (&buffer{}).reader())
		if err != nil {
			return err
		}
		u.s.Parts = append(u.s.Parts, part)
	}
	return c.CompleteUpload(ctx, u.s.UploadID, d, u.s.Parts)
}

// Cancel throws the upload away, here and at the hold.
func (u *upload) Cancel(ctx context.Context) error {
	if u.end {
		return nil
	}
	if err := u.r.b.abort(ctx, u.s); err != nil {
		return err
	}
	u.end, u.closed = true, u.s.Size
	return nil
}

func (b *Backend) abort(ctx context.Context, s *uploadState) error {
	if s.UploadID != "" && !s.gone {
		c, err := b.holdAs(ctx, s.Hold, s.Session)
		if err == nil {
			err = c.AbortUpload(ctx, s.UploadID)
		}
		if err != nil {
			// The hold lets go of it by itself in a day.
			b.log.Info("an upload could not be aborted at the hold", "hold", s.Hold, "err", err)
		}
	}
	return b.deleteUpload(ctx, s)
}

// Close lets go of the upload. One that was to be over in this request, and isn't, is kept from now on.
func (u *upload) Close() error {
	if u.end {
		return nil
	}
	u.end, u.closed = true, u.s.Size
	var err error
	if !u.s.stored {
		err = u.r.b.saveUpload(context.WithoutCancel(u.ctx), u.s)
	}
	u.free()
	return err
}

func (u *upload) free() {
	u.r.b.uploadsMu.Lock()
	defer u.r.b.uploadsMu.Unlock()
	u.s.busy = false
}

// expireUploads aborts uploads that have rested for a day.
func (b *Backend) expireUploads(ctx context.Context) error {
	rows, err := b.db.Read().QueryContext(ctx, `select id, session, hold, upload_id from pds_upload where touched < $1 order by touched limit 100`, b.clock().Add(-uploadLife).Unix())
	if err != nil {
		return fmt.Errorf("find old uploads: %w", sqlx.Wrap(err))
	}
	defer rows.Close()
	var old []*uploadState
	for rows.Next() {
		s := &uploadState{stored: true}
		if err := rows.Scan(&s.ID, &s.Session, &s.Hold, &s.UploadID); err != nil {
			return fmt.Errorf("find old uploads: %w", sqlx.Wrap(err))
		}
		old = append(old, s)
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("find old uploads: %w", sqlx.Wrap(err))
	}
	rows.Close()
	for _, s := range old {
		if err := b.deleteUpload(ctx, s); err != nil {
			return err
		}
		if s.UploadID == "" {
			continue
		}
		// The hold lets go of it by itself in a day; telling it is kind.
		leave := b.gate.enter(bound{"aborts", maxCounts}, bound{"aborts " + s.Hold, 1})
		if leave == nil {
			continue
		}
		b.work.Go(func() {
			defer leave()
			ctx, cancel := context.WithTimeout(b.life, callTimeout)
			defer cancel()
			if c, err := b.holdAs(ctx, s.Hold, s.Session); err == nil {
				_ = c.AbortUpload(ctx, s.UploadID)
			}
		})
	}
	return nil
}
