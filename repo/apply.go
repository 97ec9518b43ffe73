package repo

import (
	"context"
	"errors"
	"fmt"
)

const (
	maxGroup   = 64  // Applies in one transaction
	pruneEvery = 256 // commits
)

// write is the writer: it takes what waits, and all that comes while it works on it, into one transaction.
func (r *Repo) write() {
	defer close(r.done)
	for {
		select {
		case req := <-r.queue:
			r.writeGroup(req)
			r.wake()
		case req := <-r.bulk:
			req.done <- r.writeBulk(req)
			r.wake()
		case <-r.stop:
			for {
				select {
				case req := <-r.queue:
					r.writeGroup(req)
				default:
					return
				}
			}
		}
	}
}

// writeGroup runs one transaction and then tells everyone in it.
func (r *Repo) writeGroup(first *request) {
	var in []*request // to be answered with the transaction's outcome
	var end CID
	var owed *identityEvent
	err := r.store.Update(context.Background(), func(s Reader) (*Changes, error) {
		g, err := r.newGroup(s)
		for req := first; req != nil; req = r.nextRequest(len(in)) {
			if !req.state.CompareAndSwap(waiting, taken) {
				continue
			}
			in = append(in, req)
			if err == nil {
				err = g.take(req)
			}
		}
		if err != nil {
			return nil, err
		}
		end, owed = g.head.CID, g.owed
		return g.changes(), nil
	})
	switch {
	case err == nil:
		r.last.Store(&end)
		r.owed = owed
	case errors.Is(err, ErrUnsettled):
		r.log.Error("a repository transaction ended without an answer; it may have been kept", "did", r.did, "applies", len(in),
			"error", err)
	default:
		r.log.Error("a repository transaction failed; nothing of it was kept", "did", r.did, "applies", len(in), "error", err)
	}
	if len(in) == 0 && first.state.CompareAndSwap(waiting, taken) { // Update failed before it looked
		in = append(in, first)
	}
	for _, req := range in {
		r.adopt(req, err != nil)
		if err != nil && req.err == nil {
			req.err = err
		}
		close(req.done)
	}
}

func (r *Repo) nextRequest(have int) *request {
	if have >= maxGroup {
		return nil
	}
	select {
	case req := <-r.queue:
		return req
	default:
		return nil
	}
}

// create makes the first commit, of an empty tree, unless another process was faster, and returns the head.
func (r *Repo) create(ctx context.Context) (head Head, err error) {
	err = r.store.Update(ctx, func(s Reader) (*Changes, error) {
		var err error
		if head, err = s.Head(); !errors.Is(err, ErrNotFound) {
			return nil, err
		}
		g := &group{r: r, s: s, rows: newOverlay(), signs: r.signs.Load()}
		if err := g.commit(newRequest(ctx), emptyTree(), nil, newOverlay()); err != nil {
			return nil, err
		}
		head = g.head
		return g.changes(), nil
	})
	return head, err
}

// group is one transaction: the requests in it see each other's outcome through rows, and the store gets the sum.
type group struct {
	r     *Repo
	s     Reader
	head  Head
	rows  *overlay
	signs *signer
	owed  *identityEvent
	prune bool
}

func (r *Repo) newGroup(s Reader) (*group, error) {
	g := &group{r: r, s: s, rows: newOverlay(), signs: r.signs.Load(), owed: r.owed}
	var err error
	if g.head, err = s.Head(); err != nil {
		return nil, fmt.Errorf("read the head: %w", err)
	}
	r.found(g.head)
	return g, nil
}

// take works one request into the group. What the request did wrong becomes its own error; an error that is answered
// ends the group.
func (g *group) take(req *request) error {
	if err := req.ctx.Err(); err != nil {
		req.err = err
		return nil
	}
	if g.owed != nil && req.identity == nil {
		g.announce(g.owed)
	}
	mine := newOverlay()
	for _, b := range req.blobs {
		mine.blobs[b.CID] = b
	}
	if req.blobsOnly {
		g.rows.add(mine)
		return nil
	}
	if req.look != nil {
		req.err = req.look(g)
		return nil
	}
	if req.identity != nil {
		g.announce(req.identity)
		if req.identity.alone {
			return nil
		}
	}
	if req.rekey != nil {
		g.signs = req.rekey
	}
	for _, guard := range req.guards {
		if err := guard(g); err != nil {
			req.err = err
			return nil
		}
	}
	results, fail, err := g.check(req, mine)
	if fail != nil || err != nil {
		req.err = fail
		return err
	}
	t, err := openTree(g.head.Root, g.head.Height, g.loadNode)
	if err != nil {
		return err
	}
	for _, w := range req.writes {
		if err := g.warm(w.path); err != nil {
			return err
		}
		if w.Action == Delete {
			var found bool
			if found, err = t.remove(w.path); err == nil && !found {
				err = fmt.Errorf("%w: the record %s is not in the tree", ErrCorrupt, w.path)
			}
		} else {
			err = t.put(w.path, w.cid)
		}
		if err != nil {
			return err
		}
	}
	return g.commit(req, t, results, mine)
}

// check decides whether each write may be done, and notes the rows it changes. fail is the request's own fault.
func (g *group) check(req *request, mine *overlay) (results []Result, fail, err error) {
	results = make([]Result, len(req.writes))
	for i, w := range req.writes {
		old, err := g.record(w.path)
		exists := err == nil
		if err != nil && !errors.Is(err, ErrNotFound) {
			return nil, nil, err
		}
		res := Result{Action: w.Action, Collection: w.Collection, RKey: w.RKey, CID: w.cid, Prev: old.CID}
		switch {
		case w.Swap.Defined() && w.Swap != old.CID:
			return nil, invalidSwap("record "+w.path, old.CID, w.Swap), nil
		case w.Action == Create && exists:
			return nil, fmt.Errorf("create %s: %w", w.path, ErrExists), nil
		case (w.Action == Update || w.Action == Delete) && !exists:
			return nil, fmt.Errorf("%s %s: %w", w.Action, w.path, ErrNotFound), nil
		case w.Action == Put && exists:
			res.Action = Update
		case w.Action == Put:
			res.Action = Create
		}
		results[i] = res
		if exists && hasBlobs(old.Value) {
			mine.dropRefs[w.path] = true
		}
		if w.Action == Delete {
			mine.records[w.path] = nil
			continue
		}
		mine.records[w.path] = &StoredRecord{Path: w.path, CID: w.cid, Value: w.Record}
		for _, b := range w.named {
			if ok, err := g.hasBlob(mine, b.cid); err != nil {
				return nil, nil, err
			} else if !ok {
				return nil, fmt.Errorf("%w: %s names %s, which was not uploaded", ErrBlobMissing, w.path, b.cid), nil
			}
			mine.addRefs[w.path] = append(mine.addRefs[w.path], BlobRef{Path: w.path, CID: b.cid})
		}
	}
	return results, nil, nil
}

func hasBlobs(value []byte) bool {
	named, err := checkRecord(value)
	return err != nil || len(named) > 0
}

// commit signs what the tree has become and adds it, with its event, to the group.
func (g *group) commit(req *request, t *tree, results []Result, mine *overlay) error {
	now := g.r.clock()
	rev := nextTID(now, g.head.Rev)
	d := t.flush(rev)
	c := commitBlock{did: g.r.did, rev: rev, data: d.root}
	if err := c.sign(g.signs.key); err != nil {
		return fmt.Errorf("sign: %w", err)
	}
	head := Head{Rev: rev, Root: d.root, Height: d.height, Records: g.head.Records, Block: c.encode(true),
		Seq: max(g.head.Seq+1, now.UnixMicro())}
	head.CID = RecordCID(head.Block)
	for _, res := range results {
		switch res.Action {
		case Create:
			head.Records++
		case Delete:
			head.Records--
		}
	}
	for _, rec := range mine.records {
		if rec != nil {
			rec.Rev = rev
		}
	}
	for path, refs := range mine.addRefs {
		for i := range refs {
			mine.addRefs[path][i].Rev = rev
		}
	}
	for _, n := range d.put {
		mine.nodes[n.Place] = &n
	}
	for _, at := range d.drop {
		mine.nodes[at] = nil
	}
	for _, n := range d.alive {
		g.r.nodes.put(n)
	}
	if g.r.keepEvents > 0 {
		ev := change{did: g.r.did, commit: head.CID, block: head.Block, rev: rev, since: g.head.Rev, prev: g.head.Root, time: now,
			nodes: d.alive}
		for i, w := range req.writes {
			if results[i].CID == results[i].Prev {
				continue // it wrote what was there, which is no operation: it can't be undone
			}
			ev.results = append(ev.results, results[i])
			if w.Action != Delete {
				ev.records, ev.created = append(ev.records, w.Record), append(ev.created, w.cid)
			}
		}
		mine.events = []Event{{Seq: head.Seq, Rev: rev, Body: ev.frame(head.Seq)}}
	}
	req.commit = Commit{CID: head.CID, Rev: rev.String(), Data: d.root, Prev: g.head.Root, Since: g.head.Rev.String(),
		Seq: head.Seq, Time: now, Results: results}
	g.head = head
	g.rows.add(mine)
	g.rows.head = &head
	if g.r.commits++; g.r.commits%pruneEvery == 1 {
		g.prune = true
	}
	return nil
}

func (g *group) changes() *Changes {
	if g.rows.head == nil && len(g.rows.blobs) == 0 {
		return nil
	}
	c := g.rows.changes()
	if g.prune {
		c.KeepEvents = max(1, g.r.keepEvents)
		c.PruneBlobs = g.r.clock().Add(-keepUnnamed).Unix()
	}
	return c
}

// Head, Foreign and Get make the group a Snapshot for guards.
func (g *group) Head() Commit { return commitOf(g.head) }

func (g *group) Foreign() uint64 { return g.r.foreign.Load() }

func (g *group) Get(collection, rkey string) (Record, error) {
	rec, err := g.record(collection + "/" + rkey)
	if err != nil {
		return Record{}, err
	}
	return rec.record(), nil
}

func (g *group) record(path string) (StoredRecord, error) {
	if rec, ok := g.rows.records[path]; ok {
		if rec == nil {
			return StoredRecord{}, ErrNotFound
		}
		return *rec, nil
	}
	return g.s.Record(path)
}

func (g *group) hasBlob(mine *overlay, c CID) (bool, error) {
	if _, ok := mine.blobs[c]; ok {
		return true, nil
	}
	if _, ok := g.rows.blobs[c]; ok {
		return true, nil
	}
	return g.s.HasBlob(c)
}

func (g *group) loadNode(at Place, id CID) (*nodeData, error) {
	if n := g.r.nodes.get(id); n != nil {
		return n, nil
	}
	return g.r.loadNode(overlaid{g.s, g.rows}, at, id)
}

func invalidSwap(what string, is, want CID) error {
	if !is.Defined() {
		return fmt.Errorf("%w: the %s is not there", ErrInvalidSwap, what)
	}
	return fmt.Errorf("%w: the %s is %s, not %s", ErrInvalidSwap, what, is, want)
}
