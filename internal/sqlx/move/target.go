package move

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"github.com/atcr-dev/atcr/internal/sqlx"
	"github.com/atcr-dev/atcr/sqldb"
)

// How much goes to the server in one piece.
const (
	pieceRows  = 500
	pieceBytes = 4 << 20
)

// target is a transaction that rows are copied in.
type target struct {
	db   *sqldb.DB
	conn *sql.Conn
	tx   *sql.Tx
}

// take copies a file, unless that was done before.
func (t *target) take(ctx context.Context, s *source) error {
	if s.rows == 0 {
		return nil
	}
	var one int
	err := t.tx.QueryRowContext(ctx, `select 1 from moved_file where digest = $1`, s.digest).Scan(&one)
	if !errors.Is(err, sql.ErrNoRows) {
		return sqlx.Wrap(err) // nil: only its new name is missing
	}
	for _, table := range s.tables {
		if err := t.empty(ctx, s, table.name); err != nil {
			return err
		}
	}
	for _, table := range s.tables {
		if err := t.fill(ctx, s, table); err != nil {
			return err
		}
	}
	_, err = t.tx.ExecContext(ctx, `insert into moved_file (digest, path, copied) values ($1, $2, $3)`, s.digest, s.Path, s.rows)
	return sqlx.Wrap(err)
}

// empty locks a table of the database and refuses one that has rows.
func (t *target) empty(ctx context.Context, s *source, name string) error {
	if t.db.Dialect() == sqldb.Postgres {
		if _, err := t.tx.ExecContext(ctx, "lock table "+quoted([]string{name})+" in exclusive mode"); err != nil {
			return fmt.Errorf("lock %s: %w", name, sqlx.Wrap(err))
		}
	}
	var one int
	err := t.tx.QueryRowContext(ctx, "select 1 from "+quoted([]string{name})+" limit 1").Scan(&one)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look into %s: %w", name, sqlx.Wrap(err))
	}
	return fmt.Errorf("%w: the file %s has %d rows, and table %s of %s has some that are not from there; move the file away if "+
		"the database's "+
		"count, or name an empty schema or database if the file's do", ErrBothSides, s.Path, s.rows, name, t.name(ctx))
}

// name is what an operator knows the database by.
func (t *target) name(ctx context.Context) string {
	query := `select 'the database ' || file from pragma_database_list where name = 'main'`
	if t.db.Dialect() == sqldb.Postgres {
		query = `select 'schema ' || current_schema() || ' in database ' || current_database()`
	}
	var name string
	if err := t.tx.QueryRowContext(ctx, query).Scan(&name); err != nil {
		return "the database"
	}
	return name
}

// fill copies one table.
func (t *target) fill(ctx context.Context, s *source, from table) error {
	kinds, err := t.kinds(ctx, from)
	if err != nil {
		return err
	}
	insert := "insert into " + quoted([]string{from.name}) + " (" + quoted(from.columns) + ") "
	if t.db.Dialect() == sqldb.Postgres {
		insert += "overriding system value " // a column that numbers rows by itself keeps the numbers that they have
	}
	insert += "values (" + placeholders(len(from.columns)) + ")"
	changed, err := t.fillBy(ctx, s, from, kinds, insert, false)
	if err == nil && changed > 0 {
		_, err = t.fillBy(ctx, s, from, kinds, insert+" on conflict do nothing", true)
	}
	if err != nil {
		return err
	}
	return t.number(ctx, from)
}

// fillBy copies the rows whose text PostgreSQL keeps as it is, or those others, of which it returns how many there are: made text,
// one of them may have the key of another row, which then counts.
func (t *target) fillBy(ctx context.Context, s *source, from table, kinds []string, insert string, others bool) (changed int64, err error) {
	batch := t.db.Batch(t.conn)
	rows, size := 0, 0
	err = s.each(ctx, from, func(row []any) error {
		args, other := make([]any, len(row)), false
		for i, v := range row {
			if args[i], err = t.convert(v, kinds[i]); err != nil {
				return fmt.Errorf("column %s: %w", from.columns[i], err)
			}
			other = other || otherText(v, args[i])
		}
		if other {
			changed++
		}
		if other != others {
			return nil
		}
		for _, a := range args {
			size += sizeOf(a)
		}
		if err := batch.Queue(insert, args...); err != nil {
			return err
		}
		if rows++; rows%pieceRows != 0 && size < pieceBytes {
			return nil
		}
		size = 0
		return sqlx.Wrap(batch.Run(ctx))
	})
	if err == nil {
		err = sqlx.Wrap(batch.Run(ctx))
	}
	return changed, err
}

// otherText reports whether a value became another text.
func otherText(v, now any) bool {
	text, ok := now.(string)
	if !ok {
		return false
	}
	switch v := v.(type) {
	case string:
		return v != text
	case []byte:
		return string(v) != text
	}
	return false
}

// kinds returns what each column of the database holds, and refuses a table that lacks one.
func (t *target) kinds(ctx context.Context, from table) ([]string, error) {
	query := `select name, lower(type) from pragma_table_info($1)`
	if t.db.Dialect() == sqldb.Postgres {
		query = `select column_name, data_type from information_schema.columns where table_schema = current_schema() and table_name = $1`
	}
	rows, err := t.tx.QueryContext(ctx, query, from.name)
	if err != nil {
		return nil, sqlx.Wrap(err)
	}
	defer rows.Close()
	have := map[string]string{}
	for rows.Next() {
		var name, kind string
		if err := rows.Scan(&name, &kind); err != nil {
			return nil, sqlx.Wrap(err)
		}
		have[name] = kind
	}
	kinds := make([]string, len(from.columns))
	for i, c := range from.columns {
		kind, ok := have[c]
		if !ok {
			return nil, fmt.Errorf("the database's table %s has no column %s", from.name, c)
		}
		kinds[i] = kind
	}
	return kinds, sqlx.Wrap(rows.Err())
}

// number has columns that number rows by themselves go on above what was copied.
func (t *target) number(ctx context.Context, from table) error {
	if t.db.Dialect() != sqldb.Postgres {
		return nil // AUTOINCREMENT looks at the rows
	}
	for _, c := range from.columns {
		var sequence sql.NullString
		name := quoted([]string{from.name})
		if err := t.tx.QueryRowContext(ctx, `select pg_get_serial_sequence($1, $2)`, name, c).Scan(&sequence); err != nil {
			return fmt.Errorf("sequence of column %s: %w", c, sqlx.Wrap(err))
		}
		if !sequence.Valid {
			continue
		}
		query := "select setval($1::regclass, max(" + quoted([]string{c}) + ")) from " + name
		if _, err := t.tx.ExecContext(ctx, query, sequence.String); err != nil {
			return fmt.Errorf("sequence of column %s: %w", c, sqlx.Wrap(err))
		}
	}
	return nil
}

// convert makes a value of SQLite, whose columns hold anything, one of the database's column.
func (t *target) convert(v any, kind string) (any, error) {
	if b, ok := v.([]byte); ok && b == nil {
		v = []byte{} // no bytes, which is not NULL
	}
	if t.db.Dialect() == sqldb.SQLite {
		return v, nil
	}
	switch v := v.(type) {
	case string:
		switch kind {
		case "bytea", "blob":
			return []byte(v), nil
		case "text", "character varying":
			// SQLite keeps text that is none, such as an owner's server may have sent; PostgreSQL does not.
			return strings.ReplaceAll(strings.ToValidUTF8(v, "\ufffd"), "\x00", "\ufffd"), nil
		}
		return nil, fmt.Errorf("a text where the database has %s", kind)
	case []byte:
		switch kind {
		case "text", "character varying":
			return t.convert(string(v), kind)
		case "bytea", "blob":
			return v, nil
		}
		return nil, fmt.Errorf("bytes where the database has %s", kind)
	case int64:
		if kind == "boolean" {
			return v != 0, nil
		}
	}
	return v, nil
}

func sizeOf(v any) int {
	switch v := v.(type) {
	case string:
		return len(v)
	case []byte:
		return len(v)
	}
	return 8
}

func placeholders(n int) string {
	var b strings.Builder
	for i := range n {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "$%d", i+1)
	}
	return b.String()
}
