// Package uploads passes blobs on to holds, in parts. What a hold acknowledged outlives a crash of either server: an upload has a row
// (table pds_upload) from its start, or from the end of the request that was to be its only one. So does what is too short for a part:
// it waits in a file, the upload's tail, which is sent with what comes next, or when the upload ends. A sender who pauses, or is slow,
// has no memory here but that file.
package uploads

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/atcr-dev/atcr/hold/holdclient"
	"github.com/atcr-dev/atcr/internal/budget"
	"github.com/atcr-dev/atcr/internal/crashpoint"
	"github.com/atcr-dev/atcr/internal/durable"
	"github.com/atcr-dev/atcr/internal/httpx"
	"github.com/atcr-dev/atcr/internal/room"
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
	maxStates    = 10_000 // kept in memory; others are read from the database
	maxOpen      = 1000   // uploads of one account, or from one client
	expireAtOnce = 500
	abortsAtOnce = 16
	callTimeout  = 30 * time.Second
)

// Target is where an upload goes.
type Target struct{ Owner, Repository, Hold string } // DID, name within the owner, DID

// Options configures [New]; all but Crash are required.
type Options struct {
	Dir   string   // of the tails, the caller's alone
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
	o      Options
	memory *budget.Budget // of parts that come in
	tails  *tails

	mu   sync.Mutex
	open map[string]*state // open or resting uploads whose state needs no asking

	dropping sync.Mutex // one at a time drops tails for the sake of a share
}

// state is an upload as the database has it.
type state struct {
	ID, Actor, Session string
	Client             string // where it was begun from; may be empty
	Target
	UploadID string // at the hold; empty before the first part
	Size     int64  // what the hold acknowledged
	Parts    []holdclient.Part
	Tail     int64 // what lies in the tail file, durably

	charged int64 // of the shares of tails
	touched int64 // unix seconds; of lists alone

	stored bool // there is a row
	sure   bool // the hold has exactly Parts
	gone   bool // the hold knows the upload no more: completed or lost
	busy   bool // guarded by Uploads.mu
}

// who acts at the hold.
func (s *state) who() registry.Actor { return registry.Actor{ID: s.Actor, Session: s.Session} }

// keys are whose share of tails is taken.
func (s *state) keys() []string {
	keys := append(make([]string, 0, 3), accountKey(s.Actor))
	if s.Client != "" {
		keys = append(keys, clientKey(s.Client))
	}
	return keys
}

func accountKey(did string) string { return "account " + did }
func clientKey(addr string) string { return "client " + addr }

// New makes Uploads, and the folder of the tails.
func New(ctx context.Context, o Options) (*Uploads, error) {
	if err := durable.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("folder of uploads: %w", err)
	}
	u := &Uploads{o: o, memory: budget.New(memoryOfAll, memoryOfOne), open: map[string]*state{}}
	u.tails = &tails{dir: o.Dir, shares: budget.New(tailsOfAll, tailsOfOne), disk: room.New(o.Dir, u.makeRoomOnDisk)}
	resting, err := u.resting(ctx)
	for _, s := range resting {
		u.tails.shares.Give(-s.Tail, s.keys()...) // it is taken, also where that is more than a share is now
	}
	return u, err
}

// Held returns how many bytes of uploads are here, because their holds don't have them yet: in memory, and in tails.
func (u *Uploads) Held() (memory, tails int64) { return u.memory.Used(), u.tails.shares.Used() }

// Start begins an upload of an account that may write there. The hold is not asked before there are bytes. One that is not kept is to
// be over with this request; it is written down when it isn't.
func (u *Uploads) Start(ctx context.Context, actor registry.Actor, to Target, keep bool) (*Upload, error) {
	up := u.begin(ctx, actor, to)
	if keep {
		if err := u.mayOpen(ctx, up.s); err != nil {
			return nil, err
		}
		if err := u.save(ctx, up.s); err != nil {
			return nil, err
		}
	}
	u.opened(up.s)
	return up, nil
}

// opened has an upload known, as one that a request works on.
func (u *Uploads) opened(s *state) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.makeRoom()
	u.open[s.ID] = s
}

func (u *Uploads) begin(ctx context.Context, actor registry.Actor, to Target) *Upload {
	s := &state{
		ID: keyed.NewID(), Target: to, Actor: actor.ID, Session: actor.Session, sure: true, busy: true,
	}
	if addr := httpx.Client(ctx); addr.IsValid() {
		s.Client = addr.String()
	}
	return &Upload{all: u, actor: actor, s: s, ctx: ctx}
}

// mayOpen refuses one more upload to who has as many as one may have.
func (u *Uploads) mayOpen(ctx context.Context, s *state) error {
	for _, by := range []struct{ column, value, whose string }{{"actor", s.Actor, s.Actor}, {"client", s.Client, "your address"}} {
		var n int
		err := u.o.DB.Read().QueryRowContext(ctx, `select count(*) from (select 1 from pds_upload
			where `+by.column+` = $1 and $1 <> '' and touched >= $2 limit $3) as open`,
			by.value, u.o.Clock().Add(-Life).Unix(), maxOpen).Scan(&n)
		if err != nil {
			return fmt.Errorf("count open uploads: %w", sqlx.Wrap(err))
		}
		if n >= maxOpen {
			e := registry.ErrTooManyRequests.With("%d uploads of %s are open: finish or cancel some, or wait until a day after their "+
				"last bytes, when they end", n, by.whose)
			e.RetryAfter = time.Minute
			return e
		}
	}
	return nil
}

// Copy brings a whole blob to a hold, which hashes it, and returns its size.
func (u *Uploads) Copy(ctx context.Context, actor registry.Actor, to Target, d digest.Digest, body io.Reader) (int64, error) {
	up := u.begin(ctx, actor, to)
	u.opened(up.s) // what is parked of it is not at rest
	size, err := up.ReadFrom(body)
	if err == nil {
		_, err = up.Commit(ctx, d)
	}
	if err != nil {
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTimeout)
		defer cancel()
		_ = up.Cancel(stop)
		_ = up.Close() // lets go of what is here also when the table could not be written
	}
	return size, err
}

// Open continues an upload of the same account to the same repository; owner is its DID, empty when that isn't known now. Errors:
// registry.ErrUploadUnknown, registry.ErrUploadBusy.
func (u *Uploads) Open(ctx context.Context, actor registry.Actor, owner, repository, id string) (*Upload, error) {
	s, err := u.take(ctx, id)
	if err != nil {
		return nil, err
	}
	up := &Upload{all: u, actor: actor, s: s, ctx: ctx}
	if s.Actor != actor.ID || s.Repository != repository || owner != "" && s.Owner != owner {
		u.free(s)
		return nil, registry.ErrUploadUnknown
	}
	if actor.Session != "" {
		s.Session = actor.Session
	}
	if err := u.verify(ctx, s); err != nil {
		u.free(s)
		return nil, err
	}
	return up, nil
}

// makeRoom forgets states that can be read again. The caller holds mu.
func (u *Uploads) makeRoom() {
	if len(u.open) < maxStates {
		return
	}
	for id, s := range u.open {
		if !s.busy && s.stored {
			delete(u.open, id)
		}
	}
}

// free lets another request have an upload.
func (u *Uploads) free(s *state) {
	u.mu.Lock()
	defer u.mu.Unlock()
	s.busy = false
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
	err := u.o.DB.Read().QueryRowContext(ctx, `select owner, actor, session, client, repository, hold, upload_id, size, parts, tail
		from pds_upload where id = $1 and touched >= $2`,
		id, u.o.Clock().Add(-Life).Unix()).
		Scan(&s.Owner, &s.Actor, &s.Session, &s.Client, &s.Repository, &s.Hold, &s.UploadID, &s.Size, &parts, &s.Tail)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, registry.ErrUploadUnknown
	}
	if err == nil {
		err = json.Unmarshal([]byte(parts), &s.Parts)
	}
	if err != nil {
		return nil, fmt.Errorf("read the upload: %w", sqlx.Wrap(err))
	}
	if s.charged = s.Tail; s.Tail > 0 && !u.tails.has(id, s.Tail) {
		s.Tail = 0 // another machine's, or lost with its disk
	}
	return s, nil
}

func (u *Uploads) save(ctx context.Context, s *state) error {
	parts, err := json.Marshal(s.Parts)
	if err != nil {
		return err
	}
	_, err = u.o.DB.Write().ExecContext(ctx, `insert into pds_upload
		(id, owner, actor, session, repository, hold, upload_id, size, parts, touched, client, tail)
		values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
		on conflict (id) do update set session = $4, upload_id = $7, size = $8, parts = $9, touched = $10, tail = $12`,
		s.ID, s.Owner, s.Actor, s.Session, s.Repository, s.Hold, s.UploadID, s.Size, string(parts), u.o.Clock().Unix(), s.Client, s.Tail)
	if err = sqlx.Wrap(err); errors.Is(err, sqlx.ErrNoSpace) {
		return noSpace(u.tails.disk.Full(), err)
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
	if s.stored {
		if _, err := u.o.DB.Write().ExecContext(ctx, `delete from pds_upload where id = $1`, s.ID); err != nil {
			return fmt.Errorf("delete the upload: %w", sqlx.Wrap(err))
		}
	}
	s.Tail = 0
	u.uncharge(s)
	return nil
}

// uncharge gives back what the tail doesn't take any more, and the file when that is all.
func (u *Uploads) uncharge(s *state) {
	more := s.charged - s.Tail
	if more <= 0 {
		return
	}
	u.tails.shares.Give(more, s.keys()...)
	if s.charged = s.Tail; s.Tail == 0 {
		u.removeTail(s.ID)
	}
}

func (u *Uploads) removeTail(id string) {
	if err := u.tails.remove(id); err != nil {
		u.o.Log.Warn("the tail of an upload could not be removed", "err", err)
	}
}

// verify learns after a restart, or a part whose fate is unknown, how far the hold has come. Where it can't say, the
// parts that it acknowledged count.
func (u *Uploads) verify(ctx context.Context, s *state) error {
	if s.sure || s.UploadID == "" {
		return nil
	}
	c, err := u.o.Holds.As(ctx, s.Hold, s.who())
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
	case now.Offset != s.Size: // the part that the tail became the beginning of arrived, or what was acknowledged is gone
		s.Parts, s.Size, s.Tail = now.Parts, now.Offset, 0
	default:
		s.Parts = now.Parts
	}
	s.sure = true
	return nil
}

func (u *Uploads) abort(ctx context.Context, s *state) error {
	if s.UploadID != "" && !s.gone {
		c, err := u.o.Holds.As(ctx, s.Hold, s.who())
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

// Expire ends all uploads that have rested for a day, and removes tails of none.
func (u *Uploads) Expire(ctx context.Context) error {
	before := u.o.Clock().Add(-Life)
	for {
		n, err := u.expireSome(ctx, before)
		if err != nil {
			return err
		}
		if n == 0 {
			break
		}
	}
	resting, err := u.resting(ctx)
	if err != nil {
		return err
	}
	known := map[string]bool{}
	for _, s := range resting {
		known[s.ID] = true
	}
	return u.tails.sweep(before, func(id string) bool { return known[id] })
}

// expireSome ends some of the uploads that were last touched before a time, and returns how many.
func (u *Uploads) expireSome(ctx context.Context, before time.Time) (n int, err error) {
	old, err := u.list(ctx, `touched < $1 order by touched limit $2`, before.Unix(), expireAtOnce)
	if err != nil {
		return 0, err
	}
	old = slices.DeleteFunc(old, func(s *state) bool { return !u.claim(s) })
	err = sqlx.InTx(ctx, u.o.DB.Write(), func(tx *sql.Tx) error {
		for _, s := range old {
			if _, err := tx.ExecContext(ctx, `delete from pds_upload where id = $1`, s.ID); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("end old uploads: %w", err)
	}
	for _, s := range old {
		s.Tail = 0
		u.uncharge(s)
		u.abortLater(s)
	}
	return len(old), nil
}

// claim takes an upload that was listed out of memory, unless a request has it.
func (u *Uploads) claim(s *state) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if now := u.open[s.ID]; now != nil {
		if now.busy {
			return false
		}
		s.charged = now.charged
		delete(u.open, s.ID)
	}
	return true
}

// abortLater tells the hold, which would drop it by itself in a day: that is kind.
func (u *Uploads) abortLater(s *state) {
	if s.UploadID == "" {
		return
	}
	u.o.Work.Go(func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, callTimeout)
		defer cancel()
		if c, err := u.o.Holds.As(ctx, s.Hold, s.who()); err == nil {
			_ = c.AbortUpload(ctx, s.UploadID)
		}
	}, background.Bound{Key: "aborts", Limit: abortsAtOnce}, background.Bound{Key: "aborts " + s.Hold, Limit: 1})
}

// resting lists the uploads that have tails.
func (u *Uploads) resting(ctx context.Context) ([]*state, error) { return u.list(ctx, `tail > 0`) }

// list reads what upkeep needs of uploads.
func (u *Uploads) list(ctx context.Context, where string, args ...any) (out []*state, err error) {
	rows, err := u.o.DB.Read().QueryContext(ctx, `select id, actor, session, client, hold, upload_id, tail, touched from pds_upload
		where `+where, args...)
	if err != nil {
		return nil, fmt.Errorf("list uploads: %w", sqlx.Wrap(err))
	}
	defer rows.Close()
	for rows.Next() {
		s := &state{stored: true}
		if err := rows.Scan(&s.ID, &s.Actor, &s.Session, &s.Client, &s.Hold, &s.UploadID, &s.Tail, &s.touched); err != nil {
			return nil, fmt.Errorf("list uploads: %w", sqlx.Wrap(err))
		}
		s.charged = s.Tail
		out = append(out, s)
	}
	return out, sqlx.Wrap(rows.Err())
}
