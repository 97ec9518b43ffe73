package sqlx

import (
	"errors"
	"fmt"
	"net"
	"syscall"
)

// Kinds that [Wrap] gives to errors of databases; test with [errors.Is].
var (
	// ErrNoSpace: the disk or the database's quota is full.
	ErrNoSpace = errors.New("database: no space left")
	// ErrBusy: locked by another process for longer than we wait, a conflict that a retry would settle, or a server that is away.
	ErrBusy = errors.New("database: busy")
	// ErrCorrupt: the file is damaged or no database.
	ErrCorrupt = errors.New("database: corrupt")
	// ErrConstraint: a unique, foreign-key or check constraint.
	ErrConstraint = errors.New("database: constraint")
)

// Wrap gives an error of SQLite or PostgreSQL its kind, by the driver's code; others, and nil, come back as they are.
// [sql.ErrNoRows] stays itself.
func Wrap(err error) error {
	if err == nil || errors.Is(err, ErrNoSpace) || errors.Is(err, ErrBusy) || errors.Is(err, ErrCorrupt) || errors.Is(err, ErrConstraint) {
		return err
	}
	if kind := kindOf(err); kind != nil {
		return fmt.Errorf("%w: %w", kind, err)
	}
	return err
}

func kindOf(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return ErrNoSpace
	}
	if e := (*net.OpError)(nil); errors.As(err, &e) {
		return ErrBusy
	}
	if e := (interface{ SQLState() string })(nil); errors.As(err, &e) {
		return postgresKind(e.SQLState())
	}
	if e := (interface{ Code() int })(nil); errors.As(err, &e) {
		return sqliteKind(e.Code())
	}
	return nil
}

// sqliteShmSize is the extended code IOERR_SHMSIZE: the log's index can't be made larger.
const sqliteShmSize = 10 | 19<<8

// sqliteKind reads primary result codes (the low byte of an extended one): https://sqlite.org/rescode.html
func sqliteKind(code int) error {
	if code == sqliteShmSize {
		return ErrNoSpace
	}
	switch code & 0xff {
	case 5, 6: // BUSY, LOCKED
		return ErrBusy
	case 11, 26: // CORRUPT, NOTADB
		return ErrCorrupt
	case 13: // FULL
		return ErrNoSpace
	case 19: // CONSTRAINT
		return ErrConstraint
	}
	return nil
}

// postgresKind reads SQLSTATE classes: https://www.postgresql.org/docs/current/errcodes-appendix.html
func postgresKind(state string) error {
	if len(state) != 5 {
		return nil
	}
	switch {
	case state == "53100":
		return ErrNoSpace
	case state[:2] == "23":
		return ErrConstraint
	case state[:2] == "40", state == "55P03", state[:2] == "08", state[:3] == "57P", state == "53300": // a lock, a connection, a restart
		return ErrBusy
	case state[:2] == "XX" && state != "XX000":
		return ErrCorrupt
	}
	return nil
}
