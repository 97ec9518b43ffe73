package postgres_test

import (
	"database/sql"
	"errors"
	"strings"
	"testing"

	"github.com/atcr-dev/atcr/internal/realtest"
	"github.com/atcr-dev/atcr/internal/sqlx"
	"github.com/atcr-dev/atcr/sqldb/postgres"
)

// TestRefused: an address that is none, or where nobody answers, is an error without the password.
func TestRefused(t *testing.T) {
	for _, address := range []string{
		"", "host=localhost password=hunter2", "mysql://u:hunter2@localhost/x", "postgres://u:hunter2@localhost:port/x",
		"postgres://u:hunter2@local host/x", "postgres://u:hun%zzter2@localhost/x", "postgres://u:hunter2@127.0.0.1:1/x?connect_timeout=soon",
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

// TestPools: what the rooms rely on.
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
