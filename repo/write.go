package repo

import "time"

// Action is what a [Write] does to its record.
type Action string

// The actions. Create, Update and Delete are those of com.atproto.repo.applyWrites.
const (
	Create Action = "create" // the record must not exist: ErrExists
	Update Action = "update" // the record must exist: ErrNotFound
	Delete Action = "delete" // the record must exist: ErrNotFound
	Put    Action = "put"    // create or update, whichever is right
)

// Limits of one Apply.
const (
	MaxWrites     = 10_000    // writes in a batch
	MaxRecordSize = 1_000_000 // bytes of one record's CBOR
	MaxBatchSize  = 64 << 20  // bytes of records and blobs together
)

// Write is one change of one record.
type Write struct {
	Action     Action
	Collection string // NSID
	RKey       string // empty on Create: a TID is chosen, see [Result]
	// Record is canonical DAG-CBOR, a map; [RecordFromJSON] and [RecordFrom] make it. Its fields are not checked: that $type is the
	// collection, and what its lexicon asks for, is the caller's part. Not used by Delete.
	Record []byte
	// Swap, when defined, must be the CID of the record as it is now, else ErrInvalidSwap.
	Swap CID
	// Blobs are stored in the same transaction. The record ought to name them; one that no record names is not served
	// and goes away after a day.
	Blobs []Blob
}

// Blob is bytes that a record refers to, with their media type. Its CID is [BlobCID] of Data.
type Blob struct {
	MediaType string
	Data      []byte
}

// Result says what became of one write.
type Result struct {
	Action     Action // Create, Update or Delete: a Put tells which it was
	Collection string
	RKey       string
	CID        CID // of the record now; zero after a delete
	Prev       CID // of the record before; zero after a create
}

// URI is the at-uri of the record in the given account's repository.
func (r Result) URI(did string) string { return "at://" + did + "/" + r.Collection + "/" + r.RKey }

// Commit is one signed state of the repository.
type Commit struct {
	CID     CID    // of the commit block
	Rev     string // TID; rises with each commit
	Data    CID    // root of the tree of records
	Prev    CID    // root of the tree before (what firehoses call prevData); zero on Head and on the first commit
	Since   string // Rev before; empty on Head and on the first commit
	Seq     int64  // number of its event; zero on Head
	Time    time.Time
	Results []Result // one for each write, in order; nil on Head
}

// Guard is a condition for an Apply. It runs in the writer, under the write lock, and sees the repository exactly as
// the batch will find it. An error fails this Apply alone and is returned from it, wrapped. A guard must be quick and
// must not call the Repo.
type Guard func(Snapshot) error

// Snapshot is the repository at one moment, as a [Guard] sees it.
type Snapshot interface {
	// Head is the current commit.
	Head() Commit
	// Foreign is [Repo.Foreign] as of this moment: others that write the repository wait.
	Foreign() uint64
	// Get returns a record or ErrNotFound.
	Get(collection, rkey string) (Record, error)
}

// SwapCommit lets an Apply pass only while the current commit is c; else it fails with [ErrInvalidSwap].
func SwapCommit(c CID) Guard {
	return func(s Snapshot) error {
		if h := s.Head(); h.CID != c {
			return invalidSwap("commit", h.CID, c)
		}
		return nil
	}
}
