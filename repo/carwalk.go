package repo

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
)

// errOutOfOrder: the CAR is not in streaming order; an index is needed.
var errOutOfOrder = errors.New("not in streaming order")

// carBlocks gives blocks in the order in which the walk asks for them. from is where the wanted one is named.
type carBlocks interface {
	block(want CID, from int64) (carBlock, error)
}

// streamed takes blocks as they come.
type streamed struct{ *carReader }

func (s streamed) block(want CID, _ int64) (carBlock, error) {
	b, err := s.next()
	if errors.Is(err, io.EOF) || err == nil && b.cid != want {
		return b, errOutOfOrder
	}
	return b, err
}

// carRecord is a record as the walk meets it; value is good until the walk goes on.
type carRecord struct {
	path  string
	cid   CID
	value []byte
	named []blobRef
}

// carWalk checks a repository from its commit down: what a CAR says is believed only where hashes lead.
type carWalk struct {
	did     string                // wanted; empty takes any
	key     atcrypto.PublicKey    // nil: the signature is not checked
	strict  bool                  // records that are not canonical are errors
	record  func(carRecord) error // may be nil
	anyCase bool                  // collections whose domain is not in lower case are taken
	plain   bool                  // the records were checked before, under the same root, and name no blobs
	most    int64                 // bytes of records; 0 is any number, for blocks that come from a stream

	info  CARInfo
	named map[CID]blobRef // blobs that records name; only noted when record is nil
	coll  string          // known to be an NSID
}

// step is what must come next: a node, or the record at key.
type step struct {
	cid    CID
	from   int64
	key    string // of a record; empty for a node
	height int
	lo, hi string
}

func (w *carWalk) walk(ctx context.Context, root CID, src carBlocks) error {
	b, err := src.block(root, 0)
	if err != nil {
		return err
	}
	c, err := decodeCommit(b.data)
	if err == nil {
		err = w.checkCommit(c)
	}
	if err != nil {
		return carErrorf(b.at, "%w", err)
	}
	if w.record == nil {
		w.named = map[CID]blobRef{}
	}
	w.info = CARInfo{DID: c.did, Rev: c.rev.String(), Commit: root, Data: c.data, Blocks: 1, at: b.at,
		block: append([]byte(nil), b.data...)}
	stack := []step{{cid: c.data, from: b.at, height: -1}}
	for len(stack) > 0 {
		s := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if s.cid.IsBlob() {
			return carErrorf(s.from, "%s is not of codec dag-cbor", s.cid)
		}
		if w.info.Blocks%1024 == 0 {
			if err := ctx.Err(); err != nil {
				return err
			}
		}
		if b, err = src.block(s.cid, s.from); err != nil {
			return err
		}
		w.info.Blocks++
		if s.key == "" {
			stack, err = w.walkNode(stack, s, b)
		} else {
			err = w.walkRecord(s, b)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (w *carWalk) checkCommit(c commitBlock) error {
	if w.did != "" && c.did != w.did {
		return fmt.Errorf("the commit is of %s, not of %s", clip(c.did), w.did)
	}
	if w.key == nil {
		return nil
	}
	if err := c.verify(w.key); err != nil {
		return fmt.Errorf("the commit's signature is not of the key %s: %w", w.key.DIDKey(), err)
	}
	return nil
}

func (w *carWalk) walkNode(stack []step, s step, b carBlock) ([]step, error) {
	n, err := decodeNode(b.data)
	if err != nil {
		return nil, carErrorf(b.at, "node: %w", err)
	}
	n.cid = s.cid
	h, err := n.checkAt(s.height, s.lo, s.hi)
	if err != nil {
		return nil, carErrorf(b.at, "%w", err)
	}
	if s.height < 0 {
		w.info.height = h
	}
	w.info.Nodes++
	for _, key := range n.keys {
		coll, rkey := splitPath(key)
		if coll == w.coll && plainKey(rkey) {
			continue
		}
		switch err := checkPath(coll, rkey); {
		case errors.Is(err, errNotNormalized) && w.anyCase:
		case errors.Is(err, errNotNormalized):
			return nil, carErrorf(b.at, "node: record %s: %w: its owner deletes the record (com.atproto.repo.deleteRecord)", clip(key), err)
		case err != nil:
			return nil, carErrorf(b.at, "node: %w", err)
		}
		w.coll = coll
	}
	for i := len(n.kids) - 1; i >= 0; i-- {
		if n.kids[i].Defined() {
			k := step{cid: n.kids[i], from: b.at, height: h - 1, lo: s.lo, hi: s.hi}
			if i > 0 {
				k.lo = n.keys[i-1]
			}
			if i < len(n.keys) {
				k.hi = n.keys[i]
			}
			stack = append(stack, k)
		}
		if i > 0 {
			stack = append(stack, step{cid: n.vals[i-1], from: b.at, key: n.keys[i-1]})
		}
	}
	return stack, nil
}

// plainKey tells quickly of most record keys that they are valid.
func plainKey(rkey string) bool {
	for i := range len(rkey) {
		c := rkey[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && (c < 'A' || c > 'Z') && c != '_' && c != '-' {
			return false
		}
	}
	return rkey != "" && len(rkey) <= 512
}

// What is walked of records in a CAR that has an index: a block may be linked any number of times, and is read and hashed for each.
const (
	maxSameRecords     = 64 // times the CAR's bytes
	maxSameRecordBytes = 64 << 20
)

func (w *carWalk) walkRecord(s step, b carBlock) error {
	if w.most > 0 && w.info.RecordBytes+int64(len(b.data)) > w.most {
		return carErrorf(b.at, "record %s: %w: records are linked again and again: over %d bytes of them", s.key, ErrTooLarge, w.most)
	}
	var named []blobRef
	if !w.plain {
		var err error
		if named, err = checkRecord(b.data); err != nil {
			if named, err = w.odd(s, b, err); err != nil {
				return carErrorf(b.at, "record %s: %w", s.key, err)
			}
		}
	}
	w.info.Records++
	w.info.RecordBytes += int64(len(b.data))
	if w.record == nil {
		for _, ref := range named {
			w.named[ref.cid] = ref
		}
		return nil
	}
	return w.record(carRecord{path: s.key, cid: s.cid, value: b.data, named: named})
}

// odd notes a record that is only not canonical, unless the walk is strict. why is what checkRecord found.
func (w *carWalk) odd(s step, b carBlock, why error) ([]blobRef, error) {
	if w.strict || errors.Is(why, ErrTooLarge) {
		return nil, why
	}
	named, odd, err := checkLax(b.data)
	if err != nil {
		return nil, err
	}
	if w.info.NotCanonical++; w.info.NotCanonical == 1 {
		w.info.FirstNotCanonical = carErrorf(b.at, "record %s: %w", s.key, odd)
	}
	return named, nil
}
