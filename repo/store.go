package repo

import (
	"context"
	"iter"
)

// Store keeps one repository: head, records, tree nodes, events, record blobs. [Repo] is its only user and never
// calls Update twice at a time. Implementations: repo/sqlstore, repo/memstore; repo/repotest checks yours.
//
// Errors are of the kinds of this package: ErrNotFound, ErrNoSpace, ErrBusy, ErrCorrupt; anything else is passed on.
type Store interface {
	// Shared reports whether others may write the same repository meanwhile, as on a database server. Then Update and Bulk of
	// all of them keep each other out, from before their Reader's first answer until they return, and a Repo looks for
	// commits of others twice a second.
	Shared() bool

	// Read returns a Reader each call of which sees the newest state by itself. ctx ends its calls.
	Read(ctx context.Context) Reader

	// View calls f with a Reader that sees one state throughout. f must not call the Store.
	View(ctx context.Context, f func(Reader) error) error

	// Update takes the write lock, calls f with a Reader that sees what the changes will be applied to, and applies what
	// f returns: all or nothing, durable (on the disk, fsynced) before Update returns nil. When f returns an error, or nil
	// changes, nothing is written and the error is returned.
	Update(ctx context.Context, f func(Reader) (*Changes, error)) error

	// Bulk is Update for changes that are too large for memory: f hands them over in parts, and its Reader sees what was
	// handed over. All of it is applied, durably, when f returns nil, else nothing. f must not hold an iterator open while
	// it hands over a part, and must not keep a part's slices.
	Bulk(ctx context.Context, f func(r Reader, part func(*Changes) error) error) error
}

// Reader reads. Byte slices that it returns belong to the caller; those of iterators only until the next step.
type Reader interface {
	// Head returns the current commit, or ErrNotFound in a new store.
	Head() (Head, error)
	// Node returns the tree node at a place, or ErrNotFound.
	Node(Place) (Node, error)
	// Path returns in one question, for each height from top down to 0, the node with the last fence that is not greater than
	// key, as far as there is one; others do no harm, and a store in which Node is cheap returns none. A Repo asks a Store
	// that is Shared for what its cache lacks.
	Path(key string, top int) ([]Node, error)
	// Nodes iterates over all nodes: by fence in byte order, higher ones first.
	Nodes() iter.Seq2[Node, error]
	// Record returns the record at a path (collection/rkey), or ErrNotFound.
	Record(path string) (StoredRecord, error)
	// Records iterates over records whose path p has from <= p < to, in byte order, or in reverse, at most limit of them.
	// An empty to, and a limit of 0, are no bound.
	Records(from, to string, reverse bool, limit int) iter.Seq2[StoredRecord, error]
	// Blob returns a blob with the number of records that name it, or ErrNotFound.
	Blob(CID) (StoredBlob, error)
	// HasBlob reports whether a blob is stored, named by a record or not.
	HasBlob(CID) (bool, error)
	// Blobs iterates over blobs that records name, in byte order of CID from the first after the given one, at most limit,
	// without their Data; with since not zero only over those that a record of a later revision names.
	Blobs(after CID, since TID, limit int) iter.Seq2[StoredBlob, error]
	// Events iterates over events with a higher number, in order, at most limit.
	Events(after int64, limit int) iter.Seq2[Event, error]
}

// Changes are applied in one transaction, fields in the order of this struct.
type Changes struct {
	PutBlobs    []StoredBlob // Refs is not looked at; one that is there only gets the new Created
	PutRecords  []StoredRecord
	DropRecords []string // paths
	// DropRefs are paths whose references to blobs are forgotten; then AddRefs are added; then blobs that lost a reference
	// and have none left are deleted.
	DropRefs []string
	AddRefs  []BlobRef
	// PruneBlobs, when not zero, deletes blobs stored before this time (Unix seconds) that no record names.
	PruneBlobs int64
	PutNodes   []Node
	DropNodes  []Place // never one that is in PutNodes
	Events     []Event
	// KeepEvents, when not zero, deletes all but this many of the newest events.
	KeepEvents int
	Head       *Head // nil: stays
}

// Head is the current commit as stored.
type Head struct {
	CID     CID
	Rev     TID
	Root    CID    // of the tree
	Height  int    // of the tree's root node
	Records int64  // how many there are
	Seq     int64  // of the newest event ever made
	Block   []byte // the signed commit, DAG-CBOR
}

// Place is where a node stands in the tree: after the record Fence (a path; empty at the left edge), at a Height above
// the leaves. It identifies the node.
type Place struct {
	Fence  string
	Height int
}

// Node is a tree node as stored.
type Node struct {
	Place
	CID  CID
	Rev  TID // of the commit that made these bytes
	Data []byte
}

// StoredRecord is a record as stored.
type StoredRecord struct {
	Path  string
	CID   CID
	Rev   TID // of the commit that wrote it
	Value []byte
}

// StoredBlob is a record's blob as stored.
type StoredBlob struct {
	CID       CID
	MediaType string
	Size      int64
	Data      []byte
	Created   int64 // Unix seconds
	Refs      int   // records that name it
}

// BlobRef says that a record names a blob, since a revision.
type BlobRef struct {
	Path string
	CID  CID
	Rev  TID
}

// Event is one change, ready to be sent: Body is a whole com.atproto.sync.subscribeRepos frame (header and payload).
type Event struct {
	Seq  int64
	Rev  TID
	Body []byte
}
