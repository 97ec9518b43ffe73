package sqlstore

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"iter"
	"strings"

	"github.com/atcr-dev/atcr/repo"
)

const (
	qHead = `select cid, rev, root, height, records, seq, block from repo_head where id = 1`
	qLock = qHead + ` for update`
	qNode = `select cid, rev, data from repo_node where fence = $1 and height = $2`
	qPath = `select n.fence, n.height, n.cid, n.rev, n.data from generate_series(0, $2::integer) h, lateral (
		select * from repo_node where height = h and fence <= $1 order by fence desc limit 1) n`
	qNodes   = `select fence, height, cid, rev, data from repo_node order by fence, height desc`
	qRecord  = `select cid, rev, value from repo_record where path = $1`
	qRecords = `select path, cid, rev, value from repo_record where path >= $1 and path < $2 order by path limit $3`
	qReverse = `select path, cid, rev, value from repo_record where path >= $1 and path < $2 order by path desc limit $3`
	qBlob    = `select media_type, size, created, data, (select count(*) from repo_blob_ref r where r.cid = b.cid)
		from repo_blob b where b.cid = $1`
	qHasBlob = `select 1 from repo_blob where cid = $1`
	qBlobs   = `select b.cid, b.media_type, b.size, b.created from repo_blob b
		where b.cid > $1 and exists (select 1 from repo_blob_ref r where r.cid = b.cid and r.rev > $2) order by b.cid limit $3`
	qHasEvent = `select 1 from repo_event where seq = $1 and rev = $2`
	qEvents   = `select seq, rev, body from repo_event where seq > $1 order by seq limit $2`

	// pathEnd is above every path: they are ASCII.
	pathEnd = "\x7f"
	noLimit = 1 << 62
)

var readQueries = []string{qHead, qNode, qNodes, qRecord, qRecords, qReverse, qBlob, qHasBlob, qBlobs, qEvents}

// reader is a repo.Reader: in a transaction, or each query by itself.
type reader struct {
	ctx     context.Context
	run     runner
	cursors *cursors   // of a transaction on PostgreSQL; else nil
	head    *repo.Head // as it was locked; nil: read it
}

func (r *reader) row(query string, args []any, into ...any) error {
	err := r.run.QueryRowContext(r.ctx, query, args...).Scan(into...)
	if errors.Is(err, sql.ErrNoRows) {
		return repo.ErrNotFound
	}
	return kind(err)
}

// rows iterates over a query; scan gets each row.
func rows[T any](r *reader, query string, args []any, scan func(*sql.Rows) (T, error)) iter.Seq2[T, error] {
	if r.cursors != nil {
		return paged(r, query, args, scan)
	}
	return func(yield func(T, error) bool) {
		var zero T
		rs, err := r.run.QueryContext(r.ctx, query, args...)
		if err != nil {
			yield(zero, kind(err))
			return
		}
		defer rs.Close()
		for rs.Next() {
			v, err := scan(rs)
			if err != nil {
				yield(zero, kind(err))
				return
			}
			if !yield(v, nil) {
				return
			}
		}
		if err := rs.Err(); err != nil {
			yield(zero, kind(err))
		}
	}
}

// bytes returns what was scanned, for as long as an iterator keeps it: rows of a page outlive their query.
func (r *reader) bytes(b sql.RawBytes) []byte {
	if r.cursors == nil {
		return b
	}
	r.cursors.size += len(b)
	return bytes.Clone(b)
}

// bound is a path as the database can hold it. Paths are ASCII without control characters, so whatever a caller asks for beyond
// that sorts among them as before.
func bound(path string) string {
	for i := range len(path) {
		if path[i] >= pathEnd[0] {
			path = path[:i] + pathEnd
			break
		}
	}
	return strings.ReplaceAll(path, "\x00", "\x01")
}

// cids turns stored hashes into CIDs.
func cids(err error, raw bool, hash []byte, into *repo.CID) error {
	if err != nil {
		return err
	}
	*into, err = repo.CIDFromHash(hash, raw)
	return err
}

func (r *reader) Head() (h repo.Head, err error) {
	if r.head != nil {
		return *r.head, nil
	}
	return r.readHead(qHead)
}

func (r *reader) readHead(query string) (h repo.Head, err error) {
	var cid, root []byte
	err = r.row(query, nil, &cid, &h.Rev, &root, &h.Height, &h.Records, &h.Seq, &h.Block)
	err = cids(err, false, cid, &h.CID)
	return h, cids(err, false, root, &h.Root)
}

func (r *reader) Node(at repo.Place) (repo.Node, error) {
	n := repo.Node{Place: at}
	var cid []byte
	err := r.row(qNode, []any{at.Fence, at.Height}, &cid, &n.Rev, &n.Data)
	return n, cids(err, false, cid, &n.CID)
}

func scanNode(rs *sql.Rows) (n repo.Node, err error) {
	var cid []byte
	err = rs.Scan(&n.Fence, &n.Height, &cid, &n.Rev, &n.Data)
	return n, cids(err, false, cid, &n.CID)
}

func (r *reader) Nodes() iter.Seq2[repo.Node, error] {
	return rows(r, qNodes, nil, func(rs *sql.Rows) (n repo.Node, err error) {
		var cid, data sql.RawBytes
		err = rs.Scan(&n.Fence, &n.Height, &cid, &n.Rev, &data)
		n.Data = r.bytes(data)
		return n, cids(err, false, cid, &n.CID)
	})
}

func (r *reader) Record(path string) (repo.StoredRecord, error) {
	s := repo.StoredRecord{Path: path}
	if bound(path) != path {
		return s, repo.ErrNotFound
	}
	var cid []byte
	err := r.row(qRecord, []any{path}, &cid, &s.Rev, &s.Value)
	return s, cids(err, false, cid, &s.CID)
}

func (r *reader) Records(from, to string, reverse bool, limit int) iter.Seq2[repo.StoredRecord, error] {
	query := qRecords
	if reverse {
		query = qReverse
	}
	if to == "" {
		to = pathEnd
	}
	return rows(r, query, []any{bound(from), bound(to), orAll(limit)}, func(rs *sql.Rows) (s repo.StoredRecord, err error) {
		var cid, value sql.RawBytes
		err = rs.Scan(&s.Path, &cid, &s.Rev, &value)
		s.Value = r.bytes(value)
		return s, cids(err, false, cid, &s.CID)
	})
}

func orAll(limit int) int {
	if limit <= 0 {
		return noLimit
	}
	return limit
}

func (r *reader) Blob(c repo.CID) (repo.StoredBlob, error) {
	b := repo.StoredBlob{CID: c}
	if !c.IsBlob() {
		return b, repo.ErrNotFound
	}
	err := r.row(qBlob, []any{c.Hash()}, &b.MediaType, &b.Size, &b.Created, &b.Data, &b.Refs)
	return b, err
}

func (r *reader) HasBlob(c repo.CID) (bool, error) {
	if !c.IsBlob() {
		return false, nil
	}
	var one int
	err := r.row(qHasBlob, []any{c.Hash()}, &one)
	if errors.Is(err, repo.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

func (r *reader) Blobs(after repo.CID, since repo.TID, limit int) iter.Seq2[repo.StoredBlob, error] {
	from := []byte{}
	if after.Defined() {
		from = after.Hash()
	}
	return rows(r, qBlobs, []any{from, since, orAll(limit)}, func(rs *sql.Rows) (b repo.StoredBlob, err error) {
		var cid []byte
		err = rs.Scan(&cid, &b.MediaType, &b.Size, &b.Created)
		return b, cids(err, true, cid, &b.CID)
	})
}

func (r *reader) Events(after int64, limit int) iter.Seq2[repo.Event, error] {
	return rows(r, qEvents, []any{after, orAll(limit)}, func(rs *sql.Rows) (e repo.Event, err error) {
		var body sql.RawBytes
		err = rs.Scan(&e.Seq, &e.Rev, &body)
		e.Body = r.bytes(body)
		return e, err
	})
}
