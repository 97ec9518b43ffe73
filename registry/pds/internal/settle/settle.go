// Package settle tells holds what happened to manifests: of each push and delete, by an intent that outlives a crash, and of pulls.
//
// An intent is written before anything is changed at the owner's PDS. When the change stands, [Settler.Start] settles it: it reads back
// from the PDS what came of it, tells the hold, and drops the intent. The same function settles what a crash or a silent server left open,
// at start and on a timer ([Settler.Due]), so that recovery is the ordinary way.
package settle

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/atcr-dev/atcr/hold/holdclient"
	"github.com/atcr-dev/atcr/internal/crashpoint"
	"github.com/atcr-dev/atcr/internal/sqlx"
	"github.com/atcr-dev/atcr/registry"
	"github.com/atcr-dev/atcr/registry/pds/internal/background"
	"github.com/atcr-dev/atcr/registry/pds/internal/holds"
)

// Kinds and states of intents.
const (
	Push   = "push"
	Delete = "delete"

	StateOpen    = "open"
	StateSession = "session" // open, but its session has ended: the owner's next one takes it over
	stateRefused = "refused" // the hold said no; for people to look at
	stateExpired = "expired" // given up after life
)

const (
	life       = 7 * 24 * time.Hour
	reportFor  = 30 * 24 * time.Hour // how long what was refused or given up is kept for people
	grace      = 2 * time.Minute     // a commit may still be on its way to the PDS
	maxBackoff = time.Hour
	oneTry     = 2 * time.Minute
)

// How many intents are settled at once: in all, with one hold, of one owner.
const (
	atOnce  = 64
	ofHold  = 8
	ofOwner = 2
)

// Intent is a push or delete that two systems have to know of.
type Intent struct {
	ID, Kind, Owner, Session, Repository string
	Digest                               digest.Digest
	Tags                                 []string
	Hold                                 string
	Created, NextTry                     int64 // unix seconds
	Tries                                int
	State, Reason                        string
}

// Manifests is what settling asks about manifests.
type Manifests interface {
	// Outcome reads from the owner's PDS what came of an intent.
	Outcome(ctx context.Context, in Intent) (Found, error)
	// HoldOf returns the hold of a manifest; empty when the repository has none of that digest.
	HoldOf(ctx context.Context, owner, repository string, d digest.Digest) (string, error)
	// Cached returns the bytes of a manifest if they are at hand, else nil.
	Cached(ctx context.Context, d digest.Digest) []byte
}

// Found is how an owner's repository stands to an intent.
type Found struct {
	// There says that the record of the intent's manifest is in the owner's repository.
	There bool
	// Manifest returns the bytes that the hold is told; nil when they are not known any more.
	Manifest func(context.Context) ([]byte, error)
}

// Options configures [New]; all but Crash are required.
type Options struct {
	DB        *sqlx.DB // with the table pds_intent
	Manifests Manifests
	Holds     *holds.Holds
	Work      *background.Runner
	Crash     crashpoint.Hook
	Clock     func() time.Time
	Log       *slog.Logger
}

// Settler keeps intents and settles them. Make it with [New]; safe for concurrent use.
type Settler struct {
	o Options

	mu     sync.Mutex
	claims map[string]bool // intents that somebody is at
}

// New makes a Settler.
func New(o Options) *Settler { return &Settler{o: o, claims: map[string]bool{}} }

// Intent makes an intent, claimed, that is not written yet: [Insert] or [Settler.Save] does that, [Settler.Start] settles it, and
// [Settler.Release] gives it back when nothing came of it.
func (s *Settler) Intent(id, kind, owner, session, repository string, d digest.Digest) Intent {
	now := s.o.Clock().Unix()
	s.claim(id)
	return Intent{ID: id, Kind: kind, Owner: owner, Session: session, Repository: repository, Digest: d, Created: now, NextTry: now}
}

const intentColumns = `id, kind, owner, session, repository, digest, tags, hold, created, next_try, tries, state, reason`

// Insert writes a new intent, in a transaction with what has to be durable with it.
func Insert(ctx context.Context, tx *sql.Tx, in Intent) error {
	tags, err := json.Marshal(in.Tags)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `insert into pds_intent (`+intentColumns+`) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 0, $11, '')`,
		in.ID, in.Kind, in.Owner, in.Session, in.Repository, string(in.Digest), string(tags), in.Hold, in.Created, in.NextTry, StateOpen)
	return err
}

// Save writes a new intent.
func (s *Settler) Save(ctx context.Context, in Intent) error {
	err := sqlx.InTx(ctx, s.o.DB.Write(), func(tx *sql.Tx) error { return Insert(ctx, tx, in) })
	if errors.Is(err, sqlx.ErrNoSpace) {
		return registry.ErrNoSpace.Wrap(err)
	}
	if err != nil {
		return fmt.Errorf("write the intent: %w", err)
	}
	return nil
}

func (s *Settler) list(ctx context.Context, where string, args ...any) ([]Intent, error) {
	rows, err := s.o.DB.Read().QueryContext(ctx, `select `+intentColumns+` from pds_intent where `+where, args...)
	if err != nil {
		return nil, fmt.Errorf("read intents: %w", sqlx.Wrap(err))
	}
	defer rows.Close()
	var out []Intent
	for rows.Next() {
		var in Intent
		var tags string
		err := rows.Scan(&in.ID, &in.Kind, &in.Owner, &in.Session, &in.Repository, &in.Digest, &tags, &in.Hold,
			&in.Created, &in.NextTry, &in.Tries, &in.State, &in.Reason)
		if err == nil {
			err = json.Unmarshal([]byte(tags), &in.Tags)
		}
		if err != nil {
			return nil, fmt.Errorf("read intents: %w", sqlx.Wrap(err))
		}
		out = append(out, in)
	}
	return out, sqlx.Wrap(rows.Err())
}

// Drop forgets an intent. One that stays by a failure is settled again, which does no harm.
func (s *Settler) Drop(ctx context.Context, in Intent) {
	if _, err := s.o.DB.Write().ExecContext(ctx, `delete from pds_intent where id = $1`, in.ID); err != nil {
		s.o.Log.Warn("an intent could not be cleared; it will be settled again", "id", in.ID, "err", err)
	}
}

// settle brings an intent to its end: it reads from the owner's repository what came of it, and tells the hold.
// It may be repeated at any point. A push ends in it, a start begins with it, and the timer runs nothing else.
func (s *Settler) settle(ctx context.Context, in Intent) error {
	found, err := s.o.Manifests.Outcome(ctx, in)
	if err != nil {
		return s.postpone(ctx, in, err)
	}
	// There for a push, gone for a delete: it took place.
	if found.There != (in.Kind == Push) {
		if s.o.Clock().Sub(time.Unix(in.Created, 0)) < grace {
			return s.postpone(ctx, in, errors.New("not in the owner's repository yet"))
		}
		s.o.Log.Info("intent dropped: it never took place", "kind", in.Kind, "owner", in.Owner, "digest", in.Digest)
		s.Drop(ctx, in)
		return nil
	}
	if err := s.tell(ctx, in, found); err != nil {
		return s.postpone(ctx, in, err)
	}
	if err := s.o.Crash.Reach(crashpoint.HoldTold); err != nil {
		return err
	}
	s.Drop(ctx, in)
	return nil
}

func (s *Settler) tell(ctx context.Context, in Intent, found Found) error {
	c, err := s.o.Holds.As(ctx, in.Hold, registry.Actor{ID: in.Owner, Session: in.Session})
	if err != nil {
		return err
	}
	n := holdclient.Notice{Operation: holdclient.Push, Repository: in.Repository, UserDID: in.Owner, Digest: in.Digest}
	if in.Kind == Delete {
		n.Operation = holdclient.Delete
	} else if len(in.Tags) > 0 {
		n.Tag = in.Tags[0]
	}
	if n.Manifest, err = found.Manifest(ctx); err != nil {
		return err
	}
	_, err = c.NotifyManifest(ctx, n)
	return err
}

// postpone writes down why an intent is still open and when it is tried again, or that it is at its end.
func (s *Settler) postpone(ctx context.Context, in Intent, why error) error {
	now := s.o.Clock()
	in.Tries++
	wait := maxBackoff
	if in.Tries < 13 {
		wait = min(time.Second<<(in.Tries-1), maxBackoff)
	}
	if e := (*registry.Error)(nil); errors.As(why, &e) {
		wait = max(wait, min(e.RetryAfter, maxBackoff))
	}
	in.State, in.NextTry, in.Reason = StateOpen, now.Add(wait).Unix(), clip(why.Error())
	switch {
	case isRefusal(why):
		in.State = stateRefused
	case now.Sub(time.Unix(in.Created, 0)) > life:
		in.State = stateExpired
	case errors.Is(why, registry.ErrUnauthorized):
		in.State = StateSession
	}
	if in.State == stateRefused || in.State == stateExpired {
		s.o.Log.Warn("the hold was not told of a manifest", "kind", in.Kind, "state", in.State, "owner", in.Owner,
			"repository", in.Repository, "digest", in.Digest, "hold", in.Hold, "why", in.Reason)
	}
	_, err := s.o.DB.Write().ExecContext(context.WithoutCancel(ctx),
		`update pds_intent set tries = $2, next_try = $3, state = $4, reason = $5 where id = $1`,
		in.ID, in.Tries, in.NextTry, in.State, in.Reason)
	return errors.Join(why, sqlx.Wrap(err))
}

// isRefusal tells a hold's decision from a failure that time may heal.
func isRefusal(err error) bool {
	// The hold found another state of the record than we did: it changed in between, so settling looks again.
	if e := (*holdclient.Error)(nil); errors.As(err, &e) && (e.Name == "ManifestRecordNotFound" || e.Name == "ManifestRecordExists") {
		return false
	}
	for _, kind := range []error{
		holdclient.ErrQuotaExceeded, holdclient.ErrForbidden, holdclient.ErrInvalid, holdclient.ErrInvalidDigest, holdclient.ErrNotFound,
	} {
		if errors.Is(err, kind) {
			return true
		}
	}
	return false
}

// Adopt gives intents whose session has ended to the owner's present one.
func (s *Settler) Adopt(ctx context.Context, owner, session string) {
	var n int
	err := s.o.DB.Read().QueryRowContext(ctx, `select count(*) from pds_intent where owner = $1 and state = $2`, owner, StateSession).
		Scan(&n)
	if err == nil && n > 0 {
		_, err = s.o.DB.Write().ExecContext(ctx,
			`update pds_intent set session = $2, state = $3, next_try = $4 where owner = $1 and state = $5`,
			owner, session, StateOpen, s.o.Clock().Unix(), StateSession)
	}
	if err != nil {
		s.o.Log.Warn("intents could not be given to a new session", "did", owner, "err", err)
	}
}

// claim keeps the timer off an intent that somebody is at, and reports whether nobody was.
func (s *Settler) claim(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.claims[id] {
		return false
	}
	s.claims[id] = true
	return true
}

// Release gives a claim back.
func (s *Settler) Release(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.claims, id)
}

// Start settles a claimed intent in the background, if there is room for its owner and hold, and releases it at the end. It reports
// whether there was room; where there was none the timer settles it.
func (s *Settler) Start(in Intent) bool {
	ok := s.o.Work.Go(func(ctx context.Context) {
		defer s.Release(in.ID)
		s.settleOne(ctx, in)
	}, background.Bound{Key: "tails", Limit: atOnce},
		background.Bound{Key: "hold " + in.Hold, Limit: ofHold}, background.Bound{Key: "owner " + in.Owner, Limit: ofOwner})
	if !ok {
		s.Release(in.ID)
	}
	return ok
}

func (s *Settler) settleOne(ctx context.Context, in Intent) {
	ctx, cancel := context.WithTimeout(ctx, oneTry)
	defer cancel()
	if err := s.settle(ctx, in); err != nil && ctx.Err() == nil {
		s.o.Log.Info("an intent stays open", "kind", in.Kind, "owner", in.Owner, "digest", in.Digest, "err", err)
	}
}

// Due begins to settle open intents that are due, a few of each owner, and returns how many. It does not wait for them.
func (s *Settler) Due(ctx context.Context) (int, error) {
	due, err := s.list(ctx, `id in (select id from
		(select id, row_number() over (partition by owner order by next_try, id) as n
		from pds_intent where state in ($1, $2) and next_try <= $3) as due
		where n <= $4) order by next_try limit 1000`, StateOpen, StateSession, s.o.Clock().Unix(), 2*ofOwner)
	if err != nil {
		return 0, err
	}
	n := 0
	for _, in := range due {
		begun, err := s.Begin(ctx, in.ID)
		if err != nil {
			return n, err
		}
		if begun {
			n++
		}
	}
	return n, nil
}

// Begin settles an intent that was read as due, unless somebody is at it or has been since: a hold may count what it is told twice.
func (s *Settler) Begin(ctx context.Context, id string) (bool, error) {
	if !s.claim(id) {
		return false, nil
	}
	still, err := s.list(ctx, `id = $1 and state in ($2, $3) and next_try <= $4`, id, StateOpen, StateSession, s.o.Clock().Unix())
	if err != nil || len(still) == 0 {
		s.Release(id)
		return false, err
	}
	return s.Start(still[0]), nil
}

// List returns the intents of an owner, of all for an empty one, oldest first, at most 1000.
func (s *Settler) List(ctx context.Context, owner string) ([]Intent, error) {
	return s.list(ctx, `owner = $1 or $1 = '' order by created, id limit 1000`, owner)
}

// Forget drops what was refused or given up a month ago.
func (s *Settler) Forget(ctx context.Context) error {
	_, err := s.o.DB.Write().ExecContext(ctx, `delete from pds_intent where state in ($1, $2) and created < $3`,
		stateRefused, stateExpired, s.o.Clock().Add(-reportFor).Unix())
	if err != nil {
		return fmt.Errorf("forget old intents: %w", sqlx.Wrap(err))
	}
	return nil
}

func clip(s string) string {
	if len(s) > 200 {
		s = s[:200] + "…"
	}
	return s
}
