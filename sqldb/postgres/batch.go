package postgres

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/atcr-dev/atcr/sqldb"
)

// batch is a [sqldb.Batch] that goes to the server in one piece.
type batch struct {
	conn *sql.Conn
	next pgx.Batch
}

func newBatch(conn *sql.Conn) sqldb.Batch { return &batch{conn: conn} }

func (b *batch) Queue(query string, args ...any) error {
	for i, a := range args {
		v, err := driver.DefaultParameterConverter.ConvertValue(a)
		if err != nil {
			return fmt.Errorf("argument %d of %q: %w", i+1, query, err)
		}
		args[i] = v
	}
	b.next.Queue(query, args...)
	return nil
}

func (b *batch) Run(ctx context.Context) error {
	if b.next.Len() == 0 {
		return nil
	}
	err := b.conn.Raw(func(c any) error {
		pg, ok := pgxOf(c)
		if !ok {
			return fmt.Errorf("a batch needs a connection of pgx, not a %T", c)
		}
		return pg.SendBatch(ctx, &b.next).Close()
	})
	b.next = pgx.Batch{}
	return err
}

func lost(conn *sql.Conn) bool {
	gone := false
	err := conn.Raw(func(c any) error {
		pg, ok := pgxOf(c)
		gone = ok && pg.IsClosed()
		return nil
	})
	return gone || err != nil
}
