package sqlite_test

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"testing/fstest"

	"github.com/atcr-dev/atcr/internal/sqlx"
	"github.com/atcr-dev/atcr/sqldb/sqlite"
)

// migrations in three steps; the second moves data.
var migrations = fstest.MapFS{
	"00001_one.sql":   {Data: []byte("-- +goose Up\ncreate table a (id integer primary key, v text not null);\ninsert into a (v) values ('x'), ('y');\n")},
	"00002_two.sql":   {Data: []byte("-- +goose Up\ncreate table b (id integer primary key, v text not null);\ninsert into b select id, v from a;\ndrop table a;\n")},
	"00003_three.sql": {Data: []byte("-- +goose Up\nalter table b add column n integer not null default 7;\n")},
}

const killDir = "ATCR_TEST_MIGRATE_DIR" // set in the child

func TestMain(m *testing.M) {
	if dir := os.Getenv(killDir); dir != "" {
		for i := 0; ; i++ {
			fmt.Println(i)
			if err := migrate(filepath.Join(dir, strconv.Itoa(i)+".db")); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
		}
	}
	os.Exit(m.Run())
}

func migrate(path string) error {
	db, err := sqlite.Open(context.Background(), path)
	if err != nil {
		return err
	}
	return errors.Join(sqlx.Migrate(context.Background(), db, migrations, "room_version"), db.Close())
}

// TestKillMigration kills a process that migrates database after database; each must come up to date at the next start.
func TestKillMigration(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	rounds := 4
	if os.Getenv("ATCR_LONG") != "" {
		rounds = 50
	}
	for range rounds {
		dir := t.TempDir()
		cmd := exec.Command(self)
		cmd.Env = append(os.Environ(), killDir+"="+dir)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		after, begun := 1+rand.IntN(6), 0
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if begun++; begun == after {
				for range rand.IntN(200_000) { // somewhere within a migration
					_ = begun
				}
				cmd.Process.Kill()
			}
		}
		cmd.Wait() //nolint:errcheck // killed
		if begun < after {
			t.Fatal("the child ended by itself")
		}
		for i := range begun {
			path := filepath.Join(dir, strconv.Itoa(i)+".db")
			if err := migrate(path); err != nil {
				t.Fatalf("after the kill: %v", err)
			}
			checkMigrated(t, path)
		}
	}
}

func checkMigrated(t *testing.T, path string) {
	t.Helper()
	db, err := sqlite.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var rows, sum, versions int
	if err := db.Read().QueryRow("select count(*), sum(n) from b").Scan(&rows, &sum); err != nil {
		t.Fatal(err)
	}
	if err := db.Read().QueryRow("select count(*) from room_version where version_id > 0").Scan(&versions); err != nil {
		t.Fatal(err)
	}
	if rows != 2 || sum != 14 || versions != 3 {
		t.Fatalf("%d rows, sum %d, %d versions", rows, sum, versions)
	}
}

func TestSQLite(t *testing.T) {
	ctx := t.Context()
	path := filepath.Join(t.TempDir(), "a b?#%.db") // the path is no URL
	db, err := sqlite.Open(ctx, path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := os.Stat(path); err != nil {
		t.Fatal(err)
	}
	for pragma, want := range map[string]string{"journal_mode": "wal", "synchronous": "2", "foreign_keys": "1"} {
		var got string
		if err := db.Write().QueryRowContext(ctx, "pragma "+pragma).Scan(&got); err != nil || got != want {
			t.Errorf("%s is %s, want %s (%v)", pragma, got, want, err)
		}
	}
	if _, err := db.Read().ExecContext(ctx, "create table t (a)"); err == nil {
		t.Error("the reading pool writes")
	}
	if _, err := db.Write().ExecContext(ctx, "create table t (a integer primary key)"); err != nil {
		t.Fatal(err)
	}
	insert := func(tx *sql.Tx) error { _, err := tx.ExecContext(ctx, "insert into t values ($1)", 1); return err }
	if err := sqlx.InTx(ctx, db.Write(), insert); err != nil {
		t.Fatal(err)
	}
	if err := sqlx.InTx(ctx, db.Write(), insert); !errors.Is(err, sqlx.ErrConstraint) {
		t.Errorf("twice: %v", err)
	}
	mine := errors.New("mine")
	err = sqlx.InTx(ctx, db.Write(), func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, "insert into t values (2)"); err != nil {
			return err
		}
		return mine
	})
	var n int
	if row := db.Read().QueryRowContext(ctx, "select count(*) from t"); !errors.Is(err, mine) || row.Scan(&n) != nil || n != 1 {
		t.Errorf("rolled back with %v: %d rows", err, n)
	}
}

func TestRefused(t *testing.T) {
	ctx := t.Context()
	dir := t.TempDir()
	junk := filepath.Join(dir, "junk.db")
	if err := os.WriteFile(junk, make([]byte, 8192), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(junk, []byte("this is not a database, however long one looks at it; it is text and nothing but text, and goes on for more than a hundred bytes"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := sqlite.Open(ctx, junk); !errors.Is(err, sqlx.ErrCorrupt) {
		t.Errorf("junk: %v", err)
	}
	if _, err := sqlite.Open(ctx, filepath.Join(dir, "none", "x.db")); err == nil {
		t.Error("a missing folder")
	}
	newer := filepath.Join(dir, "newer.db")
	if err := migrate(newer); err != nil {
		t.Fatal(err)
	}
	db, err := sqlite.Open(ctx, newer)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	older := fstest.MapFS{"00001_one.sql": migrations["00001_one.sql"]}
	if err := sqlx.Migrate(ctx, db, older, "room_version"); err == nil {
		t.Error("a database newer than the program")
	}
	if err := sqlx.Migrate(ctx, db, fstest.MapFS{"00001_c.sql": {Data: []byte("-- +goose Up\ncreate table c (a);")}},
		"other_version"); err != nil {
		t.Errorf("another package in the same file: %v", err)
	}
}
