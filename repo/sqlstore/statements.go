package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// statements are queries prepared for a pool, all at once: inside a transaction the pool may have no other connection
// to prepare on. On the writing pool, which has one connection, each is compiled once.
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

// get answers a prepared query, for tx where there is one.
func (s *statements) get(ctx context.Context, tx *sql.Tx, query string) *sql.Stmt {
	stmt := s.m[query]
	if tx != nil {
		return tx.StmtContext(ctx, stmt)
	}
	return stmt
}

func (s *statements) close() error {
	var err error
	for _, stmt := range s.m {
		err = errors.Join(err, stmt.Close())
	}
	return err
}
