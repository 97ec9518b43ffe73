package sqlstore

import (
	"context"
	"database/sql"
	"fmt"
	"iter"
	"slices"

	"github.com/atcr-dev/atcr/repo"
)

// cursors are open at the same time in one transaction. A connection of PostgreSQL runs one query at a time, so what iterates
// there takes pages from a cursor and holds no query between them; SQLite needs none of it.
type cursors struct {
	open int
	size int // bytes of the page that is being fetched
}

// Rows of a page: few at first, then about as many as make pageBytes.
const (
	firstRows = 16
	mostRows  = 128
	pageBytes = 1 << 20
)

func paged[T any](r *reader, query string, args []any, scan func(*sql.Rows) (T, error)) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var zero T
		// One name for each query: the driver remembers what columns come back from a fetch.
		name := fmt.Sprintf("c%d_%d", slices.Index(writeQueries, query), r.cursors.open)
		if _, err := r.run.ExecContext(r.ctx, "declare "+name+" no scroll cursor for "+query, args...); err != nil {
			yield(zero, kind(err))
			return
		}
		r.cursors.open++
		defer func() {
			r.cursors.open--
			// When this fails the transaction has failed, and the cursor with it.
			r.run.ExecContext(context.WithoutCancel(r.ctx), "close "+name) //nolint:errcheck // see above
		}()
		for want := firstRows; ; {
			r.cursors.size = 1
			page, err := fetch(r, name, want, scan)
			size := r.cursors.size
			for _, v := range page {
				if !yield(v, nil) {
					return
				}
			}
			if err != nil {
				yield(zero, kind(err))
				return
			}
			if len(page) < want {
				return
			}
			want = max(1, min(4*want, mostRows, want*pageBytes/size))
		}
	}
}

func fetch[T any](r *reader, cursor string, n int, scan func(*sql.Rows) (T, error)) (page []T, err error) {
	rs, err := r.run.QueryContext(r.ctx, fmt.Sprintf("fetch forward %d from %s", n, cursor))
	if err != nil {
		return nil, err
	}
	defer rs.Close()
	for rs.Next() {
		v, err := scan(rs)
		if err != nil {
			return page, err
		}
		page = append(page, v)
	}
	return page, rs.Err()
}

// Path implements [repo.Reader]. SQLite is in this process and needs none of it.
func (r *reader) Path(key string, top int) (path []repo.Node, err error) {
	if r.cursors == nil {
		return nil, nil
	}
	rs, err := r.run.QueryContext(r.ctx, qPath, key, top)
	if err != nil {
		return nil, kind(err)
	}
	defer rs.Close()
	for rs.Next() {
		n, err := scanNode(rs)
		if err != nil {
			return nil, kind(err)
		}
		path = append(path, n)
	}
	return path, kind(rs.Err())
}
