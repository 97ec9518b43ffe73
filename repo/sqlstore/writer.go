package sqlstore

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"

	"github.com/atcr-dev/atcr/repo"
)

const (
	qPutHead = `insert into repo_head (id, cid, rev, root, height, records, seq, block) values (1, $1, $2, $3, $4, $5, $6, $7)
		on conflict (id) do update set cid = excluded.cid, rev = excluded.rev, root = excluded.root, height = excluded.height,
			records = excluded.records, seq = excluded.seq, block = excluded.block`
	qPutRecord = `insert into repo_record (path, cid, rev, value) values ($1, $2, $3, $4)
		on conflict (path) do update set cid = excluded.cid, rev = excluded.rev, value = excluded.value`
	qDropRecord = `delete from repo_record where path = $1`
	qDropNode   = `delete from repo_node where fence = $1 and height = $2`
	qPutEvent   = `insert into repo_event (seq, rev, body) values ($1, $2, $3)`
	qKeepEvents = `delete from repo_event where seq <= (select seq from repo_event order by seq desc limit 1 offset $1)`
	qPutBlob    = `insert into repo_blob (cid, media_type, size, created, data) values ($1, $2, $3, $4, $5)
		on conflict (cid) do update set created = excluded.created`
	qRefs      = `select cid from repo_blob_ref where path = $1`
	qDropRefs  = `delete from repo_blob_ref where path = $1`
	qAddRef    = `insert into repo_blob_ref (path, cid, rev) values ($1, $2, $3) on conflict (path, cid) do nothing`
	qDropBlob  = `delete from repo_blob where cid = $1 and not exists (select 1 from repo_blob_ref r where r.cid = repo_blob.cid)`
	qPruneBlob = `delete from repo_blob where created < $1 and not exists (select 1 from repo_blob_ref r where r.cid = repo_blob.cid)`
)

// maxNodeRows is how many nodes go into one statement.
const maxNodeRows = 16

var writeQueries = slices.Concat(readQueries,
	[]string{qPutHead, qPutRecord, qDropRecord, qDropNode, qPutEvent, qKeepEvents, qPutBlob, qRefs, qDropRefs, qAddRef, qDropBlob, qPruneBlob},
	putNodeQueries())

func putNodeQueries() []string {
	out := make([]string, maxNodeRows)
	for i := range out {
		out[i] = qPutNodes(i + 1)
	}
	return out
}

// qPutNodes writes n nodes: one statement for a whole path is much of a commit's speed.
func qPutNodes(n int) string {
	var b strings.Builder
	b.WriteString("insert into repo_node (fence, height, cid, rev, data) values ")
	for i := range n {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "($%d, $%d, $%d, $%d, $%d)", 5*i+1, 5*i+2, 5*i+3, 5*i+4, 5*i+5)
	}
	b.WriteString(" on conflict (fence, height) do update set cid = excluded.cid, rev = excluded.rev, data = excluded.data")
	return b.String()
}

// writer applies changes in a transaction. Its first error sticks.
type writer struct {
	ctx context.Context
	st  *statements
	tx  *sql.Tx
	err error
}

func (w *writer) exec(query string, args ...any) {
	if w.err == nil {
		_, w.err = w.st.get(w.ctx, w.tx, query).ExecContext(w.ctx, args...)
	}
}

func (w *writer) apply(c *repo.Changes) error {
	for _, b := range c.PutBlobs {
		w.exec(qPutBlob, b.CID.Hash(), b.MediaType, b.Size, b.Created, b.Data)
	}
	for _, r := range c.PutRecords {
		w.exec(qPutRecord, r.Path, r.CID.Hash(), r.Rev, r.Value)
	}
	for _, p := range c.DropRecords {
		w.exec(qDropRecord, p)
	}
	w.refs(c)
	if c.PruneBlobs != 0 {
		w.exec(qPruneBlob, c.PruneBlobs)
	}
	w.nodes(c)
	for _, e := range c.Events {
		w.exec(qPutEvent, e.Seq, e.Rev, e.Body)
	}
	if c.KeepEvents > 0 {
		w.exec(qKeepEvents, c.KeepEvents)
	}
	if h := c.Head; h != nil {
		w.exec(qPutHead, h.CID.Hash(), h.Rev, h.Root.Hash(), h.Height, h.Records, h.Seq, h.Block)
	}
	return w.err
}

func (w *writer) nodes(c *repo.Changes) {
	slices.SortFunc(c.PutNodes, func(a, b repo.Node) int {
		return cmp.Or(strings.Compare(a.Fence, b.Fence), cmp.Compare(b.Height, a.Height))
	})
	for chunk := range slices.Chunk(c.PutNodes, maxNodeRows) {
		args := make([]any, 0, 5*maxNodeRows)
		for _, n := range chunk {
			args = append(args, n.Fence, n.Height, n.CID.Hash(), n.Rev, n.Data)
		}
		w.exec(qPutNodes(len(chunk)), args...)
	}
	for _, at := range c.DropNodes {
		w.exec(qDropNode, at.Fence, at.Height)
	}
}

func (w *writer) refs(c *repo.Changes) {
	var lost [][]byte
	for _, p := range c.DropRefs {
		if w.err != nil {
			return
		}
		r := reader{ctx: w.ctx, st: w.st, tx: w.tx}
		for cid, err := range rows(&r, qRefs, []any{p}, scanHash) {
			if err != nil {
				w.err = err
				return
			}
			lost = append(lost, cid)
		}
		w.exec(qDropRefs, p)
	}
	for _, r := range c.AddRefs {
		w.exec(qAddRef, r.Path, r.CID.Hash(), r.Rev)
	}
	for _, cid := range lost {
		w.exec(qDropBlob, cid)
	}
}

func scanHash(rs *sql.Rows) (hash []byte, err error) {
	err = rs.Scan(&hash)
	return hash, err
}
