package repo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
)

const (
	// mergeMost is how many times as many records as an import brings may be stored for the tree to be built anew, which at four
	// times as many takes half the time; in a larger repository each record finds its way down the tree.
	mergeMost = 8
	mergePage = 1024
)

// merge works many records into a repository that has some but not many more: both are in order, and the tree is built anew
// from all of them. The tree that is stored is built beside it, which tells without reading it which nodes change.
func (im *importing) merge(ctx context.Context, s Reader, part func(*Changes) error, head Head) (err error) {
	im.out, im.seen = Imported{Sources: im.out.Sources}, 0 // counted again
	b := im.newBulk(s, part, head)
	b.ahead = true
	defer func() { err = errors.Join(err, b.settle()) }()
	t := newTwoTrees(b)
	stored := &storedKeys{s: s, before: b.settle, limit: mergePage}
	var rest storedKey // what is stored from here on
	more, err := stored.next(&rest)
	for rec, rerr := range im.records(ctx) {
		if err = errors.Join(err, rerr); err != nil {
			return err
		}
		for more && rest.path < rec.path && err == nil {
			if err = t.add(rest.path, rest.cid, &rest); err == nil {
				more, err = stored.next(&rest)
			}
		}
		var old *storedKey
		if more && rest.path == rec.path {
			old = &rest
		}
		if err == nil {
			err = im.mergeRecord(b, rec, old)
		}
		if err == nil {
			err = t.add(rec.path, rec.cid, old)
		}
		if err == nil && old != nil {
			more, err = stored.next(&rest)
		}
	}
	for more && err == nil {
		if err = t.add(rest.path, rest.cid, &rest); err == nil {
			more, err = stored.next(&rest)
		}
	}
	if err != nil {
		return err
	}
	root, height, err := t.finish(head)
	if err != nil {
		return err
	}
	im.out.Commit, err = im.r.bulkHead(b, head, root, height, t.made.n)
	return err
}

// mergeRecord writes a record unless it is stored as it is.
func (im *importing) mergeRecord(b *bulk, rec carRecord, old *storedKey) error {
	action := im.count(rec, old)
	if action == "" {
		return nil
	}
	if action == Update && old.blobs {
		b.next.DropRefs = append(b.next.DropRefs, rec.path)
	}
	var blobs []StoredBlob
	if len(rec.named) > 0 {
		err := b.settle()
		if err == nil {
			blobs, err = im.blobsOf(b.s, rec)
		}
		if err != nil {
			return err
		}
	}
	return b.record(rec, blobs)
}

// twoTrees builds the tree that is stored and the one that comes of it by adding keys, side by side, and writes what is in the
// second alone. Keys are never taken away: a node of the second tree comes no later than the stored one at its place.
type twoTrees struct {
	b       *bulk
	was     builder
	made    builder
	waiting []Node // by height: at the place of the stored node that is open there, to be compared with it; Data is nil for none
}

func newTwoTrees(b *bulk) *twoTrees {
	t := &twoTrees{b: b}
	t.was.emit, t.made.rev, t.made.emit = t.compare, b.rev, t.take
	return t
}

// add takes the next key of the new tree, and what was stored under it.
func (t *twoTrees) add(path string, val CID, old *storedKey) error {
	if err := t.made.add(path, val); err != nil || old == nil {
		return err
	}
	if err := t.was.add(path, old.cid); err != nil {
		return err
	}
	return t.write(keyHeight(path)) // their places are behind the stored tree
}

// take gets a node of the new tree.
func (t *twoTrees) take(n Node) error {
	fence := ""
	if n.Height < len(t.was.open) {
		fence = t.was.open[n.Height].fence
	}
	for len(t.waiting) <= n.Height {
		t.waiting = append(t.waiting, Node{})
	}
	if n.Fence != fence || t.waiting[n.Height].Data != nil {
		return t.b.node(n)
	}
	t.waiting[n.Height] = n
	return nil
}

// compare gets a node of the stored tree.
func (t *twoTrees) compare(was Node) error {
	if was.Height < len(t.waiting) && t.waiting[was.Height].Data != nil {
		now := t.waiting[was.Height]
		t.waiting[was.Height] = Node{}
		if now.CID == was.CID {
			return nil
		}
		return t.b.node(now)
	}
	t.b.next.DropNodes = append(t.b.next.DropNodes, was.Place)
	return t.b.grown(len(was.Fence))
}

// write writes the nodes below a height that wait for nothing any more.
func (t *twoTrees) write(below int) error {
	for h := range min(below, len(t.waiting)) {
		if n := t.waiting[h]; n.Data != nil {
			t.waiting[h] = Node{}
			if err := t.b.node(n); err != nil {
				return err
			}
		}
	}
	return nil
}

// finish returns the root of the new tree. What was stored must have made the tree that the head names.
func (t *twoTrees) finish(head Head) (root CID, height int, err error) {
	if root, height, err = t.made.finish(); err != nil {
		return CID{}, 0, err
	}
	was, h, err := t.was.finish()
	if err == nil && (was != head.Root || h != head.Height) {
		err = fmt.Errorf("%w: the stored records make the tree %s, the commit says %s", ErrCorrupt, was, head.Root)
	}
	if err == nil {
		err = t.write(len(t.waiting))
	}
	return root, height, err
}

// storedKey is what is stored of a record, without its value.
type storedKey struct {
	path  string
	cid   CID
	blobs bool // it may name blobs
}

// rawLink begins each link to a blob in canonical DAG-CBOR: tag 42, 37 bytes, CID version 1 of codec raw.
var rawLink = []byte("\xd8\x2a\x58\x25\x00\x01\x55")

// storedKeys reads ahead: a question for each record is much of an import.
type storedKeys struct {
	s      Reader
	before func() error // called before s is read
	limit  int          // of the next page

	page  []storedKey
	i     int
	asked int
	from  string
	ended bool // nothing is stored beyond the page
}

func (k *storedKeys) read() error {
	if err := k.before(); err != nil {
		return err
	}
	k.page, k.i = k.page[:0], 0
	for rec, err := range k.s.Records(k.from, "", false, k.limit) {
		if err != nil {
			return err
		}
		k.page = append(k.page, storedKey{path: rec.Path, cid: rec.CID, blobs: bytes.Contains(rec.Value, rawLink)})
	}
	if k.ended = len(k.page) < k.limit; !k.ended {
		k.from = k.page[len(k.page)-1].path + "\x00"
	}
	return nil
}

// next returns all that is stored, in order.
func (k *storedKeys) next(into *storedKey) (more bool, err error) {
	if k.i == len(k.page) && !k.ended {
		if err := k.read(); err != nil {
			return false, fmt.Errorf("read the stored records: %w", err)
		}
	}
	if k.i == len(k.page) {
		return false, nil
	}
	*into = k.page[k.i]
	k.i++
	return true, nil
}

// find returns what is stored under a path, nil for nothing. Paths are asked in order. A page that has many of them
// is followed by a larger one.
func (k *storedKeys) find(path string) (*storedKey, error) {
	if k.asked == 0 || !k.ended && k.page[len(k.page)-1].path < path {
		if 8*k.asked >= k.limit { // a row costs much less than a question
			k.limit = min(2*k.limit, mergePage)
		} else {
			k.limit = max(k.limit/2, 1)
		}
		k.from, k.asked = path, 0
		if err := k.read(); err != nil {
			return nil, fmt.Errorf("read the stored records: %w", err)
		}
	}
	k.asked++
	for k.i < len(k.page) && k.page[k.i].path < path {
		k.i++
	}
	if k.i < len(k.page) && k.page[k.i].path == path {
		return &k.page[k.i], nil
	}
	return nil, nil
}
