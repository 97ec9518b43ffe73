package repo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
)

// Source is a CAR from somewhere: a file, a body, standard input.
type Source struct {
	// Reader gives the CAR; it is required. One that is an io.ReaderAt and io.Seeker (a file) is read where it lies, from its present
	// position; anything else is copied, beyond 4 MiB to a temporary file that is removed in the end.
	Reader io.Reader
	// Name stands in errors.
	Name string
	// Offset is added to the offsets in errors, for a Reader that is a part of what Name names: see repo/carv2.
	Offset int64
	// DID, when not empty, is whose repository it must be.
	DID string
	// Key must have signed the commit. It is required, unless AnyKey is set or an [Importer] knows the key.
	Key atcrypto.PublicKey
	// AnyKey takes a CAR without Key: everything but the signature is checked, so anybody may have made it. A Key is checked all
	// the same.
	AnyKey bool
	// Strict refuses records that are not canonical DAG-CBOR, as every import does; see CARInfo.NotCanonical.
	Strict bool
	// AnyCase takes records of collections whose domain is not in lower case (IO.atcr.tag), which repositories of earlier versions may
	// have. Every import refuses them all the same.
	AnyCase bool
	// TempDir is for the temporary file; empty is the system's.
	TempDir string
}

// CARInfo says what a CAR holds.
type CARInfo struct {
	DID         string
	Rev         string
	Commit      CID
	Data        CID   // root of the tree
	Records     int64 // keys; records with the same value count each
	RecordBytes int64
	Nodes       int64
	Blocks      int64 // read: commit, nodes, records; what the tree does not name is not counted
	Blobs       int64 // that travel with the records
	Streaming   bool  // the specification's order, which can be verified in one pass

	// What was checked beside the form: that the commit is of the DID that Source.DID names, and that the key that was given has
	// signed it. False: nothing was given to check it by.
	DIDChecked, SignatureChecked bool

	// NotCanonical is how many records are CBOR, but not canonical DAG-CBOR: some servers let accounts write floats or keys out of order.
	// FirstNotCanonical is a [CARError] about the first of them. Their hashes are right, and the tree and signature hold; they can't be
	// imported.
	NotCanonical      int64
	FirstNotCanonical error

	block  []byte // the commit
	at     int64  // of the commit
	height int
}

// VerifyCAR checks a whole repository from anywhere: every block's hash, the commit's DID and signature, each node's form,
// place, order and height, each record's CBOR, and that nothing is missing. Records that are not canonical are reported, see
// CARInfo.NotCanonical. As the specification has it (https://atproto.com/specs/repository, "CAR File Serialization"), the first root is
// the commit and others may follow, blocks may stand twice, and blocks that the tree does not name are ignored at any place, if only their
// hashes are right. A CAR in streaming order, with or without such blocks behind it, is read once with little memory; any other order
// takes an index of 16 bytes a block.
//
// The signature can be checked only by a key: a Source without Key is refused unless it says AnyKey, and the answer's
// SignatureChecked is then false.
//
// Errors: [CARError], of kind [ErrInvalidCAR]: the first one met, with its offset; [ErrInvalidOptions] for a Source without Reader or
// Key; errors of reading as they are.
func VerifyCAR(ctx context.Context, src Source) (CARInfo, error) {
	c, err := OpenCAR(ctx, src)
	if err != nil {
		return CARInfo{}, err
	}
	return c.Info, c.Close()
}

// CAR is a repository in a CAR that was verified as [VerifyCAR] does. It is not safe for concurrent use.
type CAR struct {
	Info CARInfo

	src   Source
	file  *spool
	root  CID
	index *carIndex // nil: in streaming order
	blobs map[CID]carPlace
	named map[CID]blobRef
}

// OpenCAR verifies a CAR and keeps it readable until Close. Errors are those of [VerifyCAR].
func OpenCAR(ctx context.Context, src Source) (*CAR, error) {
	if src.Key == nil && !src.AnyKey && src.Reader != nil {
		return nil, fmt.Errorf("%w: Source.Key is missing, by which the signature is checked; set Source.AnyKey to do without",
			ErrInvalidOptions)
	}
	return openCAR(ctx, src)
}

// openCAR is OpenCAR for those who look at the signature themselves when no key was given.
func openCAR(ctx context.Context, src Source) (*CAR, error) {
	if src.Reader == nil {
		return nil, fmt.Errorf("%w: Source.Reader is missing", ErrInvalidOptions)
	}
	file, first := newSpool(src.Reader, src.TempDir)
	c := &CAR{src: src, file: file, blobs: map[CID]carPlace{}}
	err := c.verify(ctx, first)
	if err == nil {
		return c, nil
	}
	if e := (*CARError)(nil); errors.As(err, &e) {
		// One of the Reader's own came wrapped by a text that has no name yet.
		err = &CARError{Name: src.Name, Offset: src.Offset + e.Offset, Err: e.Err}
	} else {
		err = fmt.Errorf("verify %s: %w", strings.TrimSpace("CAR "+src.Name), err)
	}
	return nil, errors.Join(err, file.Close())
}

// Close removes the temporary file; the Source's reader stays the caller's.
func (c *CAR) Close() error { return c.file.Close() }

// VerifySignature checks the commit's signature, for a key that is known only after the CAR was looked at, which was opened with
// AnyKey. When it is good Info says so. Errors: [CARError]; [ErrInvalidOptions] without a key.
func (c *CAR) VerifySignature(key atcrypto.PublicKey) error {
	if key == nil {
		return fmt.Errorf("%w: the key is missing, by which the signature is checked", ErrInvalidOptions)
	}
	b, err := decodeCommit(c.Info.block)
	if err == nil {
		err = (&carWalk{key: key}).checkCommit(b)
	}
	if err != nil {
		return &CARError{Name: c.src.Name, Offset: c.src.Offset + c.Info.at, Err: err}
	}
	c.Info.SignatureChecked = true
	return nil
}

func (c *CAR) walker() carWalk {
	return carWalk{did: c.src.DID, key: c.src.Key, strict: c.src.Strict, anyCase: c.src.AnyCase}
}

func (c *CAR) verify(ctx context.Context, first io.Reader) error {
	w := c.walker()
	in, err := newCARReader(ctx, first)
	if err != nil {
		return err
	}
	c.root = in.root
	err = w.walk(ctx, c.root, streamed{in})
	if err == nil {
		w.info.Streaming = true
		err = c.trailing(in, &w)
	}
	if errors.Is(err, errOutOfOrder) {
		if _, err := io.Copy(io.Discard, first); err != nil { // into the spool
			return fmt.Errorf("read: %w", err)
		}
		w = c.walker()
		if _, c.index, err = indexCAR(ctx, c.file, c.file.whole()); err != nil {
			return err
		}
		w.most = c.file.size*maxSameRecords + maxSameRecordBytes
		if err = w.walk(ctx, c.root, c.index); err == nil {
			err = c.findBlobs(&w)
		}
	}
	c.named = w.named
	c.Info = w.info
	if e := (*CARError)(nil); errors.As(c.Info.FirstNotCanonical, &e) {
		c.Info.FirstNotCanonical = &CARError{Name: c.src.Name, Offset: c.src.Offset + e.Offset, Err: e.Err}
	}
	c.Info.Blobs = int64(len(c.blobs))
	c.Info.DIDChecked, c.Info.SignatureChecked = c.src.DID != "", c.src.Key != nil
	return err
}

// trailing reads what follows the tree: blobs that records name, and what is to be ignored.
func (c *CAR) trailing(in *carReader, w *carWalk) error {
	for {
		b, err := in.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if _, named := w.named[b.cid]; named && b.cid.IsBlob() {
			c.blobs[b.cid] = carPlace{pos: uint64(b.at)<<sizeBits | uint64(b.size)}
		}
	}
}

// findBlobs looks for the blobs that records name.
func (c *CAR) findBlobs(w *carWalk) error {
	for id := range w.named {
		if _, p, err := c.index.find(id); err != nil {
			return err
		} else if p != (carPlace{}) && id.IsBlob() {
			c.blobs[id] = p
		}
	}
	return nil
}

// readBlob returns a blob that travels in the CAR. Errors: ErrNotFound.
func (c *CAR) readBlob(id CID) (Blob, error) {
	p, ok := c.blobs[id]
	if !ok {
		return Blob{}, ErrNotFound
	}
	b, _, err := readSection(c.file, int64(p.pos>>sizeBits), int64(p.pos&(1<<sizeBits-1)), nil)
	if err == nil && b.cid != id {
		err = carErrorf(b.at, "the file has changed")
	}
	return Blob{MediaType: c.named[id].mediaType, Data: b.data}, err
}

// Records iterates over the records in byte order of their paths; they belong to the caller. What is read is verified once
// more, since a file may change.
func (c *CAR) Records(ctx context.Context) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		for r, err := range c.walkRecords(ctx) {
			rec := Record{CID: r.cid, Value: append([]byte(nil), r.value...)}
			rec.Collection, rec.RKey = splitPath(r.path)
			if !yield(rec, err) || err != nil {
				return
			}
		}
	}
}

var errStopped = errors.New("stopped")

// walkRecords is Records without copies: values are good until the next step.
func (c *CAR) walkRecords(ctx context.Context) iter.Seq2[carRecord, error] {
	return func(yield func(carRecord, error) bool) {
		w := c.walker()
		w.record = func(r carRecord) error {
			if !yield(r, nil) {
				return errStopped
			}
			return nil
		}
		var blocks carBlocks = c.index
		root, err := c.root, error(nil)
		if c.index == nil {
			var in *carReader
			if in, err = newCARReader(ctx, c.file.whole()); err == nil {
				blocks, root = streamed{in}, in.root
			}
		}
		w.plain = root == c.root && len(c.named) == 0
		if err == nil {
			err = w.walk(ctx, root, blocks)
		}
		if errors.Is(err, errStopped) {
			return
		}
		if err == nil && w.info.Commit != c.Info.Commit || errors.Is(err, errOutOfOrder) {
			err = errors.New("the file has changed")
		}
		if err != nil {
			yield(carRecord{}, fmt.Errorf("read CAR %s again: %w", c.src.Name, err))
		}
	}
}
