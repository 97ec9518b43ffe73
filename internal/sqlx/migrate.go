package sqlx

import (
	"context"
	"database/sql"
	"fmt"
	"io/fs"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/database"
)

// Migrate brings one package's tables up to date: it runs those goose migrations of fsys (files 00001_what.sql at its top)
// that the package's version table does not list yet, each in a transaction of its own, so that a crash leaves a
// whole version. versionTable is the package's own ("hold_version"). Where the dialects need different SQL, fsys may have
// folders sqlite and postgres instead of files at the top. A database that is newer than the program is an error. On PostgreSQL
// several processes may migrate one database at once: they wait for each other.
func Migrate(ctx context.Context, db *DB, fsys fs.FS, versionTable string) error {
	if db.Dialect() != Postgres {
		return migrate(ctx, db, fsys, versionTable)
	}
	return InTx(ctx, db.Read(), func(tx *sql.Tx) error { // only for its lock, which goes with it
		if _, err := tx.ExecContext(ctx, `select pg_advisory_xact_lock(hashtextextended('atcr.' || current_schema() || '.' || $1, 0))`,
			versionTable); err != nil {
			return fmt.Errorf("wait to migrate %s: %w", versionTable, err)
		}
		return migrate(ctx, db, fsys, versionTable)
	})
}

func migrate(ctx context.Context, db *DB, fsys fs.FS, versionTable string) error {
	if sub := string(db.Dialect()); hasDir(fsys, sub) {
		var err error
		if fsys, err = fs.Sub(fsys, sub); err != nil {
			return fmt.Errorf("migrations of %s: %w", versionTable, err)
		}
	}
	dialect := database.DialectSQLite3
	if db.Dialect() == Postgres {
		dialect = database.DialectPostgres
	}
	p, err := goose.NewProvider(dialect, db.Write(), fsys, goose.WithTableName(versionTable), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return fmt.Errorf("migrations of %s: %w", versionTable, Wrap(err))
	}
	have, want, err := p.GetVersions(ctx)
	if err != nil {
		return fmt.Errorf("read %s: %w", versionTable, Wrap(err))
	}
	if have > want {
		return fmt.Errorf("%s: the database is at version %d, this program knows up to %d: use a newer program", versionTable, have, want)
	}
	if have == want {
		return nil
	}
	if _, err := p.Up(ctx); err != nil {
		return fmt.Errorf("migrate %s from version %d to %d: %w", versionTable, have, want, Wrap(err))
	}
	return nil
}

func hasDir(fsys fs.FS, name string) bool {
	st, err := fs.Stat(fsys, name)
	return err == nil && st.IsDir()
}
