package sqlx_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/atcr-dev/atcr/internal/realtest"
	"github.com/atcr-dev/atcr/internal/sqlx"
	"github.com/atcr-dev/atcr/sqldb/sqlite"
)

func TestServiceLock(t *testing.T) {
	ctx := t.Context()
	server := realtest.Postgres(t)
	address := server.Database(t)
	one, two := realtest.OpenPostgres(t, address), realtest.OpenPostgres(t, address)
	first, err := sqlx.LockService(ctx, one, "hold", time.Second)
	if err != nil {
		t.Fatal(err)
	}
	_, err = sqlx.LockService(ctx, two, "hold", time.Second)
	host, _ := os.Hostname()
	for _, want := range []string{fmt.Sprintf("process %d on %s", os.Getpid(), host), "of database postgres", "atcr hold"} {
		if !errors.Is(err, sqlx.ErrServiceLocked) || !strings.Contains(err.Error(), want) {
			t.Fatalf("the second: %v, want %q in it", err, want)
		}
	}
	// Another service, and another schema, are free.
	for _, c := range []struct {
		db      *sqlx.DB
		service string
	}{{two, "appview"}, {server.Open(t), "hold"}} {
		l, err := sqlx.LockService(ctx, c.db, c.service, time.Second)
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	// Lost, it is taken again.
	end := func() {
		t.Helper()
		err := realtest.WaitFor(30*time.Second, func() error { // nobody has it for a moment when who lost it takes it again
			var gone sql.NullBool
			err := two.Write().QueryRowContext(ctx, `select bool_and(pg_terminate_backend(pid, 10000)) from pg_locks
				where locktype = 'advisory' and database = (select oid from pg_database where datname = current_database())`).Scan(&gone)
			if err == nil && !gone.Bool {
				err = fmt.Errorf("ended: %v", gone)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	end()
	keep, stop := context.WithCancel(ctx)
	kept := make(chan error, 1)
	go func() { kept <- first.Keep(keep) }()
	if err := realtest.WaitFor(30*time.Second, func() error {
		l, err := sqlx.LockService(ctx, two, "hold", 0)
		if err == nil {
			err = errors.Join(l.Close(), errors.New("it is free"))
		}
		if errors.Is(err, sqlx.ErrServiceLocked) {
			return nil
		}
		return err
	}); err != nil {
		t.Fatalf("lost and not taken again: %v", err)
	}
	// Lost to another, it ends the server.
	end()
	other, err := sqlx.LockService(ctx, two, "hold", time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if err := <-kept; !errors.Is(err, sqlx.ErrServiceLocked) {
		t.Errorf("lost to another: %v", err)
	}
	stop()
	if err := errors.Join(first.Close(), first.Close()); err != nil {
		t.Error(err)
	}
}

func TestServiceLockOnSQLite(t *testing.T) {
	db, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "x.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for range 2 {
		l, err := sqlx.LockService(t.Context(), db, "hold", 0)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
	}
}
