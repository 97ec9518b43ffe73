package repo

import (
	"bytes"
	"context"
	"fmt"
	"sort"
	"time"
)

// Parts of a bulk change.
const (
	partRows   = 256
	partBytes  = 1 << 20
	forgetEach = 64 // keys
)

// bulkRequest is a change that has the writer for itself.
type bulkRequest struct {
	ctx  context.Context
	run  func(s Reader, part func(*Changes) error) error
	done chan error
}

// submitBulk runs f in the writer, in one transaction.
func (r *Repo) submitBulk(ctx context.Context, f func(Reader, func(*Changes) error) error) error {
	req := &bulkRequest{ctx: ctx, run: f, done: make(chan error, 1)}
	select {
	case r.bulk <- req:
		return <-req.done
	case <-ctx.Done():
		return ctx.Err()
	case <-r.stop:
		return ErrClosed
	}
}

func (r *Repo) writeBulk(req *bulkRequest) error {
	if err := req.ctx.Err(); err != nil {
		return err
	}
	if r.owed != nil { // it comes before the bulk's commit
		first := newRequest(req.ctx)
		first.look = func(Snapshot) error { return nil }
		if r.writeGroup(first); first.err != nil {
			return first.err
		}
	}
	var end Head
	err := r.store.Bulk(req.ctx, func(s Reader, part func(*Changes) error) (err error) {
		if end, err = s.Head(); err != nil {
			return fmt.Errorf("read the head: %w", err)
		}
		r.found(end)
		return req.run(s, func(c *Changes) error {
			if c.Head != nil {
				end = *c.Head
			}
			return part(c)
		})
	})
	if err == nil {
		r.last.Store(&end.CID)
	}
	return err
}

// bulk collects a change in key order and hands it to the store in parts.
type bulk struct {
	s    Reader
	part func(*Changes) error
	rev  TID
	now  time.Time
	next Changes
	size int

	ahead   bool       // the next part is made while one is written; settle before s is read
	writing chan error // of the part being written
}

func (b *bulk) flush() error {
	if b.size == 0 {
		return nil
	}
	if err := b.settle(); err != nil {
		return err
	}
	part := b.next
	b.next, b.size = Changes{}, 0
	if !b.ahead {
		return b.part(&part)
	}
	written := make(chan error, 1)
	b.writing = written
	go func() { written <- b.part(&part) }()
	return nil
}

// settle waits until what was handed over is written.
func (b *bulk) settle() error {
	if b.writing == nil {
		return nil
	}
	err := <-b.writing
	b.writing = nil
	return err
}

// finish hands over the rest, and the new head.
func (b *bulk) finish(end *Changes) error {
	if err := b.flush(); err != nil {
		return err
	}
	if err := b.settle(); err != nil {
		return err
	}
	return b.part(end)
}

func (b *bulk) grown(n int) error {
	b.size += n + partBytes/partRows
	if b.size < partBytes {
		return nil
	}
	return b.flush()
}

// record puts a record with its blobs.
func (b *bulk) record(rec carRecord, blobs []StoredBlob) error {
	b.next.PutRecords = append(b.next.PutRecords, StoredRecord{Path: rec.path, CID: rec.cid, Rev: b.rev, Value: bytes.Clone(rec.value)})
	size := len(rec.value)
	for _, blob := range blobs {
		b.next.PutBlobs = append(b.next.PutBlobs, blob)
		size += len(blob.Data)
	}
	for _, ref := range rec.named {
		b.next.AddRefs = append(b.next.AddRefs, BlobRef{Path: rec.path, CID: ref.cid, Rev: b.rev})
	}
	return b.grown(size)
}

func (b *bulk) node(n Node) error {
	b.next.PutNodes = append(b.next.PutNodes, n)
	return b.grown(len(n.Data))
}

func (b *bulk) nodes(d diff) error {
	if err := b.flush(); err != nil { // no place is dropped and put in one part
		return err
	}
	b.next.DropNodes, b.size = d.drop, len(d.drop)
	if err := b.flush(); err != nil {
		return err
	}
	for _, n := range d.put {
		if err := b.node(n); err != nil {
			return err
		}
	}
	return nil
}

// forget encodes and lets go all that lies left of a key, beyond which no later change of the tree will reach: keys
// come in order.
func (t *tree) forget(key string, rev TID) diff {
	revs := make(map[CID]TID, len(t.loaded))
	for _, d := range t.loaded {
		revs[d.cid] = d.rev
	}
	var out diff
	done := map[Place]bool{}
	for n := t.root; n != nil; {
		i := sort.SearchStrings(n.keys, key)
		left := i
		exact := i < len(n.keys) && n.keys[i] == key
		if exact {
			left++
		}
		for j := range left {
			if c := n.kids[j].n; c != nil {
				n.kids[j] = kid{cid: t.flushNode(c, rev, revs, done, &out)}
			}
		}
		if exact {
			break
		}
		n = n.kids[i].n
	}
	for at := range done {
		delete(t.loaded, at)
	}
	alive := map[Place]bool{}
	t.root.places(alive)
	for at := range t.loaded {
		if !alive[at] {
			out.drop = append(out.drop, at)
			delete(t.loaded, at)
		}
	}
	out.alive = nil
	return out
}

func (n *treeNode) places(into map[Place]bool) {
	into[n.Place] = true
	for _, k := range n.kids {
		if k.n != nil {
			k.n.places(into)
		}
	}
}

// bulkHead signs what the tree has become; its event is a #sync.
func (r *Repo) bulkHead(b *bulk, old Head, root CID, height int, records int64) (Commit, error) {
	c := commitBlock{did: r.did, rev: b.rev, data: root}
	if err := c.sign(r.signs.Load().key); err != nil {
		return Commit{}, fmt.Errorf("sign: %w", err)
	}
	h := Head{Rev: b.rev, Root: root, Height: height, Records: records, Block: c.encode(true), Seq: max(old.Seq+1, b.now.UnixMicro())}
	h.CID = RecordCID(h.Block)
	end := &Changes{Head: &h}
	if r.keepEvents > 0 {
		ev := change{did: r.did, commit: h.CID, block: h.Block, rev: b.rev, time: b.now}
		end.Events = []Event{{Seq: h.Seq, Rev: b.rev, Body: ev.syncFrame(h.Seq)}}
		end.KeepEvents = r.keepEvents
	}
	return Commit{CID: h.CID, Rev: b.rev.String(), Data: root, Prev: old.Root, Since: old.Rev.String(), Seq: h.Seq,
		Time: b.now}, b.finish(end)
}
