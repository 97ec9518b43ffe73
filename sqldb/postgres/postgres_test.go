package postgres_test

import (
	"database/sql"
	"errors"
	"strings"
	"testing"

	"github.com/atcr-dev/atcr/internal/realtest"
	"github.com/atcr-dev/atcr/internal/sqlx"
	"github.com/atcr-dev/atcr/sqldb"
	"github.com/atcr-dev/atcr/sqldb/postgres"
)

// TestRefused: an address that is none, or where nobody answers, is an error without the password.
func TestRefused(t *testing.T) {
	for _, address := range []string{
		"", "host=localhost password=hunter2", "mysql://u:hunter2@localhost/x", "postgres://u:hunter2@localhost:port/x",
		"postgres://u:hunter2@local host/x", "postgres://u:hun%zzter2@localhost/x", "postgres://u:hunter2@127.0.0.1:1/x?connect_timeout=soon",
		"postgres://u:12/hunter2@127.0.0.1/x", "postgres://u:12?hunter2@127.0.0.1/x", "postgres://u:12#hunter2@127.0.0.1/x",
		"postgres://u:hunter2@127.0.0.1:1/x",
	} {
		_, err := postgres.Open(t.Context(), address)
		if err == nil {
			t.Errorf("%q: no error", address)
		} else if s := err.Error(); strings.Contains(s, "hunter2") || strings.Contains(s, "hun%zz") {
			t.Errorf("%q: the password is shown: %s", address, s)
		}
		if errors.Is(err, postgres.ErrURL) == strings.HasSuffix(address, ":1/x") {
			t.Errorf("%q: %v", address, err)
		}
	}
}

// TestPools: what the packages rely on.
func TestPools(t *testing.T) {
	ctx := t.Context()
	url := realtest.Postgres(t).Database(t)
	db, err := postgres.OpenWith(ctx, url, &postgres.Options{Readers: 2, Writers: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for name, want := range map[string]string{"synchronous_commit": "on", "fsync": "on", "lock_timeout": "30s"} {
		var got string
		if err := db.Write().QueryRowContext(ctx, "show "+name).Scan(&got); err != nil || got != want {
			t.Errorf("%s is %q, %v", name, got, err)
		}
	}
	if _, err := db.Write().ExecContext(ctx, "create table t (id bigint primary key, v text)"); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Read().ExecContext(ctx, "insert into t values (1, 'x')"); err == nil {
		t.Error("the reading pool writes")
	}
	conn, err := db.Write().Conn(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	insert := func(ids ...int) error {
		return sqlx.InTx(ctx, conn, func(*sql.Tx) error {
			b := db.Batch(conn)
			for _, id := range ids {
				if err := b.Queue("insert into t values ($1, $2)", id, "x"); err != nil {
					return err
				}
			}
			return b.Run(ctx)
		})
	}
	count := func() (n int) {
		if err := db.Read().QueryRowContext(ctx, "select count(*) from t").Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	if err := insert(1, 2, 3); err != nil || count() != 3 {
		t.Fatalf("a batch: %v, %d rows", err, count())
	}
	if err := insert(4, 1, 5); !errors.Is(err, sqlx.ErrConstraint) || count() != 3 {
		t.Errorf("a batch that fails in the middle: %v, %d rows", err, count())
	}
	tx, err := db.Read().BeginTx(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback() //nolint:errcheck // it reads
	seen := func() (n int) {
		if err := tx.QueryRowContext(ctx, "select count(*) from t").Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	if seen() != 3 || insert(6) != nil || seen() != 3 || count() != 4 {
		t.Error("a reading transaction does not see one state")
	}
}

// TestDeadConnections: the server has ended every connection of a pool, which was used just now. Who reads or begins does not see it.
func TestDeadConnections(t *testing.T) {
	ctx := t.Context()
	address := realtest.Postgres(t).Database(t)
	other := realtest.OpenPostgres(t, address)
	end := func(t *testing.T, pids string) {
		t.Helper()
		var gone bool
		err := other.Write().QueryRowContext(ctx, "select bool_and(pg_terminate_backend(pid, 10000)) from unnest(('{'||$1||'}')::int[]) pid", pids).Scan(&gone)
		if err != nil || !gone {
			t.Fatalf("end %s: %v, %v", pids, gone, err)
		}
	}
	// dead is a database with a pool of which each connection is dead.
	dead := func(t *testing.T, of func(*sqldb.DB) *sql.DB) *sqldb.DB {
		t.Helper()
		db, err := postgres.OpenWith(ctx, address, &postgres.Options{Readers: 3, Writers: 3})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { db.Close() }) //nolint:errcheck // its connections are dead
		all := ""
		for range 2 { // the second time each is known to have been asked just now, so that the third asks none of them
			var open []*sql.Conn
			pids := ""
			for range 3 {
				c, err := of(db).Conn(ctx)
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close() //nolint:errcheck // it is, below
				var pid string
				if err := c.QueryRowContext(ctx, "select pg_backend_pid()").Scan(&pid); err != nil {
					t.Fatal(err)
				}
				open, pids = append(open, c), pids+","+pid
			}
			for _, c := range open {
				if err := c.Close(); err != nil {
					t.Fatal(err)
				}
			}
			all = strings.Trim(pids, ",")
		}
		end(t, all)
		return db
	}
	one := 0
	t.Run("a read", func(t *testing.T) {
		db := dead(t, (*sqldb.DB).Read)
		if err := db.Read().QueryRowContext(ctx, "select 1").Scan(&one); err != nil || one != 1 {
			t.Error(err)
		}
	})
	for name, of := range map[string]func(*sqldb.DB) *sql.DB{"read": (*sqldb.DB).Read, "write": (*sqldb.DB).Write} {
		t.Run("a transaction of the pool "+name, func(t *testing.T) {
			tx, err := of(dead(t, of)).BeginTx(ctx, nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(tx.QueryRowContext(ctx, "select 1").Scan(&one), tx.Commit()); err != nil {
				t.Error(err)
			}
		})
	}
	t.Run("a transaction that has read", func(t *testing.T) {
		tx, err := other.Read().BeginTx(ctx, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer tx.Rollback() //nolint:errcheck // it is lost
		var pid string
		if err := tx.QueryRowContext(ctx, "select pg_backend_pid()").Scan(&pid); err != nil {
			t.Fatal(err)
		}
		end(t, pid)
		if err := tx.QueryRowContext(ctx, "select 1").Scan(&one); err == nil {
			t.Error("it went on after its connection")
		}
	})
}
