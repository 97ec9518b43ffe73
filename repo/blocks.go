package repo

import (
	"context"
	"fmt"
	"io"
)

// Blocks writes a CAR of blocks by their CIDs: the commit, tree nodes and records of now, as far as they are at hand, and
// answers those that are not. There is no index by CID, since it would cost each commit: what recent commits and proofs
// have walked through is in memory, the rest is found by
// a pass over the repository, of which there is one at a time.
func (r *Repo) Blocks(ctx context.Context, w io.Writer, ids []CID) (missing []CID, err error) {
	want := make(map[CID][]byte, len(ids))
	for _, id := range ids {
		want[id] = nil
	}
	if err := r.findBlocks(ctx, want); err != nil {
		return nil, fmt.Errorf("blocks of %s: %w", r.did, err)
	}
	for id, block := range want {
		if block == nil {
			missing = append(missing, id)
		}
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

// findBlocks fills in what it finds. Who waits for another's pass holds nothing of the store meanwhile.
func (r *Repo) findBlocks(ctx context.Context, want map[CID][]byte) error {
	head, err := r.store.Read(ctx).Head()
	if err != nil {
		return err
	}
	if _, ok := want[head.CID]; ok {
		want[head.CID] = head.Block
	}
	left := 0
	for id, block := range want {
		if block != nil {
			continue
		}
		if n := r.nodes.get(id); n != nil {
			want[id] = n.raw
		} else if !id.IsBlob() {
			left++
		}
	}
	if left == 0 {
		return nil
	}
	select {
	case r.scan <- struct{}{}:
		defer func() { <-r.scan }()
	case <-ctx.Done():
		return ctx.Err()
	}
	return r.store.View(ctx, func(s Reader) error { return scanBlocks(ctx, s, want, left) })
}

func scanBlocks(ctx context.Context, s Reader, want map[CID][]byte, left int) error {
	take := func(id CID, data []byte) bool {
		if have, ok := want[id]; ok && have == nil {
			want[id] = append([]byte(nil), data...)
			left--
		}
		return left == 0
	}
	for n, err := range s.Nodes() {
		if err != nil || take(n.CID, n.Data) {
			return err
		}
	}
	for rec, err := range s.Records("", "", false, 0) {
		if err != nil || take(rec.CID, rec.Value) {
			return err
		}
	}
	return ctx.Err()
}
