package sqldb

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"time"
)

// Hooks are what a driver does beyond database/sql. Package sqldb/postgres sets them; what is nil is done by database/sql alone,
// which works with every driver and takes longer.
type Hooks struct {
	// Batch returns an empty batch for a connection of Write, which may be in a transaction. nil: each statement is sent alone.
	Batch func(*sql.Conn) Batch
	// Lost reports whether a connection is gone. nil: the driver is asked by [driver.Validator] and [driver.Pinger].
	Lost func(*sql.Conn) bool
}

// Batch is statements for one connection, which a driver may send in one piece, so that all of them wait for the network once. Their
// rows are not looked at. Not safe for concurrent use.
type Batch interface {
	// Queue adds a statement. Arguments are those that database/sql takes.
	Queue(query string, args ...any) error
	// Run runs what was queued, in order; the first error ends it. The batch is empty then.
	Run(ctx context.Context) error
}

// Batch returns an empty batch for a connection of Write, which may be in a transaction.
func (d *DB) Batch(conn *sql.Conn) Batch {
	if d.hooks.Batch != nil {
		return d.hooks.Batch(conn)
	}
	return &oneByOne{conn: conn}
}

// Lost reports whether a connection is gone, so that what became of a commit that was under way is not known from it.
func (d *DB) Lost(conn *sql.Conn) bool {
	if d.hooks.Lost != nil {
		return d.hooks.Lost(conn)
	}
	valid := true
	err := conn.Raw(func(c any) error {
		if v, ok := c.(driver.Validator); ok {
			valid = v.IsValid()
		}
		return nil
	})
	ctx, cancel := context.WithTimeout(context.Background(), pingLimit)
	defer cancel()
	return err != nil || !valid || conn.PingContext(ctx) != nil
}

const pingLimit = 10 * time.Second

// oneByOne is the batch of a driver that has none.
type oneByOne struct {
	conn   *sql.Conn
	queued []statement
}

type statement struct {
	query string
	args  []any
}

func (b *oneByOne) Queue(query string, args ...any) error {
	b.queued = append(b.queued, statement{query, args})
	return nil
}

func (b *oneByOne) Run(ctx context.Context) error {
	queued := b.queued
	b.queued = nil
	for _, s := range queued {
		if _, err := b.conn.ExecContext(ctx, s.query, s.args...); err != nil {
			return err
		}
	}
	return nil
}
