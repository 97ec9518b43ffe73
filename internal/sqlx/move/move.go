// Package move brings the rows of SQLite files into the database that a service is given from now on.
package move

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/atcr-dev/atcr/internal/crashpoint"
	"github.com/atcr-dev/atcr/internal/durable"
	"github.com/atcr-dev/atcr/internal/sqlx"
	"github.com/atcr-dev/atcr/sqldb"
	"github.com/atcr-dev/atcr/sqldb/sqlite"
)

// Suffix is what a file's name gets when its rows lie in the database; a number follows when there is such a file already.
const Suffix = ".moved"

// ErrBothSides: a file and the database have rows of the same tables, and the database's are not a copy of the file's. The text names both.
var ErrBothSides = errors.New("there are rows on both sides")

//go:embed migrations
var migrations embed.FS

// File is a SQLite file of a service.
type File struct {
	Path string
	// Prefixes are what names of the tables begin with that are copied, as in "hold_". Tables in which goose keeps versions are not.
	Prefixes []string
	// Migrate brings the file's tables, and those of the database, up to date.
	Migrate func(context.Context, *sqldb.DB) error
}

// Waiting reports whether a file is there whose rows are to be moved: not when it is the database itself.
func (f File) Waiting(ctx context.Context, to *sqldb.DB) (bool, error) {
	st, err := os.Stat(f.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil || to.Dialect() != sqldb.SQLite {
		return err == nil, err
	}
	var own string
	if err := to.Read().QueryRowContext(ctx, `select file from pragma_database_list where name = 'main'`).Scan(&own); err != nil {
		return false, fmt.Errorf("ask for the database's file: %w", sqlx.Wrap(err))
	}
	mine, err := os.Stat(own)
	return err != nil || !os.SameFile(st, mine), nil
}

// Files copies the rows of those files that are there into a database, in one transaction, and then renames each to its name
// with [Suffix]. The caller keeps other processes from writing the files, and from moving into the same database. A file without rows
// is only renamed. Whenever the process ends, the next call does what is left, and copies nothing twice. Errors: [ErrBothSides], with
// nothing changed. Crash points: crashpoint.OfMove.
func Files(ctx context.Context, to *sqldb.DB, files []File, log *slog.Logger) error {
	var open []*source
	defer func() {
		for _, s := range open {
			s.close() //nolint:errcheck // it was only read
		}
	}()
	for _, f := range files {
		waiting, err := f.Waiting(ctx, to)
		if err != nil {
			return err
		}
		if !waiting {
			continue
		}
		s, err := openSource(ctx, f)
		if err != nil {
			return fmt.Errorf("move %s into the database: %w", f.Path, err)
		}
		open = append(open, s)
	}
	if len(open) == 0 {
		return nil
	}
	if err := prepare(ctx, to, open); err != nil {
		return err
	}
	if err := copyAll(ctx, to, open); err != nil {
		return err
	}
	for _, s := range open {
		if err := crashpoint.Reach(ctx, crashpoint.RowsCopied); err != nil {
			return err
		}
		moved, err := s.rename()
		if err != nil {
			return fmt.Errorf("the rows of %s are in the database, but it can't be renamed: %w", s.Path, err)
		}
		log.Info("rows were moved into the database", "file", s.Path, "rows", s.rows, "now", moved)
	}
	open = nil
	return nil
}

// prepare makes the tables that are copied into.
func prepare(ctx context.Context, to *sqldb.DB, open []*source) error {
	folder, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	if err := sqlx.Migrate(ctx, to, folder, "moved_version"); err != nil {
		return err
	}
	for _, s := range open {
		if err := s.Migrate(ctx, to); err != nil {
			return err
		}
	}
	return nil
}

// copyAll copies what is not there yet, all or nothing.
func copyAll(ctx context.Context, to *sqldb.DB, open []*source) error {
	conn, err := to.Write().Conn(ctx)
	if err != nil {
		return fmt.Errorf("connect: %w", sqlx.Wrap(err))
	}
	defer conn.Close() //nolint:errcheck // it goes back to the pool
	return sqlx.InTx(ctx, conn, func(tx *sql.Tx) error {
		t := &target{db: to, conn: conn, tx: tx}
		for _, s := range open {
			if err := t.take(ctx, s); err != nil {
				return fmt.Errorf("move %s into the database: %w", s.Path, err)
			}
		}
		return nil
	})
}

// source is an open file.
type source struct {
	File
	db     *sqldb.DB
	tables []table
	rows   int64
	digest string
}

type table struct {
	name    string
	columns []string
}

func openSource(ctx context.Context, f File) (_ *source, err error) {
	s := &source{File: f}
	if s.db, err = sqlite.Open(ctx, f.Path); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	if err := f.Migrate(ctx, s.db); err != nil {
		return nil, err
	}
	if s.tables, err = s.list(ctx); err != nil {
		return nil, err
	}
	var sum digest
	for _, t := range s.tables {
		if err := s.each(ctx, t, func(row []any) error { sum.add(t.name, row); return nil }); err != nil {
			return nil, err
		}
	}
	s.rows, s.digest = sum.rows, sum.text()
	return s, nil
}

// list returns the tables to copy.
func (s *source) list(ctx context.Context) (tables []table, err error) {
	rows, err := s.db.Read().QueryContext(ctx, `select t.name, c.name from sqlite_schema t join pragma_table_info(t.name) c
		where t.type = 'table' order by t.name, c.cid`)
	if err != nil {
		return nil, sqlx.Wrap(err)
	}
	defer rows.Close()
	for rows.Next() {
		var name, column string
		if err := rows.Scan(&name, &column); err != nil {
			return nil, sqlx.Wrap(err)
		}
		if !s.copies(name) {
			continue
		}
		if n := len(tables); n == 0 || tables[n-1].name != name {
			tables = append(tables, table{name: name})
		}
		last := &tables[len(tables)-1]
		last.columns = append(last.columns, column)
	}
	return tables, sqlx.Wrap(rows.Err())
}

func (s *source) copies(table string) bool {
	if strings.HasSuffix(table, "_version") {
		return false
	}
	for _, p := range s.Prefixes {
		if strings.HasPrefix(table, p) {
			return true
		}
	}
	return false
}

// each calls f with the rows of a table; a row is good until f returns.
func (s *source) each(ctx context.Context, t table, f func([]any) error) error {
	rows, err := s.db.Read().QueryContext(ctx, "select "+quoted(t.columns)+" from "+quoted([]string{t.name}))
	if err != nil {
		return sqlx.Wrap(err)
	}
	defer rows.Close()
	row, into := make([]any, len(t.columns)), make([]any, len(t.columns))
	for i := range row {
		into[i] = &row[i]
	}
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			return fmt.Errorf("table %s: %w", t.name, sqlx.Wrap(err))
		}
		if err := f(row); err != nil {
			return fmt.Errorf("table %s: %w", t.name, err)
		}
	}
	return sqlx.Wrap(rows.Err())
}

func (s *source) close() error { return s.db.Close() }

// rename gives the closed file its new name, and those that SQLite keeps beside one that somebody else still reads.
func (s *source) rename() (string, error) {
	if err := s.close(); err != nil {
		return "", err
	}
	to := s.Path + Suffix
	for n := 2; ; n++ {
		_, err := os.Lstat(to)
		if errors.Is(err, fs.ErrNotExist) {
			break
		}
		if err != nil {
			return "", err
		}
		to = fmt.Sprintf("%s%s%d", s.Path, Suffix, n)
	}
	if err := os.Rename(s.Path, to); err != nil {
		return "", err
	}
	for _, beside := range []string{"-wal", "-shm"} {
		if err := os.Rename(s.Path+beside, to+beside); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
	}
	return to, durable.SyncDir(filepath.Dir(s.Path))
}

func quoted(names []string) string { return `"` + strings.Join(names, `", "`) + `"` }
