package repo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sort"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
)

// MaxProofSize limits the proofs that [VerifyProof] takes, in bytes.
const MaxProofSize = 8 << 20

// Prove writes a CAR that shows to anyone that the current commit holds this record with this value, or that it
// doesn't hold it: commit, nodes on the path, record. A record that isn't there is no error.
func (r *Repo) Prove(ctx context.Context, w io.Writer, collection, rkey string) error {
	var car []byte
	err := r.store.View(ctx, func(s Reader) error {
		head, err := s.Head()
		if err != nil {
			return err
		}
		car = appendCARBlock(appendCARHeader(nil, head.CID), head.CID, head.Block)
		path := collection + "/" + rkey
		nodes, found, err := r.walk(s, head, path)
		if err != nil {
			return err
		}
		for _, n := range nodes {
			car = appendCARBlock(car, n.cid, n.raw)
		}
		if !found.Defined() {
			return nil
		}
		rec, err := s.Record(path)
		if err != nil {
			return err
		}
		if rec.CID != found {
			return fmt.Errorf("%w: record %s is %s, the tree says %s", ErrCorrupt, path, rec.CID, found)
		}
		car = appendCARBlock(car, rec.CID, rec.Value)
		return nil
	})
	if err != nil {
		return fmt.Errorf("prove %s/%s of %s: %w", collection, rkey, r.did, err)
	}
	_, err = w.Write(car)
	return err
}

// walk returns the nodes from the root to where the path is, and what the tree says is there. For a path that isn't there they
// go on to the bottom, below the height at which it would be: readers that don't reckon with heights look there.
func (r *Repo) walk(s Reader, head Head, path string) (nodes []*nodeData, found CID, err error) {
	at, id := Place{Height: head.Height}, head.Root
	for {
		n, err := r.loadNode(s, at, id)
		if err != nil {
			return nil, CID{}, err
		}
		nodes = append(nodes, n)
		i := sort.SearchStrings(n.keys, path)
		if i < len(n.keys) && n.keys[i] == path {
			return nodes, n.vals[i], nil
		}
		if !n.kids[i].Defined() {
			return nodes, CID{}, nil
		}
		if i > 0 {
			at.Fence = n.keys[i-1]
		}
		at.Height--
		id = n.kids[i]
	}
}

// loadNode reads a node from cache or store and makes sure that it is the one its parent names.
func (r *Repo) loadNode(s Reader, at Place, id CID) (*nodeData, error) {
	if n := r.nodes.get(id); n != nil {
		return n, nil
	}
	row, err := s.Node(at)
	if err != nil {
		return nil, fmt.Errorf("%w: node %s at %q, height %d: %w", ErrCorrupt, id, at.Fence, at.Height, err)
	}
	if RecordCID(row.Data) != id {
		return nil, fmt.Errorf("%w: node at %q, height %d is not %s", ErrCorrupt, at.Fence, at.Height, id)
	}
	n, err := decodeNode(row.Data)
	if err != nil {
		return nil, fmt.Errorf("%w: node %s: %w", ErrCorrupt, id, err)
	}
	n.cid, n.rev = id, row.Rev
	r.nodes.put(n)
	return n, nil
}

// VerifyProof checks a CAR as [Repo.Prove] and com.atproto.sync.getRecord make it: hashes, commit of this DID signed by
// this key, the path of nodes with their heights and order, and the record. It needs no store and trusts nothing in car.
// Blocks that the path does not name are ignored, if only their hashes are right.
//
// A proof that the record is not in the repository is [ErrNotFound]; anything wrong is [ErrInvalidProof], and so is a nil key. A record
// that is proved and is not canonical DAG-CBOR comes with an error of kind [ErrInvalidRecord], and not of ErrInvalidProof.
func VerifyProof(car []byte, did string, key atcrypto.PublicKey, collection, rkey string) (Record, error) {
	rec := Record{Collection: collection, RKey: rkey}
	path := rec.Path()
	bad := func(err error) (Record, error) {
		return Record{}, fmt.Errorf("%w of %s in %s: %w", ErrInvalidProof, clip(path), clip(did), err)
	}
	if key == nil {
		return bad(fmt.Errorf("%w: the key is missing, by which the signature is checked", ErrInvalidOptions))
	}
	if err := checkPath(collection, rkey); err != nil {
		return bad(err)
	}
	if len(car) > MaxProofSize {
		return bad(fmt.Errorf("%w: %d bytes", ErrTooLarge, len(car)))
	}
	root, blocks, err := readCAR(car)
	if err != nil {
		return bad(err)
	}
	block, ok := blocks[root]
	if !ok {
		return bad(fmt.Errorf("the commit %s is missing", root))
	}
	c, err := decodeCommit(block)
	if err != nil {
		return bad(err)
	}
	if c.did != did {
		return bad(fmt.Errorf("the commit is of %s", clip(c.did)))
	}
	if err := c.verify(key); err != nil {
		return bad(err)
	}
	if rec.CID, err = walkProof(blocks, c.data, path); err != nil {
		return bad(err)
	}
	if !rec.CID.Defined() {
		return Record{}, fmt.Errorf("%s/%s: proved to be absent: %w", did, path, ErrNotFound)
	}
	if rec.Value, ok = blocks[rec.CID]; !ok {
		return bad(fmt.Errorf("the record %s is missing", rec.CID))
	}
	if _, err = checkRecord(rec.Value); err == nil {
		return rec, nil
	}
	if errors.Is(err, ErrTooLarge) {
		return bad(err)
	}
	_, odd, err := checkLax(rec.Value)
	if err != nil {
		return bad(err)
	}
	return rec, fmt.Errorf("%s/%s: %w", did, path, odd)
}

// walkProof goes down to a path in foreign nodes; the zero CID says that they prove it absent.
func walkProof(blocks map[CID][]byte, id CID, path string) (CID, error) {
	height, lo, hi := -1, "", ""
	want := keyHeight(path)
	for {
		block, ok := blocks[id]
		if !ok {
			return CID{}, fmt.Errorf("the node %s is missing", id)
		}
		n, err := decodeNode(block)
		if err != nil {
			return CID{}, fmt.Errorf("node %s: %w", id, err)
		}
		n.cid = id
		if height, err = n.checkAt(height, lo, hi); err != nil {
			return CID{}, err
		}
		i := sort.SearchStrings(n.keys, path)
		if i < len(n.keys) && n.keys[i] == path {
			return n.vals[i], nil
		}
		if height <= want || !n.kids[i].Defined() {
			return CID{}, nil
		}
		if i > 0 {
			lo = n.keys[i-1]
		}
		if i < len(n.keys) {
			hi = n.keys[i]
		}
		id = n.kids[i]
		height--
	}
}
