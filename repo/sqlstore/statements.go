package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// runner runs queries: a pool, a transaction, or statements prepared for them.
type runner interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

// statements are queries prepared for a SQLite pool, all at once: inside a transaction the pool may have no other connection
// to prepare on. On the writing pool, which has one connection, each is compiled once. PostgreSQL's driver does that by itself.
type statements struct {
	m map[string]*sql.Stmt
}

func newStatements(ctx context.Context, db *sql.DB, queries []string) (*statements, error) {
	s := &statements{m: make(map[string]*sql.Stmt, len(queries))}
	for _, q := range queries {
		stmt, err := db.PrepareContext(ctx, q)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("prepare %q: %w", q, err), s.close())
		}
		s.m[q] = stmt
	}
	return s, nil
}

func (s *statements) close() error {
	var err error
	for _, stmt := range s.m {
		err = errors.Join(err, stmt.Close())
	}
	return err
}

// prepared runs statements, in a transaction where there is one.
type prepared struct {
	*statements
	tx *sql.Tx
}

func (p prepared) get(ctx context.Context, query string) *sql.Stmt {
	stmt := p.m[query]
	if p.tx != nil {
		return p.tx.StmtContext(ctx, stmt)
	}
	return stmt
}

func (p prepared) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	return p.get(ctx, query).QueryContext(ctx, args...)
}

func (p prepared) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	return p.get(ctx, query).QueryRowContext(ctx, args...)
}

func (p prepared) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	return p.get(ctx, query).ExecContext(ctx, args...)
}
