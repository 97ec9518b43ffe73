package websession

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/atcr-dev/atcr/internal/sqlx"
	"github.com/atcr-dev/atcr/sqldb"
)

//go:embed migrations
var migrations embed.FS

// Migrate creates the table web_session in a database, or brings one of an earlier version to this one. [New] does it by itself.
func Migrate(ctx context.Context, db *sqldb.DB) error {
	folder, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	return sqlx.Migrate(ctx, db, folder, "web_version")
}

// store keeps sessions.
type store struct{ db *sqlx.DB }

const columns = "id, did, handle, session, agent, address, created_at, used_at"

func scan(row interface{ Scan(...any) error }) (*Session, error) {
	var s Session
	var created, used int64
	if err := row.Scan(&s.ID, &s.DID, &s.Handle, &s.Grant, &s.Agent, &s.Address, &created, &used); err != nil {
		return nil, err
	}
	s.Created, s.Used = time.Unix(created, 0), time.Unix(used, 0)
	return &s, nil
}

// byHash returns a session, or nil.
func (s *store) byHash(ctx context.Context, hash string) (*Session, error) {
	e, err := scan(s.db.Read().QueryRowContext(ctx, "select "+columns+" from web_session where secret_hash = $1", hash))
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading a browser's session: %w", sqlx.Wrap(err))
	}
	return e, nil
}

// add keeps a session, and returns those that end for it: the browser's former one, and the account's least used beyond maxOfAccount.
func (s *store) add(ctx context.Context, e Session, hash, before string) (ended []Session, err error) {
	err = sqlx.InTx(ctx, s.db.Write(), func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `insert into web_session (secret_hash, `+columns+`) values ($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
			hash, e.ID, e.DID, e.Handle, e.Grant, e.Agent, e.Address, e.Created.Unix(), e.Used.Unix())
		if err != nil {
			return err
		}
		rows, err := tx.QueryContext(ctx, `delete from web_session where secret_hash = $1 or id in (select id from web_session
			where did = $2 and id <> $3 and secret_hash <> $1 order by used_at desc, created_at desc, id limit 1000 offset $4)
			returning `+columns, before, e.DID, e.ID, maxOfAccount-1)
		ended, err = read(rows, err)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("storing a browser's session: %w", err)
	}
	return ended, nil
}

// touch notes a use.
func (s *store) touch(ctx context.Context, e Session) error {
	_, err := s.db.Write().ExecContext(ctx, "update web_session set used_at = $1, address = $2, agent = $3 where id = $4",
		e.Used.Unix(), e.Address, e.Agent, e.ID)
	if err != nil {
		return fmt.Errorf("noting the use of a browser's session: %w", sqlx.Wrap(err))
	}
	return nil
}

func (s *store) list(ctx context.Context, where string, args ...any) ([]Session, error) {
	all, err := read(s.db.Read().QueryContext(ctx, "select "+columns+" from web_session "+where, args...))
	if err != nil {
		return nil, fmt.Errorf("reading browsers' sessions: %w", err)
	}
	return all, nil
}

// end deletes sessions and returns them: of several calls one gets each.
func (s *store) end(ctx context.Context, where string, args ...any) ([]Session, error) {
	ended, err := read(s.db.Write().QueryContext(ctx, "delete from web_session "+where+" returning "+columns, args...))
	if err != nil {
		return nil, fmt.Errorf("ending browsers' sessions: %w", err)
	}
	return ended, nil
}

func read(rows *sql.Rows, err error) (all []Session, _ error) {
	if err != nil {
		return nil, sqlx.Wrap(err)
	}
	defer rows.Close()
	for rows.Next() {
		e, err := scan(rows)
		if err != nil {
			return nil, sqlx.Wrap(err)
		}
		all = append(all, *e)
	}
	return all, sqlx.Wrap(rows.Err())
}
