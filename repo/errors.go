package repo

import (
	"errors"
	"fmt"
	"syscall"
)

// Kinds of errors; test with [errors.Is]. The text around them says what was being done.
var (
	// ErrNotFound: no such record, blob or event; also an update or delete of a record that isn't there.
	ErrNotFound = errors.New("not found")
	// ErrExists: a create names a record that is there.
	ErrExists = errors.New("record exists")
	// ErrInvalidSwap: a guard did not hold: the commit or the record is no longer what the caller saw.
	ErrInvalidSwap = errors.New("invalid swap")
	// ErrInvalidRecord: a write is malformed: collection, record key, or a record that is not canonical DAG-CBOR.
	ErrInvalidRecord = errors.New("invalid record")
	// ErrBlobMissing: a record names a blob that is neither stored nor in the same batch.
	ErrBlobMissing = errors.New("blob missing")
	// ErrTooLarge: a record, blob or batch is over its limit.
	ErrTooLarge = errors.New("too large")
	// ErrInvalidProof: a proof is malformed, badly signed, of another DID, or does not cover the record.
	ErrInvalidProof = errors.New("invalid proof")
	// ErrInvalidCAR: a CAR is malformed, damaged, badly signed or of another DID; see [CARError] for where.
	ErrInvalidCAR = errors.New("invalid CAR")
	// ErrInvalidOptions: Options or a Source lack something, or contradict the store.
	ErrInvalidOptions = errors.New("invalid repository options")
	// ErrCorrupt: what the store gave back is not what was put in. Nothing is written any more on such a path.
	ErrCorrupt = errors.New("repository corrupt")
	// ErrSeq: an event number over [MaxSeq].
	ErrSeq = errors.New("event number out of range")
	// ErrNoSpace: the disk or database is full. Nothing of the batch was kept.
	ErrNoSpace = errors.New("no space left for the repository")
	// ErrBusy: another process holds the database for longer than the store waits, or its server is away, or too many callers wait for
	// the same. Try later.
	ErrBusy = errors.New("repository busy")
	// ErrUnsettled: the database's server went away during a commit and did not come back in time to be asked. Whether it was kept is
	// seen when it is back: all of it or nothing.
	ErrUnsettled = errors.New("outcome of a commit unknown")
	// ErrClosed: the repository was closed.
	ErrClosed = errors.New("repository closed")
)

// spaceKind gives the error of a full disk its kind.
func spaceKind(err error) error {
	if (errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)) && !errors.Is(err, ErrNoSpace) {
		return fmt.Errorf("%w: %w", ErrNoSpace, err)
	}
	return err
}
