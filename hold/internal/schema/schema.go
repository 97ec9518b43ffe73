// Package schema has the migrations of a hold's tables: one set and one version table for all seven, whichever package reads them.
//
//	hold_upload, hold_part                                             hold/internal/upload
//	hold_lease, hold_layer, hold_manifest, hold_counted, hold_meta     hold/internal/ledger
package schema

import (
	"context"
	"embed"
	"fmt"
	"io/fs"

	"github.com/atcr-dev/atcr/internal/sqlx"
)

//go:embed migrations
var files embed.FS

// VersionTable is where goose keeps which migrations a database has.
const VersionTable = "hold_version"

// Migrate creates the tables, or brings those of an earlier version to this one.
func Migrate(ctx context.Context, db *sqlx.DB) error {
	migrations, err := fs.Sub(files, "migrations")
	if err != nil {
		return err
	}
	return sqlx.Migrate(ctx, db, migrations, VersionTable)
}

// Made reports whether the database has the tables, of whatever version.
func Made(ctx context.Context, db *sqlx.DB) (bool, error) {
	query := `select count(*) from sqlite_master where type = 'table' and name = 'hold_manifest'`
	if db.Dialect() == sqlx.Postgres {
		query = `select count(*) from information_schema.tables where table_schema = current_schema() and table_name = 'hold_manifest'`
	}
	n := 0
	if err := db.Read().QueryRowContext(ctx, query).Scan(&n); err != nil {
		return false, fmt.Errorf("look for the hold's tables: %w", sqlx.Wrap(err))
	}
	return n > 0, nil
}
