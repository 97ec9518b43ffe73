package repo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
)

// Importer says how CARs are imported; the zero value is right for what is trusted least.
type Importer struct {
	// DryRun changes nothing; the answer says what would change.
	DryRun bool
	// Keys is how many of the records that change are listed in the answer; 0 is 1000.
	Keys int
	// AnyKey takes a CAR whose Source has no Key without looking at its signature, as Source.AnyKey does for one. Otherwise such
	// a CAR must be of the repository's own DID and key.
	AnyKey bool
	// KeyOf, when not nil, returns the signing key of another account, for CARs whose Source has none. A nil key means
	// that it can't be known: the CAR is taken without looking at its signature.
	KeyOf func(ctx context.Context, did string) (atcrypto.PublicKey, error)
	// Blob, when not nil, is asked for blobs that records name and that are neither stored nor in a CAR. Its error
	// of kind ErrNotFound means that it has none.
	Blob func(CID) ([]byte, error)
	// Progress is called now and then with how many records were gone through, and how many the CARs have; it must be quick.
	Progress func(done, total int64)
}

// Imported says what an import did, or would do.
type Imported struct {
	Commit    Commit // zero when nothing changed, and in a dry run
	Created   int64
	Updated   int64
	Unchanged int64
	Keys      []ImportedKey // of what changed, in order; at most Importer.Keys
	Sources   []CARInfo
}

// ImportedKey is a record that an import creates or updates.
type ImportedKey struct {
	Action Action
	Path   string // collection/rkey
}

// ImportCAR puts the records of CARs into a repository: all in one signed commit, all or nothing. Every record there is created
// or updated, records that are not in the CARs stay, collections need not be known. Where CARs hold the same key the
// last one wins. CARs may be of any account and in any block order; each is verified whole before anything is
// written, as [VerifyCAR] does with Strict, and read a second time. The event is a #commit within 200 changes and 2 000 000 bytes, else
// a #sync. Applies wait while an import writes. Memory does not grow with the CARs, but for the index of those that are not
// in streaming order.
//
// A Source without Key must be of this DID and signed by this repository's key; see [Importer] for more.
//
// Errors: [ErrInvalidCAR], [ErrBlobMissing], and those of Apply. After each of them nothing has changed.
func ImportCAR(ctx context.Context, r *Repo, srcs ...Source) (Imported, error) {
	return Importer{}.Import(ctx, r, srcs...)
}

// Import is [ImportCAR] with options.
func (o Importer) Import(ctx context.Context, r *Repo, srcs ...Source) (_ Imported, err error) {
	im := &importing{Importer: o, r: r}
	if im.Keys == 0 {
		im.Keys = 1000
	}
	defer func() {
		for _, c := range im.cars {
			err = errors.Join(err, c.Close())
		}
	}()
	for i, src := range srcs {
		src.Strict, src.AnyCase = true, false
		c, err := openCAR(ctx, src)
		if err != nil {
			return Imported{}, fmt.Errorf("import into %s: %w", r.did, err)
		}
		im.cars = append(im.cars, c)
		im.total += c.Info.Records
		if err := im.trust(ctx, c); err != nil {
			return Imported{}, fmt.Errorf("import into %s: CAR %d: %w", r.did, i+1, err)
		}
		im.out.Sources = append(im.out.Sources, c.Info)
	}
	if o.DryRun {
		err = r.store.View(ctx, func(s Reader) error { return im.plan(ctx, s) })
	} else {
		err = r.submitBulk(ctx, func(s Reader, part func(*Changes) error) error { return im.run(ctx, s, part) })
	}
	if err != nil {
		return Imported{}, fmt.Errorf("import into %s: %w", r.did, err)
	}
	return im.out, nil
}

type importing struct {
	Importer
	r     *Repo
	cars  []*CAR
	total int64
	out   Imported

	small []prepared // what changes, as long as it fits a #commit
	bytes int
	seen  int64
}

// trust looks at the signature of a CAR for which no key was given.
func (im *importing) trust(ctx context.Context, c *CAR) error {
	if c.src.Key != nil || c.src.AnyKey || im.AnyKey {
		return nil
	}
	key, whose := im.r.PublicKey(), "the repository's"
	bad := func(err error) error { return &CARError{Name: c.src.Name, Offset: c.src.Offset + c.Info.at, Err: err} }
	if c.Info.DID != im.r.did {
		if im.KeyOf == nil {
			return bad(fmt.Errorf("it is the repository of %s, whose signing key was not given (Source.Key)", c.Info.DID))
		}
		var err error
		if key, err = im.KeyOf(ctx, c.Info.DID); err != nil {
			return fmt.Errorf("signing key of %s: %w", c.Info.DID, err)
		}
		if key == nil {
			return nil
		}
		whose = "that account's"
	}
	b, err := decodeCommit(c.Info.block)
	if err == nil {
		err = b.verify(key)
	}
	if err != nil {
		return bad(fmt.Errorf("the commit's signature is not of %s key: %w", whose, err))
	}
	c.Info.SignatureChecked = true
	return nil
}

// run is the transaction.
func (im *importing) run(ctx context.Context, s Reader, part func(*Changes) error) error {
	head, err := s.Head()
	if err != nil {
		return fmt.Errorf("read the head: %w", err)
	}
	im.out = Imported{Sources: im.out.Sources}
	if head.Records == 0 && im.total > maxEventOps {
		return im.build(ctx, s, part, head)
	}
	if err := im.plan(ctx, s); err != nil {
		return err
	}
	switch n := im.out.Created + im.out.Updated; {
	case n == 0:
		return nil
	case n == int64(len(im.small)):
		return im.asGroup(ctx, s, part)
	case head.Records <= mergeMost*im.total:
		return im.merge(ctx, s, part, head)
	}
	return im.grow(ctx, s, part, head)
}

// plan goes through the records and holds them against what is stored; small changes are kept. It ends at the first that makes
// them many, except in a dry run.
func (im *importing) plan(ctx context.Context, s Reader) error {
	stored := im.stored(s)
	for rec, err := range im.records(ctx) {
		if err != nil {
			return err
		}
		old, err := stored.find(rec.path)
		if err != nil {
			return err
		}
		if im.count(rec, old) == "" {
			continue
		}
		if _, err := im.blobsOf(s, rec); err != nil { // a dry run tells of those that are missing, too
			return err
		}
		n := im.out.Created + im.out.Updated
		if im.bytes += len(rec.value); n > maxEventOps || im.bytes > maxEventBlocks {
			im.small = nil
			if im.DryRun {
				continue
			}
			return nil
		}
		p := prepared{Write: Write{Action: Put, Record: bytes.Clone(rec.value)}, path: rec.path, cid: rec.cid, named: rec.named}
		p.Collection, p.RKey = splitPath(rec.path)
		im.small = append(im.small, p)
	}
	return nil
}

func (im *importing) stored(s Reader) *storedKeys {
	return &storedKeys{s: s, before: func() error { return nil }, limit: 1}
}

// count notes what a record is beside what is stored; an empty action says that it is stored as it is.
func (im *importing) count(rec carRecord, old *storedKey) (action Action) {
	switch {
	case old == nil:
		action = Create
		im.out.Created++
	case old.cid == rec.cid:
		im.out.Unchanged++
	default:
		action = Update
		im.out.Updated++
	}
	im.note(action, rec.path)
	return action
}

func (im *importing) note(action Action, path string) {
	if im.seen++; im.Progress != nil && im.seen%1024 == 0 {
		im.Progress(im.seen, im.total)
	}
	if action != "" && len(im.out.Keys) < im.Keys {
		im.out.Keys = append(im.out.Keys, ImportedKey{action, path})
	}
}

// asGroup writes a small import like an Apply.
func (im *importing) asGroup(ctx context.Context, s Reader, part func(*Changes) error) error {
	g, err := im.r.newGroup(s)
	if err != nil {
		return err
	}
	for _, w := range im.small { // one record's blobs at a time: together they may be large
		blobs, err := im.blobsOf(s, carRecord{path: w.path, named: w.named})
		if err == nil && len(blobs) > 0 {
			err = part(&Changes{PutBlobs: blobs})
		}
		if err != nil {
			return err
		}
	}
	req := newRequest(ctx)
	req.writes = im.small
	if err := g.take(req); err != nil || req.err != nil {
		return errors.Join(err, req.err)
	}
	im.out.Commit = req.commit
	return part(g.changes())
}

func (im *importing) newBulk(s Reader, part func(*Changes) error, head Head) *bulk {
	now := im.r.clock()
	return &bulk{s: s, part: part, now: now, rev: nextTID(now, head.Rev)}
}

// build fills an empty repository.
func (im *importing) build(ctx context.Context, s Reader, part func(*Changes) error, head Head) (err error) {
	b := im.newBulk(s, part, head)
	b.ahead = true
	defer func() { err = errors.Join(err, b.settle()) }()
	if err := part(&Changes{DropNodes: []Place{{Height: head.Height}}}); err != nil {
		return err
	}
	tree := &builder{rev: b.rev, emit: b.node}
	for rec, err := range im.records(ctx) {
		if err != nil {
			return err
		}
		im.out.Created++
		im.note(Create, rec.path)
		var blobs []StoredBlob
		if len(rec.named) > 0 {
			if err := b.settle(); err != nil {
				return err
			}
			if blobs, err = im.blobsOf(s, rec); err != nil {
				return err
			}
		}
		err := b.record(rec, blobs)
		if err == nil {
			err = tree.add(rec.path, rec.cid)
		}
		if err != nil {
			return err
		}
	}
	root, height, err := tree.finish()
	if err != nil {
		return err
	}
	im.out.Commit, err = im.r.bulkHead(b, head, root, height, tree.n)
	return err
}

// grow works many records into a repository that has some.
func (im *importing) grow(ctx context.Context, s Reader, part func(*Changes) error, head Head) error {
	im.out, im.seen = Imported{Sources: im.out.Sources}, 0 // counted again
	b := im.newBulk(s, part, head)
	t, err := openTree(head.Root, head.Height, func(at Place, id CID) (*nodeData, error) { return im.r.loadNode(s, at, id) })
	if err != nil {
		return err
	}
	changed, stored := 0, im.stored(s)
	for rec, err := range im.records(ctx) {
		if err != nil {
			return err
		}
		old, err := stored.find(rec.path)
		if err != nil {
			return err
		}
		action := im.count(rec, old)
		if action == "" {
			continue
		}
		if action == Update && old.blobs {
			b.next.DropRefs = append(b.next.DropRefs, rec.path)
		}
		blobs, err := im.blobsOf(s, rec)
		if err == nil {
			err = b.record(rec, blobs)
		}
		if err == nil {
			err = t.put(rec.path, rec.cid)
		}
		if changed++; err == nil && changed%forgetEach == 0 {
			err = b.nodes(t.forget(rec.path, b.rev))
		}
		if err != nil {
			return err
		}
	}
	d := t.flush(b.rev)
	if err := b.nodes(d); err != nil {
		return err
	}
	im.out.Commit, err = im.r.bulkHead(b, head, d.root, d.height, head.Records+im.out.Created)
	return err
}

// blobsOf returns the blobs a record names that are to be stored with it.
func (im *importing) blobsOf(s Reader, rec carRecord) ([]StoredBlob, error) {
	var out []StoredBlob
	for _, ref := range rec.named {
		if ok, err := s.HasBlob(ref.cid); err != nil {
			return nil, err
		} else if ok {
			continue
		}
		blob, err := im.findBlob(ref.cid)
		if errors.Is(err, ErrNotFound) {
			err = fmt.Errorf("%w: %s names %s, which is neither stored nor in the CAR", ErrBlobMissing, rec.path, ref.cid)
		}
		if err == nil {
			err = im.r.checkBlob(blob)
		}
		if err != nil {
			return nil, err
		}
		blob.MediaType = ref.mediaType
		out = append(out, im.r.storedBlob(ref.cid, blob))
	}
	return out, nil
}

func (im *importing) findBlob(id CID) (Blob, error) {
	for _, c := range im.cars {
		if b, err := c.readBlob(id); !errors.Is(err, ErrNotFound) {
			return b, err
		}
	}
	if im.Blob == nil {
		return Blob{}, ErrNotFound
	}
	data, err := im.Blob(id)
	if err == nil && BlobCID(data) != id {
		err = fmt.Errorf("%w: what was given as blob %s is %s", ErrInvalidCAR, id, BlobCID(data))
	}
	return Blob{Data: data}, err
}

// records merges the sources in order of path; of equal paths the last source's counts.
func (im *importing) records(ctx context.Context) iter.Seq2[carRecord, error] {
	if len(im.cars) == 1 {
		return im.cars[0].walkRecords(ctx)
	}
	return func(yield func(carRecord, error) bool) {
		type cursor struct {
			rec  carRecord
			next func() (carRecord, error, bool)
		}
		var open []*cursor
		advance := func(c *cursor) (more bool, err error) {
			c.rec, err, more = c.next()
			return more, err
		}
		for _, car := range im.cars {
			next, stop := iter.Pull2(car.walkRecords(ctx))
			defer stop()
			c := &cursor{next: next}
			more, err := advance(c)
			if err != nil {
				yield(carRecord{}, err)
				return
			}
			if more {
				open = append(open, c)
			}
		}
		for len(open) > 0 {
			best := open[0]
			for _, c := range open[1:] {
				if c.rec.path <= best.rec.path {
					best = c
				}
			}
			path := best.rec.path
			if !yield(best.rec, nil) {
				return
			}
			var still []*cursor
			for _, c := range open {
				more, err := true, error(nil)
				if c.rec.path == path {
					if more, err = advance(c); err != nil {
						yield(carRecord{}, err)
						return
					}
				}
				if more {
					still = append(still, c)
				}
			}
			open = still
		}
	}
}
