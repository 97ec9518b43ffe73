package pds

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/atcr-dev/atcr"
	"github.com/atcr-dev/atcr/hold/holdclient"
	"github.com/atcr-dev/atcr/internal/crashpoint"
	"github.com/atcr-dev/atcr/internal/sqlx"
	"github.com/atcr-dev/atcr/registry"
)

// Kinds and states of intents.
const (
	kindPush   = "push"
	kindDelete = "delete"

	stateOpen    = "open"
	stateSession = "session" // open, but its session has ended: the owner's next one takes it over
	stateRefused = "refused" // the hold said no; for people to look at
	stateExpired = "expired" // given up after intentLife

	intentLife  = 7 * 24 * time.Hour
	intentGrace = 2 * time.Minute // a commit may still be on its way to the PDS
	maxBackoff  = time.Hour
	settleFor   = 2 * time.Minute // one try
)

// intent is a push or delete that two systems have to hear of.
type intent struct {
	ID, Kind, Owner, Session, Repository string
	Digest                               digest.Digest
	Tags                                 []string
	Hold                                 string
	Created, NextTry                     int64 // unix seconds
	Tries                                int
	State, Reason                        string
}

// newID is 256 random bits in the form of a URL path segment.
func newID() string {
	var id [32]byte
	_, _ = rand.Read(id[:]) // never fails
	return base64.RawURLEncoding.EncodeToString(id[:])
}

const intentColumns = `id, kind, owner, session, repository, digest, tags, hold, created, next_try, tries, state, reason`

func insertIntent(ctx context.Context, tx *sql.Tx, in intent) error {
	tags, err := json.Marshal(in.Tags)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `insert into pds_intent (`+intentColumns+`) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 0, $11, '')`,
		in.ID, in.Kind, in.Owner, in.Session, in.Repository, string(in.Digest), string(tags), in.Hold, in.Created, in.NextTry, stateOpen)
	return err
}

func (b *Backend) saveIntent(ctx context.Context, in intent) error {
	err := sqlx.InTx(ctx, b.db.Write(), func(tx *sql.Tx) error { return insertIntent(ctx, tx, in) })
	if errors.Is(err, sqlx.ErrNoSpace) {
		return registry.ErrNoSpace.Wrap(err)
	}
	if err != nil {
		return fmt.Errorf("write the intent: %w", err)
	}
	return nil
}

func (b *Backend) intents(ctx context.Context, where string, args ...any) ([]intent, error) {
	rows, err := b.db.Read().QueryContext(ctx, `select `+intentColumns+` from pds_intent where `+where, args...)
	if err != nil {
		return nil, fmt.Errorf("read intents: %w", sqlx.Wrap(err))
	}
	defer rows.Close()
	var out []intent
	for rows.Next() {
		var in intent
		var tags string
		err := rows.Scan(&in.ID, &in.Kind, &in.Owner, &in.Session, &in.Repository, &in.Digest, &tags, &in.Hold, &in.Created, &in.NextTry, &in.Tries, &in.State, &in.Reason)
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

// dropIntent forgets an intent. One that stays by a failure is settled again, which does no harm.
func (b *Backend) dropIntent(ctx context.Context, in intent) {
	if _, err := b.db.Write().ExecContext(ctx, `delete from pds_intent where id = $1`, in.ID); err != nil {
		b.log.Warn("an intent could not be cleared; it will be settled again", "id", in.ID, "err", err)
	}
}

// settle brings an intent to its end: it reads from the owner's repository what came of it, and tells the hold.
// It may be repeated at any point. A push ends in it, a start begins with it, and the timer runs nothing else.
func (b *Backend) settle(ctx context.Context, in intent) error {
	there, row, err := b.outcome(ctx, in)
	if err != nil {
		return b.postpone(ctx, in, err)
	}
	// There for a push, gone for a delete: it took place.
	if there != (in.Kind == kindPush) {
		if b.clock().Sub(time.Unix(in.Created, 0)) < intentGrace {
			return b.postpone(ctx, in, errors.New("not in the owner's repository yet"))
		}
		b.log.Info("intent dropped: it never took place", "kind", in.Kind, "owner", in.Owner, "digest", in.Digest)
		b.dropIntent(ctx, in)
		return nil
	}
	if err := b.tellHold(ctx, in, row); err != nil {
		return b.postpone(ctx, in, err)
	}
	if err := b.crash.Reach(crashpoint.HoldTold); err != nil {
		return err
	}
	b.dropIntent(ctx, in)
	return nil
}

// outcome reads from the owner's PDS whether the record of the intent is there, under the key that the copy knows or
// the keys that we write.
func (b *Backend) outcome(ctx context.Context, in intent) (bool, manifestRow, error) {
	o, err := b.owner(ctx, in.Owner)
	if err != nil {
		return false, manifestRow{}, err
	}
	keys := []string{atcr.ManifestRKey(in.Digest), atcr.ManifestRKeyIn(in.Repository, in.Digest)}
	known, ok, err := manifestByDigest(ctx, b.db.Read(), in.Owner, in.Repository, in.Digest)
	if err != nil {
		return false, known, err
	}
	if ok && known.RKey != keys[0] && known.RKey != keys[1] {
		keys = append([]string{known.RKey}, keys...)
	}
	for _, key := range keys {
		rec, err := b.pdsOf(o).getRecord(ctx, in.Owner, atcr.NSIDManifest, key)
		if errors.Is(err, errNoRecord) {
			continue
		}
		if err != nil {
			return false, known, err
		}
		m, err := readManifest(key, rec.CID, rec.Value)
		if err != nil || m.Repository != in.Repository || m.Digest != in.Digest || in.Kind == kindPush && m.Hold != in.Hold {
			continue
		}
		if !ok || known.CID != m.CID {
			b.doubt(ctx, in.Owner)
		}
		return true, m, nil
	}
	if ok {
		b.doubt(ctx, in.Owner)
	}
	return false, known, nil
}

// doubtful is the time of a check that has just stopped to count. While the PDS is silent it still tells how old the copy is.
func (b *Backend) doubtful() int64 { return b.clock().Add(-freshFor).Unix() }

// doubt has the copy confirmed before it is used again.
func (b *Backend) doubt(ctx context.Context, owner string) {
	if _, err := b.db.Write().ExecContext(ctx, `update pds_owner set checked = $2 where did = $1 and checked > $2`, owner, b.doubtful()); err != nil {
		b.log.Warn("a copy could not be marked for checking", "did", owner, "err", err)
	}
}

func (b *Backend) tellHold(ctx context.Context, in intent, row manifestRow) error {
	c, err := b.holdAs(ctx, in.Hold, in.Session)
	if err != nil {
		return err
	}
	n := holdclient.Notice{Operation: holdclient.Push, Repository: in.Repository, UserDID: in.Owner, Digest: in.Digest}
	if in.Kind == kindDelete {
		n.Operation = holdclient.Delete
		if raw, ok, err := b.cachedBody(ctx, in.Digest); err == nil && ok {
			n.Manifest = raw.bytes
		}
	} else {
		if len(in.Tags) > 0 {
			n.Tag = in.Tags[0]
		}
		o, err := b.owner(ctx, in.Owner)
		if err != nil {
			return err
		}
		served, err := b.body(ctx, o, row)
		if err != nil {
			return err
		}
		n.Manifest = served.bytes
	}
	_, err = c.NotifyManifest(ctx, n)
	return err
}

// postpone writes down why an intent is still open and when it is tried again, or that it is at its end.
func (b *Backend) postpone(ctx context.Context, in intent, why error) error {
	now := b.clock()
	in.Tries++
	wait := maxBackoff
	if in.Tries < 13 {
		wait = min(time.Second<<(in.Tries-1), maxBackoff)
	}
	if e := (*registry.Error)(nil); errors.As(why, &e) {
		wait = max(wait, min(e.RetryAfter, maxBackoff))
	}
	in.State, in.NextTry, in.Reason = stateOpen, now.Add(wait).Unix(), clip(why.Error())
	switch {
	case isRefusal(why):
		in.State = stateRefused
	case now.Sub(time.Unix(in.Created, 0)) > intentLife:
		in.State = stateExpired
	case errors.Is(why, registry.ErrUnauthorized):
		in.State = stateSession
	}
	if in.State == stateRefused || in.State == stateExpired {
		b.log.Error("the hold was not told of a manifest", "kind", in.Kind, "state", in.State, "owner", in.Owner, "repository", in.Repository, "digest", in.Digest, "hold", in.Hold, "why", in.Reason)
	}
	_, err := b.db.Write().ExecContext(context.WithoutCancel(ctx), `update pds_intent set tries = $2, next_try = $3, state = $4, reason = $5 where id = $1`,
		in.ID, in.Tries, in.NextTry, in.State, in.Reason)
	return errors.Join(why, sqlx.Wrap(err))
}

// isRefusal tells a hold's decision from a failure that time may heal.
func isRefusal(err error) bool {
	// The hold found another state of the record than we did: it changed in between, so settling looks again.
	if e := (*holdclient.Error)(nil); errors.As(err, &e) && (e.Name == "ManifestRecordNotFound" || e.Name == "ManifestRecordExists") {
		return false
	}
	for _, kind := range []error{holdclient.ErrQuotaExceeded, holdclient.ErrForbidden, holdclient.ErrInvalid, holdclient.ErrInvalidDigest, holdclient.ErrNotFound} {
		if errors.Is(err, kind) {
			return true
		}
	}
	return false
}

// adopt gives intents whose session has ended to the owner's present one.
func (b *Backend) adopt(ctx context.Context, owner, session string) {
	var n int
	err := b.db.Read().QueryRowContext(ctx, `select count(*) from pds_intent where owner = $1 and state = $2`, owner, stateSession).Scan(&n)
	if err == nil && n > 0 {
		_, err = b.db.Write().ExecContext(ctx, `update pds_intent set session = $2, state = $3, next_try = $4 where owner = $1 and state = $5`,
			owner, session, stateOpen, b.clock().Unix(), stateSession)
	}
	if err != nil {
		b.log.Warn("intents could not be given to a new session", "did", owner, "err", err)
	}
}

// claim keeps the timer off an intent that this process is at.
func (b *Backend) claim(id string) bool {
	b.claimsMu.Lock()
	defer b.claimsMu.Unlock()
	if b.claims[id] {
		return false
	}
	b.claims[id] = true
	return true
}

func (b *Backend) unclaim(id string) {
	b.claimsMu.Lock()
	defer b.claimsMu.Unlock()
	delete(b.claims, id)
}

// settleSoon settles a claimed intent without making the caller wait. Where too many are under way the timer does it.
func (b *Backend) settleSoon(in intent) {
	b.start(b.life, in)
}

// start settles a claimed intent in the background, if there is room for its owner and hold; else it is let go of.
func (b *Backend) start(ctx context.Context, in intent) bool {
	leave := b.gate.enter(bound{"tails", maxTails}, bound{"hold " + in.Hold, tailsPerHold}, bound{"owner " + in.Owner, tailsOfOwner})
	if leave == nil {
		b.unclaim(in.ID)
		return false
	}
	b.work.Go(func() {
		defer leave()
		defer b.unclaim(in.ID)
		b.settleOne(ctx, in)
	})
	return true
}

func (b *Backend) settleOne(ctx context.Context, in intent) {
	ctx, cancel := context.WithTimeout(ctx, settleFor)
	defer cancel()
	if err := b.settle(ctx, in); err != nil && ctx.Err() == nil {
		b.log.Info("an intent stays open", "kind", in.Kind, "owner", in.Owner, "digest", in.Digest, "err", err)
	}
}

// Settle begins to settle open intents that are due, a few of each owner, and answers how many. It does not wait for them.
func (b *Backend) Settle(ctx context.Context) (int, error) {
	due, err := b.intents(ctx, `id in (select id from
		(select id, row_number() over (partition by owner order by next_try, id) as n from pds_intent where state in ($1, $2) and next_try <= $3) as due
		where n <= $4) order by next_try limit 1000`, stateOpen, stateSession, b.clock().Unix(), 2*tailsOfOwner)
	if err != nil {
		return 0, err
	}
	n := 0
	for _, in := range due {
		begun, err := b.begin(ctx, in.ID)
		if err != nil {
			return n, err
		}
		if begun {
			n++
		}
	}
	return n, nil
}

// begin settles an intent that was read as due, unless somebody is at it or has been since: a hold may count what it is told twice.
func (b *Backend) begin(ctx context.Context, id string) (bool, error) {
	if !b.claim(id) {
		return false, nil
	}
	still, err := b.intents(ctx, `id = $1 and state in ($2, $3) and next_try <= $4`, id, stateOpen, stateSession, b.clock().Unix())
	if err != nil || len(still) == 0 {
		b.unclaim(id)
		return false, err
	}
	return b.start(b.life, still[0]), nil
}

// Unsettled is a push or delete of which the hold has not heard yet, or which it refused.
type Unsettled struct {
	Kind       string // push or delete
	Owner      string // DID
	Repository string
	Digest     digest.Digest
	Tags       []string
	Hold       string // DID
	Since      time.Time
	State      string // open, session (its session has ended), refused, expired
	Reason     string
}

// Unsettled lists them for an owner, or with an empty owner for all, oldest first, at most 1000.
func (b *Backend) Unsettled(ctx context.Context, owner string) ([]Unsettled, error) {
	list, err := b.intents(ctx, `owner = $1 or $1 = '' order by created, id limit 1000`, owner)
	if err != nil {
		return nil, err
	}
	out := make([]Unsettled, len(list))
	for i, in := range list {
		out[i] = Unsettled{in.Kind, in.Owner, in.Repository, in.Digest, in.Tags, in.Hold, time.Unix(in.Created, 0), in.State, in.Reason}
	}
	return out, nil
}
