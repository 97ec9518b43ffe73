package sqlx

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/atcr-dev/atcr/sqldb"
)

// DB is the database that packages are given.
type DB = sqldb.DB

// Dialect is the kind of database.
type Dialect = sqldb.Dialect

// The dialects.
const (
	SQLite   = sqldb.SQLite
	Postgres = sqldb.Postgres
)

// Beginner starts transactions: a *sql.DB or a *sql.Conn.
type Beginner interface {
	BeginTx(context.Context, *sql.TxOptions) (*sql.Tx, error)
}

// InTx runs f in a transaction: committed when f returns nil, else rolled back and f's error returned. Errors are
// given their kind by [Wrap].
func InTx(ctx context.Context, db Beginner, f func(*sql.Tx) error) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("begin: %w", Wrap(err))
	}
	defer tx.Rollback() //nolint:errcheck // after a commit it does nothing
	if err := f(tx); err != nil {
		return Wrap(err)
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("commit: %w", Wrap(err))
	}
	return nil
}

// Strings returns what a query of one column, of text, finds. Errors are given their kind by [Wrap].
func Strings(ctx context.Context, db *sql.DB, query string, args ...any) (all []string, err error) {
	rows, err := db.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, Wrap(err)
	}
	defer rows.Close()
	for rows.Next() {
		var one string
		if err := rows.Scan(&one); err != nil {
			return nil, Wrap(err)
		}
		all = append(all, one)
	}
	return all, Wrap(rows.Err())
}
