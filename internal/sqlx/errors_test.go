package sqlx_test

import (
	"database/sql"
	"errors"
	"fmt"
	"net"
	"syscall"
	"testing"

	"github.com/atcr-dev/atcr/internal/sqlx"
)

type sqliteError int

func (e sqliteError) Error() string { return fmt.Sprintf("sqlite %d", int(e)) }
func (e sqliteError) Code() int     { return int(e) }

type postgresError string

func (e postgresError) Error() string    { return "postgres " + string(e) }
func (e postgresError) SQLState() string { return string(e) }

func TestWrap(t *testing.T) {
	for _, c := range []struct{ err, kind error }{
		{sqliteError(5), sqlx.ErrBusy},
		{sqliteError(5 | 2<<8), sqlx.ErrBusy}, // SQLITE_BUSY_SNAPSHOT
		{sqliteError(11), sqlx.ErrCorrupt},
		{sqliteError(13), sqlx.ErrNoSpace},
		{sqliteError(10 | 19<<8), sqlx.ErrNoSpace},
		{sqliteError(19 | 8<<8), sqlx.ErrConstraint},
		{postgresError("53100"), sqlx.ErrNoSpace},
		{postgresError("23505"), sqlx.ErrConstraint},
		{postgresError("40001"), sqlx.ErrBusy},
		{postgresError("XX001"), sqlx.ErrCorrupt},
		{postgresError("57P01"), sqlx.ErrBusy},
		{&net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}, sqlx.ErrBusy},
		{fmt.Errorf("write: %w", syscall.ENOSPC), sqlx.ErrNoSpace},
	} {
		err := sqlx.Wrap(fmt.Errorf("doing: %w", c.err))
		if !errors.Is(err, c.kind) || !errors.Is(err, c.err) && !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("%v became %v", c.err, err)
		}
		if again := sqlx.Wrap(err); again != err {
			t.Errorf("wrapped twice: %v", again)
		}
	}
	for _, err := range []error{nil, sql.ErrNoRows, sqliteError(1), postgresError("42P01"), errors.New("x")} {
		if got := sqlx.Wrap(err); got != err {
			t.Errorf("%v became %v", err, got)
		}
	}
}
