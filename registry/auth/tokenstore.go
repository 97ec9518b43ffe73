package auth

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/atcr-dev/atcr/internal/sqlx"
	"github.com/atcr-dev/atcr/registry"
)

// Token is a secret that this registry gave out, without the secret: docker's refresh token, a device or a robot.
type Token struct {
	ID     string // no secret
	DID    string
	Handle string // when it was made
	// Session is what it acts by at the account's server: a grant of its own, or the session of an app password. Empty when it has ended.
	Session string
	Name    string // a device's or robot's
	// Repositories and Actions are what a robot may: names below the account's, where * stands for any characters.
	Repositories []string
	Actions      []registry.Action
	Address      string // where it was last used from, or made
	Created      time.Time
	Used         time.Time // Created when it never was
	Ends         time.Time // by itself; for all but robots that moves with its use
	OldUntil     time.Time // until when the secret before the last renewal is taken; zero when there is none

	kind          string
	hash, oldHash []byte
	ended         time.Time // by a person
}

// Ended reports whether a token is no longer taken.
func (t *Token) Ended(now time.Time) bool { return !t.ended.IsZero() || !now.Before(t.Ends) }

// tokenStore keeps tokens, in auth_token.
type tokenStore struct{ db *sqlx.DB }

const tokenColumns = `id, kind, did, handle, session, hash, old_hash, old_until, name, repositories, actions, address, created_at, used_at,
	ends_at, ended_at`

type scanner interface{ Scan(...any) error }

func scanToken(row scanner) (*Token, error) {
	var t Token
	var repositories, actions string
	var oldUntil, created, used, ends, ended int64
	err := row.Scan(&t.ID, &t.kind, &t.DID, &t.Handle, &t.Session, &t.hash, &t.oldHash, &oldUntil, &t.Name, &repositories, &actions,
		&t.Address, &created, &used, &ends, &ended)
	if err != nil {
		return nil, err
	}
	t.Repositories = strings.Fields(repositories)
	for action := range strings.SplitSeq(actions, ",") {
		if action != "" {
			t.Actions = append(t.Actions, registry.Action(action))
		}
	}
	t.OldUntil, t.Created, t.Used, t.Ends, t.ended = fromUnix(oldUntil), fromUnix(created), fromUnix(used), fromUnix(ends), fromUnix(ended)
	return &t, nil
}

func fromUnix(s int64) time.Time {
	if s == 0 {
		return time.Time{}
	}
	return time.Unix(s, 0)
}

// byID returns a token, or nil.
func (s *tokenStore) byID(ctx context.Context, id string) (*Token, error) {
	t, err := scanToken(s.db.Read().QueryRowContext(ctx, "select "+tokenColumns+" from auth_token where id = $1", id))
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading a token: %w", sqlx.Wrap(err))
	}
	return t, nil
}

// list returns an account's tokens of a kind that nobody ended, the newest first.
func (s *tokenStore) list(ctx context.Context, did, kind string) ([]Token, error) {
	return s.query(ctx, "where did = $1 and kind = $2 and ended_at = 0 order by created_at desc, id", did, kind)
}

// count returns how many tokens of a kind an account has that have not ended.
func (s *tokenStore) count(ctx context.Context, did, kind string, now time.Time) (n int, err error) {
	err = s.db.Read().QueryRowContext(ctx, `select count(*) from auth_token where did = $1 and kind = $2 and ended_at = 0
		and (ends_at > $3 or kind = $4)`, did, kind, now.Unix(), kindRobot).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("counting tokens: %w", sqlx.Wrap(err))
	}
	return n, nil
}

func (s *tokenStore) query(ctx context.Context, where string, args ...any) (all []Token, err error) {
	rows, err := s.db.Read().QueryContext(ctx, "select "+tokenColumns+" from auth_token "+where, args...)
	if err != nil {
		return nil, fmt.Errorf("reading tokens: %w", sqlx.Wrap(err))
	}
	defer rows.Close()
	for rows.Next() {
		t, err := scanToken(rows)
		if err != nil {
			return nil, fmt.Errorf("reading tokens: %w", sqlx.Wrap(err))
		}
		all = append(all, *t)
	}
	return all, sqlx.Wrap(rows.Err())
}

type execer interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

// insert adds a token.
func (s *tokenStore) insert(ctx context.Context, db execer, t *Token) error {
	actions := make([]string, len(t.Actions))
	for i, a := range t.Actions {
		actions[i] = string(a)
	}
	_, err := db.ExecContext(ctx, `insert into auth_token (`+tokenColumns+`)
		values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)`,
		t.ID, t.kind, t.DID, t.Handle, t.Session, t.hash, []byte{}, 0, t.Name, strings.Join(t.Repositories, " "),
		strings.Join(actions, ","), t.Address, t.Created.Unix(), t.Used.Unix(), t.Ends.Unix(), 0)
	return err
}

// renew writes a robot's new secret, end and session.
func (s *tokenStore) renew(ctx context.Context, t *Token) error {
	_, err := s.db.Write().ExecContext(ctx, `update auth_token set hash = $1, old_hash = $2, old_until = $3, ends_at = $4, session = $5
		where id = $6 and ended_at = 0`, t.hash, t.oldHash, t.OldUntil.Unix(), t.Ends.Unix(), t.Session, t.ID)
	if err != nil {
		return fmt.Errorf("renewing a robot: %w", sqlx.Wrap(err))
	}
	return nil
}

// touch notes a use of a token and of its session.
func (s *tokenStore) touch(ctx context.Context, t *Token) error {
	return sqlx.InTx(ctx, s.db.Write(), func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, `update auth_token set used_at = $1, address = $2,
			ends_at = case when kind = $3 then ends_at else $4 end where id = $5`, // a robot may be renewed meanwhile
			t.Used.Unix(), t.Address, kindRobot, t.Ends.Unix(), t.ID); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, "update auth_session set used_at = $1 where id = $2 and used_at < $1", t.Used.Unix(), t.Session)
		return err
	})
}

// end ends an account's token of a kind, and returns it; nil when there is none.
func (s *tokenStore) end(ctx context.Context, did, kind, id string, now time.Time) (*Token, error) {
	res, err := s.db.Write().ExecContext(ctx, `update auth_token set ended_at = $1
		where id = $2 and did = $3 and kind = $4 and ended_at = 0`, now.Unix(), id, did, kind)
	if err != nil {
		return nil, fmt.Errorf("ending a token: %w", sqlx.Wrap(err))
	}
	if n, err := res.RowsAffected(); err != nil || n == 0 {
		return nil, err
	}
	return s.byID(ctx, id)
}
