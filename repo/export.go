package repo

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
)

// ExportOptions tune an export; nil works.
type ExportOptions struct {
	// Since, a revision, leaves out what was there at that time already: nodes and records, not the commit. One from
	// long ago, or of another repository, costs a full export and is no error.
	Since string
	// Blobs puts the blobs that records name after the tree. Only [ImportCAR], [VerifyCAR] and [MirrorCAR] know of them.
	Blobs bool
	// Progress is told now and then how many records and bytes were written; it must be quick.
	Progress func(records, bytes int64)
}

// ExportCAR writes a repository as a CAR v1 in the specification's streaming order: commit, then nodes and records in order
// of path, so that a reader can verify as it reads. It sees one state, writes go on meanwhile, and memory does not grow with the
// repository. A slow w holds a read transaction open.
//
// Errors: those of w and of the store; [ErrCorrupt]; a Since that is no revision. After an error what w got is no whole CAR.
func ExportCAR(ctx context.Context, r *Repo, w io.Writer, o *ExportOptions) error {
	if o == nil {
		o = &ExportOptions{}
	}
	var since TID
	if o.Since != "" {
		var err error
		if since, err = ParseTID(o.Since); err != nil {
			return fmt.Errorf("export repository %s: since: %w", r.did, err)
		}
	}
	e := &exporter{ctx: ctx, out: bufio.NewWriterSize(w, 256<<10), progress: o.Progress, since: since}
	err := r.store.View(ctx, func(s Reader) error {
		head, err := s.Head()
		if err != nil {
			return err
		}
		if err := e.start(head); err != nil {
			return err
		}
		if since == 0 {
			err = e.all(s)
		} else {
			err = e.newer(s, Place{Height: head.Height}, head.Root)
		}
		if err == nil && o.Blobs {
			err = e.blobs(s)
		}
		return err
	})
	if err == nil {
		err = e.out.Flush()
	}
	if err != nil {
		return fmt.Errorf("export repository %s: %w", r.did, spaceKind(err))
	}
	if e.progress != nil {
		e.progress(e.records, e.bytes)
	}
	return nil
}

type exporter struct {
	ctx      context.Context
	out      *bufio.Writer
	buf      []byte
	since    TID
	records  int64
	bytes    int64
	progress func(records, bytes int64)
}

func (e *exporter) start(head Head) error {
	b := appendCARHeader(nil, head.CID)
	e.bytes += int64(len(b))
	if _, err := e.out.Write(b); err != nil {
		return err
	}
	return e.block(head.CID, head.Block)
}

func (e *exporter) block(c CID, data []byte) error {
	e.buf = c.append(binary.AppendUvarint(e.buf[:0], uint64(cidLen+len(data))))
	if _, err := e.out.Write(e.buf); err != nil {
		return err
	}
	_, err := e.out.Write(data)
	e.bytes += int64(len(e.buf) + len(data))
	return err
}

func (e *exporter) record(c CID, data []byte) error {
	if e.records++; e.records%1024 == 0 {
		if err := e.ctx.Err(); err != nil {
			return err
		}
		if e.progress != nil {
			e.progress(e.records, e.bytes)
		}
	}
	return e.block(c, data)
}

// all merges two ordered scans: every node comes right after the record that is its fence.
func (e *exporter) all(s Reader) error {
	next, stop := iter.Pull2(s.Nodes())
	defer stop()
	node, err, more := next()
	nodesAt := func(fence string) error {
		for more && err == nil && node.Fence == fence {
			if err := e.block(node.CID, node.Data); err != nil {
				return err
			}
			node, err, more = next()
		}
		return err
	}
	if err := nodesAt(""); err != nil {
		return err
	}
	for rec, err := range s.Records("", "", false, 0) {
		if err != nil {
			return err
		}
		if err := e.record(rec.CID, rec.Value); err != nil {
			return err
		}
		if err := nodesAt(rec.Path); err != nil {
			return err
		}
	}
	if more {
		return fmt.Errorf("%w: node at %q has no record before it", ErrCorrupt, node.Fence)
	}
	return nil
}

// newer goes down where nodes are newer than since: a subtree whose node is not holds nothing that is.
func (e *exporter) newer(s Reader, at Place, id CID) error {
	row, err := s.Node(at)
	if err != nil {
		return fmt.Errorf("%w: node %s at %q, height %d: %w", ErrCorrupt, id, at.Fence, at.Height, err)
	}
	if row.CID != id {
		return fmt.Errorf("%w: node at %q, height %d is not %s", ErrCorrupt, at.Fence, at.Height, id)
	}
	if row.Rev <= e.since {
		return nil
	}
	n, err := decodeNode(row.Data)
	if err != nil {
		return fmt.Errorf("%w: node %s: %w", ErrCorrupt, id, err)
	}
	if err := e.block(row.CID, row.Data); err != nil {
		return err
	}
	for i, kid := range n.kids {
		fence := at.Fence
		if i > 0 {
			fence = n.keys[i-1]
			rec, err := s.Record(fence)
			if err != nil {
				return fmt.Errorf("%w: record %s: %w", ErrCorrupt, fence, err)
			}
			if rec.Rev > e.since {
				if err := e.record(rec.CID, rec.Value); err != nil {
					return err
				}
			}
		}
		if kid.Defined() {
			if err := e.newer(s, Place{fence, at.Height - 1}, kid); err != nil {
				return err
			}
		}
	}
	return nil
}

func (e *exporter) blobs(s Reader) error {
	for after := (CID{}); ; {
		var page []CID
		for b, err := range s.Blobs(after, e.since, maxPage) {
			if err != nil {
				return err
			}
			page = append(page, b.CID)
		}
		for _, id := range page {
			b, err := s.Blob(id)
			if errors.Is(err, ErrNotFound) {
				continue
			}
			if err != nil {
				return err
			}
			if err := e.block(id, slices.Clip(b.Data)); err != nil {
				return err
			}
			after = id
		}
		if len(page) < maxPage {
			return nil
		}
	}
}
