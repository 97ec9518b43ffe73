package sqlstore

import (
	"cmp"
	"database/sql"
	"fmt"
	"slices"
	"strings"

	"github.com/atcr-dev/atcr/repo"
	"github.com/atcr-dev/atcr/sqldb"
)

const (
	qPutHead = `insert into repo_head (id, cid, rev, root, height, records, seq, block) values (1, $1, $2, $3, $4, $5, $6, $7)
		on conflict (id) do update set cid = excluded.cid, rev = excluded.rev, root = excluded.root, height = excluded.height,
			records = excluded.records, seq = excluded.seq, block = excluded.block`
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

// maxRows is how many rows go into one statement.
const maxRows = 16

var writeQueries = slices.Concat(readQueries,
	[]string{qPutHead, qDropRecord, qDropNode, qPutEvent, qKeepEvents, qPutBlob, qRefs, qDropRefs, qAddRef, qDropBlob, qPruneBlob},
	putQueries(qPutRecords), putQueries(qPutNodes))

func putQueries(query func(n int) string) []string {
	out := make([]string, maxRows)
	for i := range out {
		out[i] = query(i + 1)
	}
	return out
}

// qPutNodes writes n nodes: one statement for a whole path is much of a commit's speed.
func qPutNodes(n int) string {
	return "insert into repo_node (fence, height, cid, rev, data) values " + values(n, 5) +
		" on conflict (fence, height) do update set cid = excluded.cid, rev = excluded.rev, data = excluded.data"
}

func qPutRecords(n int) string {
	return "insert into repo_record (path, cid, rev, value) values " + values(n, 4) +
		" on conflict (path) do update set cid = excluded.cid, rev = excluded.rev, value = excluded.value"
}

// values are n rows of placeholders.
func values(n, columns int) string {
	var b strings.Builder
	for i := range n * columns {
		switch {
		case i == 0:
			b.WriteString("(")
		case i%columns == 0:
			b.WriteString("), (")
		default:
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "$%d", i+1)
	}
	return b.String() + ")"
}

// writer applies changes in a transaction. Its first error sticks.
type writer struct {
	*reader
	batch sqldb.Batch // on PostgreSQL: what is written goes there in one piece
	made  *repo.Head  // the newest that was written
	err   error
}

func (w *writer) exec(query string, args ...any) {
	switch {
	case w.err != nil:
	case w.batch != nil:
		w.err = w.batch.Queue(query, args...)
	default:
		_, w.err = w.run.ExecContext(w.ctx, query, args...)
	}
}

func (w *writer) apply(c *repo.Changes) error {
	for _, b := range c.PutBlobs {
		w.exec(qPutBlob, b.CID.Hash(), text(b.MediaType), b.Size, b.Created, b.Data)
	}
	w.records(c)
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
	if w.err == nil && w.batch != nil {
		w.err = w.batch.Run(w.ctx)
	}
	if w.err == nil && c.Head != nil {
		w.made = c.Head
		if w.batch != nil {
			w.head = c.Head
		}
	}
	return w.err
}

// text is a media type as the database can hold it.
func text(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\ufffd"), "\x00", "\ufffd")
}

func (w *writer) records(c *repo.Changes) {
	slices.SortFunc(c.PutRecords, func(a, b repo.StoredRecord) int { return strings.Compare(a.Path, b.Path) })
	for chunk := range slices.Chunk(c.PutRecords, maxRows) {
		args := make([]any, 0, 4*maxRows)
		for _, r := range chunk {
			args = append(args, r.Path, r.CID.Hash(), r.Rev, r.Value)
		}
		w.exec(qPutRecords(len(chunk)), args...)
	}
}

func (w *writer) nodes(c *repo.Changes) {
	slices.SortFunc(c.PutNodes, func(a, b repo.Node) int {
		return cmp.Or(strings.Compare(a.Fence, b.Fence), cmp.Compare(b.Height, a.Height))
	})
	for chunk := range slices.Chunk(c.PutNodes, maxRows) {
		args := make([]any, 0, 5*maxRows)
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
		for cid, err := range rows(w.reader, qRefs, []any{p}, scanHash) {
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
