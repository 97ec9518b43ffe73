package postgres

import (
	"context"
	"database/sql/driver"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
)

// connector makes connections that say so when the server had closed them before they were used. A pool does not know: it hands out
// a connection that rested for less than a second unasked, and the driver can't say whether the server has read what was written to
// one. But what can be repeated without harm needs no answer to that: a transaction that did not begin, and a read.
type connector struct {
	driver.Connector
	reads bool // its queries write nothing
}

func newConnector(c *pgx.ConnConfig, reads bool) driver.Connector {
	return &connector{stdlib.GetConnector(*c), reads}
}

func (c *connector) Connect(ctx context.Context) (driver.Conn, error) {
	made, err := c.Connector.Connect(ctx)
	if pg, ok := made.(*stdlib.Conn); ok && err == nil {
		return &conn{pg, c.reads}, nil
	}
	return made, err
}

// conn has database/sql try again on another connection, and in the end on a new one.
type conn struct {
	*stdlib.Conn
	reads bool
}

func (c *conn) BeginTx(ctx context.Context, o driver.TxOptions) (driver.Tx, error) {
	tx, err := c.Conn.BeginTx(ctx, o)
	return tx, c.again(ctx, err)
}

func (c *conn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	alone := c.Conn.Conn().PgConn().TxStatus() == 'I' // a transaction has read other things before, which are lost with it
	rows, err := c.Conn.QueryContext(ctx, query, args)
	if alone && c.reads {
		err = c.again(ctx, err)
	}
	return rows, err
}

// again returns what makes database/sql try again, when the connection is gone and not because the caller gave up.
func (c *conn) again(ctx context.Context, err error) error {
	if err != nil && ctx.Err() == nil && c.Conn.Conn().IsClosed() {
		return driver.ErrBadConn
	}
	return err
}

// pgxOf returns pgx's own connection behind one of database/sql, made here or by the caller's pool.
func pgxOf(c any) (*pgx.Conn, bool) {
	switch c := c.(type) {
	case *conn:
		return c.Conn.Conn(), true
	case *stdlib.Conn:
		return c.Conn(), true
	}
	return nil, false
}
