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
	id, did, pds           string
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
	return s.scan(s.db.Read().QueryRowContext(ctx,
		"select "+columns+" from auth_session where did = $1 and password_mac = $2", did, s.sealer.mac(did, password)))
}

// scan returns nil for no row, and for one that was sealed under another key: it is of no use to anybody.
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
	if e.tokens, err = s.sealer.open(e.id, e.did, sealed); errors.Is(err, errSealed) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	e.created, e.used, e.checked = time.Unix(created, 0), time.Unix(used, 0), time.Unix(checked, 0)
	return &e, nil
}

// put writes a session made by a password, over an earlier one of the same password: then the id stays.
func (s *store) put(ctx context.Context, did, password, pds string, t tokens, now time.Time) (id string, err error) {
	mac := s.sealer.mac(did, password)
	err = sqlx.InTx(ctx, s.db.Write(), func(tx *sql.Tx) error {
		err := tx.QueryRowContext(ctx, "select id from auth_session where did = $1 and password_mac = $2", did, mac).Scan(&id)
		if errors.Is(err, sql.ErrNoRows) {
			var b [16]byte
			if _, err := rand.Read(b[:]); err != nil {
				return err
			}
			id = hex.EncodeToString(b[:])
		} else if err != nil {
			return err
		}
		sealed, err := s.sealer.seal(id, did, t)
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `insert into auth_session (id, did, password_mac, pds, sealed, created_at, used_at, checked_at)
			values ($1, $2, $3, $4, $5, $6, $6, $6)
			on conflict (did, password_mac) do update set
				pds = excluded.pds, sealed = excluded.sealed, used_at = excluded.used_at, checked_at = excluded.checked_at`,
			id, did, mac, pds, sealed, now.Unix())
		return err
	})
	if err != nil {
		return "", fmt.Errorf("storing the session of %s: %w", did, err)
	}
	return id, nil
}

// refreshed writes new tokens of a session.
func (s *store) refreshed(ctx context.Context, e *session, now time.Time) error {
	sealed, err := s.sealer.seal(e.id, e.did, e.tokens)
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

func (s *store) dropUnused(ctx context.Context, before time.Time) (int64, error) {
	res, err := s.db.Write().ExecContext(ctx, "delete from auth_session where used_at < $1", before.Unix())
	if err != nil {
		return 0, sqlx.Wrap(err)
	}
	return res.RowsAffected()
}
