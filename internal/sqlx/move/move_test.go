package move_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/atcr-dev/atcr/internal/crashpoint"
	"github.com/atcr-dev/atcr/internal/realtest"
	"github.com/atcr-dev/atcr/internal/sqlx"
	"github.com/atcr-dev/atcr/internal/sqlx/move"
	"github.com/atcr-dev/atcr/sqldb"
	"github.com/atcr-dev/atcr/sqldb/postgres"
	"github.com/atcr-dev/atcr/sqldb/sqlite"
)

// Set in the child that is killed.
const (
	killDir = "ATCR_TEST_MOVE_DIR"
	killURL = "ATCR_TEST_MOVE_URL"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(killDir); dir != "" {
		ctx := context.Background()
		db, err := postgres.Open(ctx, os.Getenv(killURL))
		if err == nil {
			fmt.Println("begun")
			err = move.Files(ctx, db, files(dir), slog.New(slog.DiscardHandler))
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(realtest.Main(m))
}

// tables are of all kinds that SQLite keeps and our migrations use; the identity column is for those to come.
var tables = fstest.MapFS{
	"sqlite/00001_a.sql": {Data: []byte(`-- +goose Up
create table a_row (id integer primary key, path text not null, body bytea not null, n bigint not null, flag integer not null, maybe text);
create table a_none (id integer primary key);`)},
	"postgres/00001_a.sql": {Data: []byte(`-- +goose Up
create table a_row (id bigint generated always as identity primary key, path text collate "C" not null, body bytea not null,
	n bigint not null, flag boolean not null, maybe text);
create table a_none (id bigint primary key);`)},
}

var others = fstest.MapFS{"00001_b.sql": {Data: []byte("-- +goose Up\ncreate table b_row (k text not null primary key, v text not null);")}}

func migrateA(ctx context.Context, db *sqldb.DB) error {
	return sqlx.Migrate(ctx, db, tables, "a_version")
}
func migrateB(ctx context.Context, db *sqldb.DB) error {
	return sqlx.Migrate(ctx, db, others, "b_version")
}

func files(dir string) []move.File {
	return []move.File{
		{Path: filepath.Join(dir, "a.db"), Prefixes: []string{"a_"}, Migrate: migrateA},
		{Path: filepath.Join(dir, "b.db"), Prefixes: []string{"b_"}, Migrate: migrateB},
	}
}

// rowsOfA are written to a file.
func rowsOfA(n int) [][]any {
	rows := [][]any{
		{int64(7), "aB", []byte{0, 255, '\\', 'x'}, int64(1) << 62, int64(1), nil},
		{int64(3), "Äb", []byte{}, int64(-5), int64(0), "a\x00b\xff"},
	}
	for i := range n {
		rows = append(rows, []any{int64(100 + i), fmt.Sprintf("path/%d", i), bytes.Repeat([]byte{byte(i)}, 700), int64(i), int64(i % 2), "x"})
	}
	return rows
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// make2 makes both files.
func make2(t testing.TB, dir string, n int) {
	t.Helper()
	ctx := t.Context()
	for i, f := range files(dir) {
		db, err := sqlite.Open(ctx, f.Path)
		must(t, err)
		must(t, f.Migrate(ctx, db))
		must(t, sqlx.InTx(ctx, db.Write(), func(tx *sql.Tx) error {
			if i == 1 {
				_, err := tx.ExecContext(ctx, `insert into b_row values ('k', 'v')`)
				return err
			}
			for _, row := range rowsOfA(n) {
				if _, err := tx.ExecContext(ctx, `insert into a_row values ($1, $2, $3, $4, $5, $6)`, row...); err != nil {
					return err
				}
			}
			return nil
		}))
		must(t, db.Close())
	}
}

// check makes sure that all rows are there, once, with their types.
func check(t testing.TB, db *sqldb.DB, n int) {
	t.Helper()
	ctx := t.Context()
	for _, want := range rowsOfA(n) {
		var path string
		var body []byte
		var number int64
		var flag bool
		var maybe sql.NullString
		err := db.Read().QueryRowContext(ctx, `select path, body, n, flag, maybe from a_row where id = $1`, want[0]).Scan(&path, &body,
			&number, &flag, &maybe)
		if err != nil || path != want[1] || !bytes.Equal(body, want[2].([]byte)) || number != want[3] || flag != (want[4] == int64(1)) ||
			maybe.Valid != (want[5] != nil) {
			t.Fatalf("row %v is %q %q %d %v %v, %v", want[0], path, body, number, flag, maybe, err)
		}
	}
	var rows, b, marks int
	must(t, db.Read().QueryRowContext(ctx, `select (select count(*) from a_row), (select count(*) from b_row), (select count(*) from moved_file)`).Scan(&rows, &b, &marks))
	if rows != n+2 || b != 1 || marks != 2 {
		t.Fatalf("%d and %d rows, %d marks", rows, b, marks)
	}
}

func names(t testing.TB, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	must(t, err)
	var all []string
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return strings.Join(all, " ")
}

// targets gives a new database of each kind.
func targets(t *testing.T, f func(t *testing.T, db *sqldb.DB)) {
	t.Run("postgres", func(t *testing.T) { f(t, realtest.Postgres(t).Open(t)) })
	t.Run("sqlite", func(t *testing.T) {
		db, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "to.db"))
		must(t, err)
		t.Cleanup(func() { must(t, db.Close()) })
		f(t, db)
	})
}

func TestFiles(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	targets(t, func(t *testing.T, db *sqldb.DB) {
		ctx, dir := t.Context(), t.TempDir()
		make2(t, dir, 2000)
		must(t, move.Files(ctx, db, files(dir), log))
		check(t, db, 2000)
		if got := names(t, dir); got != "a.db.moved b.db.moved" {
			t.Errorf("in the folder: %s", got)
		}
		must(t, move.Files(ctx, db, files(dir), log)) // nothing is left to do
		if db.Dialect() == sqldb.Postgres {
			var id int64
			must(t, db.Write().QueryRowContext(ctx, `insert into a_row (path, body, n, flag) values ('new', '', 1, true) returning id`).Scan(&id))
			if id != 2100 {
				t.Errorf("a new row has number %d, want 2100", id)
			}
		}
		// Files without rows, as a program of before makes them, get out of the way, and nobody's name is taken.
		for _, f := range files(dir) {
			empty, err := sqlite.Open(ctx, f.Path)
			must(t, err)
			must(t, empty.Close())
		}
		must(t, move.Files(ctx, db, files(dir), log))
		if got := names(t, dir); got != "a.db.moved a.db.moved2 b.db.moved b.db.moved2" {
			t.Errorf("in the folder: %s", got)
		}
	})
}

// TestItself: a database that is one of the files stays where it is.
func TestItself(t *testing.T) {
	ctx, dir := t.Context(), t.TempDir()
	make2(t, dir, 1)
	db, err := sqlite.Open(ctx, filepath.Join(dir, "a.db"))
	must(t, err)
	defer db.Close()
	must(t, move.Files(ctx, db, files(dir), slog.New(slog.DiscardHandler)))
	var rows, b int
	must(t, db.Read().QueryRowContext(ctx, `select (select count(*) from a_row), (select count(*) from b_row)`).Scan(&rows, &b))
	if got := names(t, dir); rows != 3 || b != 1 || !strings.Contains(got, "a.db ") || !strings.HasSuffix(got, "b.db.moved") {
		t.Errorf("%d and %d rows, in the folder: %s", rows, b, got)
	}
}

// TestBothSides: rows on both sides are refused, whichever table they are in, and nothing is changed.
func TestBothSides(t *testing.T) {
	targets(t, func(t *testing.T, db *sqldb.DB) {
		ctx, dir := t.Context(), t.TempDir()
		make2(t, dir, 1)
		must(t, migrateB(ctx, db))
		_, err := db.Write().ExecContext(ctx, `insert into b_row values ('other', 'x')`)
		must(t, err)
		err = move.Files(ctx, db, files(dir), slog.New(slog.DiscardHandler))
		if !errors.Is(err, move.ErrBothSides) || !strings.Contains(err.Error(), filepath.Join(dir, "b.db")) ||
			!strings.Contains(err.Error(), "table b_row of ") {
			t.Errorf("refused with: %v", err)
		}
		if db.Dialect() == sqldb.Postgres && !strings.Contains(err.Error(), "of schema test") {
			t.Errorf("the schema is not named: %v", err)
		}
		var rows int
		must(t, db.Read().QueryRowContext(ctx, `select count(*) from a_row`).Scan(&rows))
		if got := names(t, dir); rows != 0 || got != "a.db b.db" {
			t.Errorf("%d rows were copied, in the folder: %s", rows, got)
		}
	})
}

// TestCrashPoint stops before each new name: the next call gives it, and copies nothing twice. A file that was written to in between
// is refused.
func TestCrashPoint(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	for stop := range 2 {
		targets(t, func(t *testing.T, db *sqldb.DB) {
			ctx, dir := t.Context(), t.TempDir()
			make2(t, dir, 5)
			reached := 0
			err := move.Files(crashpoint.With(ctx, func(name string) error {
				if name != crashpoint.RowsCopied {
					return nil
				}
				if reached++; reached == stop+1 {
					return errors.New("here")
				}
				return nil
			}), db, files(dir), log)
			if !errors.Is(err, crashpoint.ErrStopped) {
				t.Fatalf("not stopped: %v", err)
			}
			check(t, db, 5)
			if stop == 1 {
				b, err := sqlite.Open(ctx, filepath.Join(dir, "b.db"))
				must(t, err)
				_, err = b.Write().ExecContext(ctx, `update b_row set v = 'newer'`)
				must(t, errors.Join(err, b.Close()))
				if err := move.Files(ctx, db, files(dir), log); !errors.Is(err, move.ErrBothSides) {
					t.Errorf("newer rows in the file: %v", err)
				}
				return
			}
			must(t, move.Files(ctx, db, files(dir), log))
			check(t, db, 5)
			if got := names(t, dir); got != "a.db.moved b.db.moved" {
				t.Errorf("in the folder: %s", got)
			}
		})
	}
}

// TestKill kills the process that moves, anywhere: the next one does the rest.
func TestKill(t *testing.T) {
	self, err := os.Executable()
	must(t, err)
	rounds, killed := 6, 0
	if os.Getenv("ATCR_LONG") != "" {
		rounds = 60
	}
	const n = 4000
	made := t.TempDir()
	make2(t, made, n)
	for round := range rounds {
		address := realtest.Postgres(t).Database(t)
		dir := t.TempDir()
		for _, f := range []string{"a.db", "b.db"} {
			b, err := os.ReadFile(filepath.Join(made, f))
			must(t, err)
			must(t, os.WriteFile(filepath.Join(dir, f), b, 0o600))
		}
		cmd := exec.Command(self)
		cmd.Env = append(os.Environ(), killDir+"="+dir, killURL+"="+address)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		must(t, err)
		must(t, cmd.Start())
		_, err = out.Read(make([]byte, 1))
		must(t, err)
		over := make(chan struct{})
		go func() { cmd.Wait(); close(over) }() //nolint:errcheck // killed, or looked at below
		select {
		case <-time.After(time.Duration(rand.IntN(400)) * time.Millisecond):
			if err := cmd.Process.Kill(); !errors.Is(err, os.ErrProcessDone) {
				must(t, err)
			}
		case <-over:
		}
		<-over
		if !cmd.ProcessState.Success() {
			killed++
		}
		db := realtest.OpenPostgres(t, address)
		must(t, move.Files(t.Context(), db, files(dir), slog.New(slog.DiscardHandler)))
		check(t, db, n)
		if got := names(t, dir); !strings.HasPrefix(got, "a.db.moved ") || strings.Contains(got, " b.db ") {
			t.Errorf("round %d: in the folder: %s", round, got)
		}
	}
	if killed == 0 {
		t.Error("nothing was killed")
	}
	t.Logf("%d of %d were killed", killed, rounds)
}

// TestSameKeyAsText: what is no text for PostgreSQL becomes one, which may be the key of another row: that one counts, and the move
// does not fail by what an untrusted server has sent.
func TestSameKeyAsText(t *testing.T) {
	ctx, dir := t.Context(), t.TempDir()
	made := files(dir)[1]
	db, err := sqlite.Open(ctx, made.Path)
	must(t, err)
	must(t, made.Migrate(ctx, db))
	for _, row := range [][2]string{{"a\x00", "nul"}, {"a\ufffd", "text"}, {"a\xff", "no UTF-8"}, {"b\x00", "alone"}} {
		_, err := db.Write().ExecContext(ctx, `insert into b_row values ($1, $2)`, row[0], row[1])
		must(t, err)
	}
	must(t, db.Close())
	to := realtest.Postgres(t).Open(t)
	must(t, move.Files(ctx, to, []move.File{made}, slog.New(slog.DiscardHandler)))
	var got string
	must(t, to.Read().QueryRowContext(ctx, `select string_agg(k || '=' || v, ' ' order by k) from b_row`).Scan(&got))
	if got != "a\ufffd=text b\ufffd=alone" {
		t.Errorf("%q", got)
	}
}
