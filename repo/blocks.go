package repo

import (
	"context"
	"fmt"
	"io"
	"maps"
	"sync"
	"sync/atomic"
)

const (
	maxPassWaiters = 8      // callers of Blocks that wait for a pass
	maxPassMemory  = 10_000 // CIDs that passes looked for and are remembered
)

// Blocks writes a CAR of blocks by their CIDs: the commit, tree nodes and records of now. Where some are not there it writes nothing
// and returns them, or as many as it has found to be missing.
//
// There is no index by CID, since it would cost each commit: what recent commits and proofs have walked through is in memory, the
// rest is found by a pass over the repository. What was not there is remembered until the next commit, what was found by its place.
// There is one pass at a time, and 8 callers may wait for theirs; one more gets [ErrBusy].
func (r *Repo) Blocks(ctx context.Context, w io.Writer, ids []CID) (missing []CID, err error) {
	want := make(map[CID][]byte, len(ids))
	for _, id := range ids {
		want[id] = nil
	}
	if missing, err = r.findBlocks(ctx, want); err != nil {
		return nil, fmt.Errorf("blocks of %s: %w", r.did, err)
	}
	if len(missing) > 0 || len(ids) == 0 {
		return missing, nil
	}
	car := appendCARHeader(nil, ids[0])
	for _, id := range ids {
		if want[id] != nil {
			car = appendCARBlock(car, id, want[id])
			want[id] = nil // once
		}
	}
	_, err = w.Write(car)
	return nil, err
}

// passes are those over everything that Blocks makes.
type passes struct {
	place   chan struct{} // holds one: who makes a pass
	waiting atomic.Int32

	mu      sync.Mutex
	head    CID            // of the state in which those are missing
	missing map[CID]bool   // looked for, and not there
	paths   map[CID]string // of records that were found; checked before use
}

func newPasses() *passes { return &passes{place: make(chan struct{}, 1), paths: map[CID]string{}} }

// wait returns when it is the caller's turn; leave ends it. Errors: ErrBusy, the context's.
func (p *passes) wait(ctx context.Context) (leave func(), err error) {
	leave = func() { <-p.place }
	select {
	case p.place <- struct{}{}:
		return leave, nil
	default:
	}
	if p.waiting.Add(1) > maxPassWaiters {
		p.waiting.Add(-1)
		return nil, fmt.Errorf("%w: %d others wait for blocks to be looked for", ErrBusy, maxPassWaiters)
	}
	defer p.waiting.Add(-1)
	select {
	case p.place <- struct{}{}:
		return leave, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// known returns what earlier passes say of a CID in the state of head.
func (p *passes) known(head, id CID) (missing bool, path string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.head == head && p.missing[id], p.paths[id]
}

// learn remembers what a pass over the state of head found.
func (p *passes) learn(head CID, missing []CID, paths map[CID]string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.missing == nil || p.head != head || len(p.missing)+len(missing) > maxPassMemory {
		p.missing = map[CID]bool{}
	}
	if len(p.paths)+len(paths) > maxPassMemory {
		p.paths = map[CID]string{}
	}
	p.head = head
	for _, id := range missing {
		p.missing[id] = true
	}
	maps.Copy(p.paths, paths)
}

// findBlocks fills in what it finds, and returns what is not there; when some is known not to be, the rest is not looked for. Who
// waits for another's pass holds nothing of the store meanwhile.
func (r *Repo) findBlocks(ctx context.Context, want map[CID][]byte) (missing []CID, err error) {
	left, missing, err := r.blocksAtHand(r.store.Read(ctx), want)
	if err != nil || left == 0 || len(missing) > 0 {
		return missing, err
	}
	leave, err := r.passes.wait(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	err = r.store.View(ctx, func(s Reader) error {
		// Another's pass may have looked for the same.
		if left, missing, err = r.blocksAtHand(s, want); err != nil || left == 0 || len(missing) > 0 {
			return err
		}
		missing, err = r.scanBlocks(ctx, s, want, left)
		return err
	})
	return missing, err
}

// blocksAtHand fills in what needs no pass; left is how many need one.
func (r *Repo) blocksAtHand(s Reader, want map[CID][]byte) (left int, missing []CID, err error) {
	head, err := s.Head()
	if err != nil {
		return 0, nil, err
	}
	if _, ok := want[head.CID]; ok {
		want[head.CID] = head.Block
	}
	for id, block := range want {
		if block != nil {
			continue
		}
		if n := r.nodes.get(id); n != nil {
			want[id] = n.raw
			continue
		}
		none, path := r.passes.known(head.CID, id)
		if none || id.IsBlob() {
			missing = append(missing, id)
			continue
		}
		if path != "" {
			if rec, err := s.Record(path); err == nil && rec.CID == id {
				want[id] = rec.Value
				continue
			}
		}
		left++
	}
	return left, missing, nil
}

// scanBlocks is a pass over everything, until all is found.
func (r *Repo) scanBlocks(ctx context.Context, s Reader, want map[CID][]byte, left int) (missing []CID, err error) {
	head, err := s.Head()
	if err != nil {
		return nil, err
	}
	paths := map[CID]string{}
	defer func() {
		if err == nil {
			r.passes.learn(head.CID, missing, paths)
		}
	}()
	take := func(id CID, data []byte) bool {
		have, ok := want[id]
		if !ok || have != nil {
			return false
		}
		want[id] = append([]byte{}, data...)
		left--
		return true
	}
	for n, err := range s.Nodes() {
		if err != nil {
			return nil, err
		}
		if take(n.CID, n.Data) {
			if d, err := decodeNode(want[n.CID]); err == nil {
				d.cid, d.rev = n.CID, n.Rev
				r.nodes.put(d)
			}
		}
		if left == 0 {
			return nil, nil
		}
	}
	for rec, err := range s.Records("", "", false, 0) {
		if err != nil {
			return nil, err
		}
		if take(rec.CID, rec.Value) {
			paths[rec.CID] = rec.Path
		}
		if left == 0 {
			return nil, nil
		}
	}
	for id, block := range want {
		if block == nil {
			missing = append(missing, id)
		}
	}
	return missing, ctx.Err()
}
