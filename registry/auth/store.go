package auth

import (
	"context"
	"crypto/rand"
	"database/sql"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/atcr-dev/atcr/internal/sqlx"
	"github.com/atcr-dev/atcr/sqldb"
)

//go:embed migrations
var migrations embed.FS

// Migrate creates the tables auth_… in a database, or brings those of an earlier version to this one. [New] does it by itself.
func Migrate(ctx context.Context, db *sqldb.DB) error {
	folder, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	return sqlx.Migrate(ctx, db, folder, "auth_version")
}

// session is a row of auth_session, opened.
type session struct {
	place
	tokens                 tokens
	created, used, checked time.Time
}

// store keeps sessions.
type store struct {
	db     *sqlx.DB
	sealer *sealer
}

const columns = "id, did, pds, sealed, created_at, used_at, checked_at"

// byID returns a session, or nil.
func (s *store) byID(ctx context.Context, id string) (*session, error) {
	return s.scan(s.db.Read().QueryRowContext(ctx, "select "+columns+" from auth_session where id = $1", id))
}

// byPassword returns the account's session that this password made, or nil.
func (s *store) byPassword(ctx context.Context, did, password string) (*session, error) {
	for i := range s.sealer.keys.Len() {
		mac := s.sealer.mac(i, did, password)
		e, err := s.scan(s.db.Read().QueryRowContext(ctx,
			"select "+columns+" from auth_session where did = $1 and password_mac = $2", did, mac))
		if err != nil {
			return nil, err
		}
		if e == nil {
			continue
		}
		if i > 0 { // the password is at hand: the older key is needed no more
			_, err = s.db.Write().ExecContext(ctx, "update auth_session set password_mac = $1 where id = $2",
				s.sealer.mac(0, did, password), e.id)
		}
		return e, sqlx.Wrap(err)
	}
	return nil, nil
}

// scan returns nil for no row, and for one that was sealed under another key or for another row: it is of no use to anybody.
func (s *store) scan(row *sql.Row) (*session, error) {
	var e session
	var sealed []byte
	var created, used, checked int64
	err := row.Scan(&e.id, &e.did, &e.pds, &sealed, &created, &used, &checked)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading a session: %w", sqlx.Wrap(err))
	}
	if e.tokens, err = s.sealer.open(e.place, sealed); errors.Is(err, errSealed) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	e.created, e.used, e.checked = time.Unix(created, 0), time.Unix(used, 0), time.Unix(checked, 0)
	return &e, nil
}

// put writes a session made by a password, over an earlier one of the same password: then the id stays. Those of the ids in leave that
// are there go first.
func (s *store) put(ctx context.Context, did, password, pds string, t tokens, now time.Time, leave []string) (id string, err error) {
	err = sqlx.InTx(ctx, s.db.Write(), func(tx *sql.Tx) error {
		for _, other := range leave {
			if _, err := tx.ExecContext(ctx, "delete from auth_session where id = $1", other); err != nil {
				return err
			}
		}
		var err error
		if id, err = s.idOf(ctx, tx, did, password); err != nil {
			return err
		}
		known := id != ""
		if !known {
			var b [16]byte
			if _, err := rand.Read(b[:]); err != nil {
				return err
			}
			id = hex.EncodeToString(b[:])
		}
		sealed, err := s.sealer.seal(place{id, did, pds}, t)
		if err != nil {
			return err
		}
		mac := s.sealer.mac(0, did, password)
		if known {
			_, err = tx.ExecContext(ctx, `update auth_session set password_mac = $2, pds = $3, sealed = $4, used_at = $5, checked_at = $5
				where id = $1`, id, mac, pds, sealed, now.Unix())
			return err
		}
		_, err = tx.ExecContext(ctx, `insert into auth_session (id, did, password_mac, pds, sealed, created_at, used_at, checked_at)
			values ($1, $2, $3, $4, $5, $6, $6, $6)`, id, did, mac, pds, sealed, now.Unix())
		return err
	})
	if err != nil {
		return "", fmt.Errorf("storing the session of %s: %w", did, err)
	}
	return id, nil
}

// querier is a connection or a transaction.
type querier interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// idOf returns the id of the session that a password made, or "". Its tokens may be unreadable.
func (s *store) idOf(ctx context.Context, db querier, did, password string) (id string, err error) {
	for i := range s.sealer.keys.Len() {
		err := db.QueryRowContext(ctx, "select id from auth_session where did = $1 and password_mac = $2",
			did, s.sealer.mac(i, did, password)).Scan(&id)
		if !errors.Is(err, sql.ErrNoRows) {
			return id, err
		}
	}
	return "", nil
}

// leastUsed returns the ids of sessions, the least used ones first: an account's, or with an empty DID everybody's. limit is how many.
func (s *store) leastUsed(ctx context.Context, did string, limit int) (ids []place, err error) {
	const query, order = "select id, did from auth_session", " order by used_at, created_at, id limit $1"
	var rows *sql.Rows
	if did == "" {
		rows, err = s.db.Read().QueryContext(ctx, query+order, limit)
	} else {
		rows, err = s.db.Read().QueryContext(ctx, query+" where did = $2"+order, limit, did)
	}
	if err != nil {
		return nil, sqlx.Wrap(err)
	}
	defer rows.Close()
	for rows.Next() {
		var p place
		if err := rows.Scan(&p.id, &p.did); err != nil {
			return nil, sqlx.Wrap(err)
		}
		ids = append(ids, p)
	}
	return ids, sqlx.Wrap(rows.Err())
}

func (s *store) exists(ctx context.Context, id string) (ok bool, err error) {
	err = s.db.Read().QueryRowContext(ctx, "select exists (select 1 from auth_session where id = $1)", id).Scan(&ok)
	return ok, sqlx.Wrap(err)
}

// kept reports whether a live token acts by a session.
func (s *store) kept(ctx context.Context, id string, now time.Time) (ok bool, err error) {
	err = s.db.Read().QueryRowContext(ctx, "select exists (select 1 from auth_token where session = $1 and ended_at = 0 and ends_at > $2)",
		id, now.Unix()).Scan(&ok)
	return ok, sqlx.Wrap(err)
}

func (s *store) count(ctx context.Context) (n int, err error) {
	err = s.db.Read().QueryRowContext(ctx, "select count(*) from auth_session").Scan(&n)
	return n, sqlx.Wrap(err)
}

// refreshed writes new tokens of a session.
func (s *store) refreshed(ctx context.Context, e *session, now time.Time) error {
	sealed, err := s.sealer.seal(e.place, e.tokens)
	if err != nil {
		return err
	}
	_, err = s.db.Write().ExecContext(ctx, "update auth_session set sealed = $1, used_at = $2, checked_at = $2 where id = $3",
		sealed, now.Unix(), e.id)
	if err != nil {
		return fmt.Errorf("storing the session of %s: %w", e.did, sqlx.Wrap(err))
	}
	return nil
}

func (s *store) touch(ctx context.Context, id string, now time.Time) error {
	_, err := s.db.Write().ExecContext(ctx, "update auth_session set used_at = $1 where id = $2", now.Unix(), id)
	return sqlx.Wrap(err)
}

func (s *store) drop(ctx context.Context, id string) error {
	_, err := s.db.Write().ExecContext(ctx, "delete from auth_session where id = $1", id)
	return sqlx.Wrap(err)
}

// dropUnused drops sessions that were not used since a time, but for those that a live token acts by.
func (s *store) dropUnused(ctx context.Context, before, now time.Time) (int64, error) {
	res, err := s.db.Write().ExecContext(ctx, `delete from auth_session where used_at < $1 and not exists (select 1 from auth_token t
		where t.session = auth_session.id and t.ended_at = 0 and t.ends_at > $2)`, before.Unix(), now.Unix())
	if err != nil {
		return 0, sqlx.Wrap(err)
	}
	return res.RowsAffected()
}
