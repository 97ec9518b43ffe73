// Package uploads passes blobs on to holds, in parts. What a hold acknowledged outlives a crash of either server: an upload has a row
// (table pds_upload) from its start, or from the end of the request that was to be its only one.
package uploads

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/semaphore"

	"github.com/atcr-dev/atcr/hold/holdclient"
	"github.com/atcr-dev/atcr/internal/crashpoint"
	"github.com/atcr-dev/atcr/internal/sqlx"
	"github.com/atcr-dev/atcr/registry"
	"github.com/atcr-dev/atcr/registry/pds/internal/background"
	"github.com/atcr-dev/atcr/registry/pds/internal/holds"
	"github.com/atcr-dev/atcr/registry/pds/internal/keyed"
)

// Life is how long an upload is kept after its last byte.
const Life = 24 * time.Hour

const (
	partTries    = 3
	maxOpen      = 10_000 // states kept in memory; others are read from the database
	abortsAtOnce = 16
	callTimeout  = 30 * time.Second
)

// Target is where an upload goes.
type Target struct{ Owner, Repository, Hold string } // DID, name within the owner, DID

// Options configures [New]; all but Crash are required.
type Options struct {
	DB    *sqlx.DB // with the table pds_upload
	Holds *holds.Holds
	Work  *background.Runner
	Crash crashpoint.Hook
	Clock func() time.Time
	Log   *slog.Logger
	// Landed is called when a hold has a blob, before the client is told; its error is the client's.
	Landed func(ctx context.Context, at Target, d digest.Digest, size int64) error
}

// Uploads are the uploads of all accounts. Make it with [New]; safe for concurrent use.
type Uploads struct {
	o       Options
	buffers *semaphore.Weighted // chunks of parts in memory

	mu   sync.Mutex
	open map[string]*state // open or resting uploads whose state needs no asking
}

// state is an upload as the database has it.
type state struct {
	ID, Actor, Session string
	Target
	UploadID string // at the hold; empty before the first byte
	Size     int64  // what the hold acknowledged
	Parts    []holdclient.Part

	stored bool // there is a row
	sure   bool // the hold has exactly Parts
	gone   bool // the hold knows the upload no more: completed or lost
	busy   bool // guarded by Uploads.mu
}

// New makes Uploads.
func New(o Options) *Uploads {
	return &Uploads{o: o, buffers: semaphore.NewWeighted(maxChunks), open: map[string]*state{}}
}

// Start begins an upload of an account that may write there. The hold is not asked before there are bytes. One that is not kept is to
// be over with this request; it is written down when it isn't.
func (u *Uploads) Start(ctx context.Context, actor registry.Actor, to Target, keep bool) (*Upload, error) {
	up := u.begin(ctx, actor, to)
	if keep {
		if err := u.save(ctx, up.s); err != nil {
			return nil, err
		}
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.makeRoom()
	u.open[up.s.ID] = up.s
	return up, nil
}

func (u *Uploads) begin(ctx context.Context, actor registry.Actor, to Target) *Upload {
	s := &state{ID: keyed.NewID(), Target: to, Actor: actor.ID, Session: actor.Session, sure: true, busy: true}
	return &Upload{all: u, actor: actor, s: s, ctx: ctx}
}

// Copy brings a whole blob to a hold, which hashes it.
func (u *Uploads) Copy(ctx context.Context, actor registry.Actor, to Target, d digest.Digest, body io.Reader) error {
	up := u.begin(ctx, actor, to)
	_, err := up.ReadFrom(body)
	if err == nil {
		_, err = up.Commit(ctx, d)
	}
	if err != nil {
		_ = up.Cancel(ctx)
	}
	return err
}

// Open continues an upload of the same account to the same repository. Errors: registry.ErrUploadUnknown, registry.ErrUploadBusy.
func (u *Uploads) Open(ctx context.Context, actor registry.Actor, repository, id string) (*Upload, error) {
	s, err := u.take(ctx, id)
	if err != nil {
		return nil, err
	}
	up := &Upload{all: u, actor: actor, s: s, ctx: ctx}
	if s.Actor != actor.ID || s.Repository != repository {
		up.free()
		return nil, registry.ErrUploadUnknown
	}
	if actor.Session != "" {
		s.Session = actor.Session
	}
	if err := u.verify(ctx, s); err != nil {
		up.free()
		return nil, err
	}
	return up, nil
}

// makeRoom forgets states that can be read again. The caller holds mu.
func (u *Uploads) makeRoom() {
	if len(u.open) < maxOpen {
		return
	}
	for id, s := range u.open {
		if !s.busy && s.stored {
			delete(u.open, id)
		}
	}
}

// take finds an upload and marks it as used.
func (u *Uploads) take(ctx context.Context, id string) (*state, error) {
	free := func() (*state, error) {
		u.mu.Lock()
		defer u.mu.Unlock()
		s := u.open[id]
		if s == nil {
			return nil, nil
		}
		if s.busy {
			return nil, registry.ErrUploadBusy
		}
		s.busy = true
		return s, nil
	}
	if s, err := free(); s != nil || err != nil {
		return s, err
	}
	s, err := u.load(ctx, id)
	if err != nil {
		return nil, err
	}
	u.mu.Lock()
	if u.open[id] == nil { // else another request was faster
		u.makeRoom()
		u.open[id] = s
	}
	u.mu.Unlock()
	if s, err = free(); s == nil && err == nil {
		err = registry.ErrUploadUnknown
	}
	return s, err
}

func (u *Uploads) load(ctx context.Context, id string) (*state, error) {
	s := &state{ID: id, stored: true}
	var parts string
	err := u.o.DB.Read().QueryRowContext(ctx, `select owner, actor, session, repository, hold, upload_id, size, parts
		from pds_upload where id = $1 and touched >= $2`,
		id, u.o.Clock().Add(-Life).Unix()).
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

func (u *Uploads) save(ctx context.Context, s *state) error {
	parts, err := json.Marshal(s.Parts)
	if err != nil {
		return err
	}
	_, err = u.o.DB.Write().ExecContext(ctx, `insert into pds_upload
		(id, owner, actor, session, repository, hold, upload_id, size, parts, touched)
		values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
		on conflict (id) do update set session = $4, upload_id = $7, size = $8, parts = $9, touched = $10`,
		s.ID, s.Owner, s.Actor, s.Session, s.Repository, s.Hold, s.UploadID, s.Size, string(parts), u.o.Clock().Unix())
	if err = sqlx.Wrap(err); errors.Is(err, sqlx.ErrNoSpace) {
		return registry.ErrNoSpace.Wrap(err)
	}
	if err != nil {
		return fmt.Errorf("write the upload: %w", err)
	}
	s.stored = true
	return nil
}

func (u *Uploads) forget(ctx context.Context, s *state) error {
	u.mu.Lock()
	delete(u.open, s.ID)
	u.mu.Unlock()
	if !s.stored {
		return nil
	}
	if _, err := u.o.DB.Write().ExecContext(ctx, `delete from pds_upload where id = $1`, s.ID); err != nil {
		return fmt.Errorf("delete the upload: %w", sqlx.Wrap(err))
	}
	return nil
}

// verify learns after a restart, or a part whose fate is unknown, how far the hold has come. Where it can't say, the
// parts that it acknowledged count.
func (u *Uploads) verify(ctx context.Context, s *state) error {
	if s.sure || s.UploadID == "" {
		return nil
	}
	c, err := u.o.Holds.As(ctx, s.Hold, s.Session)
	if err != nil {
		return err
	}
	now, err := c.GetUpload(ctx, s.UploadID)
	switch {
	case errors.Is(err, holdclient.ErrNotSupported):
	case errors.Is(err, holdclient.ErrInvalidUpload), errors.Is(err, holdclient.ErrNotFound):
		s.gone = true
	case err != nil:
		return holds.Error(s.Hold, err)
	default:
		s.Parts, s.Size = now.Parts, now.Offset
	}
	s.sure = true
	return nil
}

func (u *Uploads) abort(ctx context.Context, s *state) error {
	if s.UploadID != "" && !s.gone {
		c, err := u.o.Holds.As(ctx, s.Hold, s.Session)
		if err == nil {
			err = c.AbortUpload(ctx, s.UploadID)
		}
		if err != nil {
			// The hold lets go of it by itself in a day.
			u.o.Log.Info("an upload could not be aborted at the hold", "hold", s.Hold, "err", err)
		}
	}
	return u.forget(ctx, s)
}

// Expire aborts uploads that have rested for a day.
func (u *Uploads) Expire(ctx context.Context) error {
	rows, err := u.o.DB.Read().QueryContext(ctx, `select id, session, hold, upload_id from pds_upload
		where touched < $1 order by touched limit 100`, u.o.Clock().Add(-Life).Unix())
	if err != nil {
		return fmt.Errorf("find old uploads: %w", sqlx.Wrap(err))
	}
	defer rows.Close()
	var old []*state
	for rows.Next() {
		s := &state{stored: true}
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
		if err := u.forget(ctx, s); err != nil {
			return err
		}
		if s.UploadID == "" {
			continue
		}
		// The hold drops it by itself in a day; telling it is kind.
		u.o.Work.Go(func(ctx context.Context) {
			ctx, cancel := context.WithTimeout(ctx, callTimeout)
			defer cancel()
			if c, err := u.o.Holds.As(ctx, s.Hold, s.Session); err == nil {
				_ = c.AbortUpload(ctx, s.UploadID)
			}
		}, background.Bound{Key: "aborts", Limit: abortsAtOnce}, background.Bound{Key: "aborts " + s.Hold, Limit: 1})
	}
	return nil
}
