package open

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
)

// Batch sends statements to PostgreSQL in one piece, so that all of them wait for the network once. Their rows are not looked
// at. Not safe for concurrent use.
type Batch struct {
	conn *sql.Conn
	next pgx.Batch
}

// NewBatch makes an empty batch for a connection of [Postgres], which may be in a transaction.
func NewBatch(conn *sql.Conn) *Batch { return &Batch{conn: conn} }

// Queue adds a statement. Arguments are those that database/sql takes.
func (b *Batch) Queue(query string, args ...any) error {
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

// Run runs what was queued, in order; the first error ends it.
func (b *Batch) Run(ctx context.Context) error {
	if b.next.Len() == 0 {
		return nil
	}
	err := b.conn.Raw(func(c any) error {
		pg, ok := c.(*stdlib.Conn)
		if !ok {
			return fmt.Errorf("a batch needs a connection of pgx, not a %T", c)
		}
		return pg.Conn().SendBatch(ctx, &b.next).Close()
	})
	b.next = pgx.Batch{}
	return err
}

// Lost tells whether a connection of [Postgres] is gone, so that the outcome of what was under way is not known from it.
func Lost(conn *sql.Conn) bool {
	lost := false
	err := conn.Raw(func(c any) error {
		pg, ok := c.(*stdlib.Conn)
		lost = ok && pg.Conn().IsClosed()
		return nil
	})
	return lost || err != nil
}
