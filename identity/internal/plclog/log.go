package plclog

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/did-method-plc/go-didplc/didplc"
)

// Limits of the did:plc directory.
const (
	// MaxOperation is how long one operation may be as JSON, in bytes. The public directory refuses longer ones; we don't send them.
	MaxOperation = 7500
	// MaxLog is how long a DID's audit log may be, in bytes.
	MaxLog = 4 << 20
)

// Log is a DID's audit log, verified: every signature, link and nullification holds. It does not change.
type Log struct {
	DID     syntax.DID
	Entries []didplc.LogEntry
}

// ParseLog reads and verifies the audit log of did, as the directory's GET /DID/log/audit answers it. Errors: ErrLog with the reason.
func ParseLog(did syntax.DID, b []byte) (*Log, error) {
	if len(b) > MaxLog {
		return nil, fmt.Errorf("%w: %s: %d bytes, the limit is %d", ErrLog, did, len(b), MaxLog)
	}
	var entries []didplc.LogEntry
	if err := json.Unmarshal(b, &entries); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrLog, did, err)
	}
	if len(entries) == 0 {
		return nil, fmt.Errorf("%w: %s: it is empty", ErrLog, did)
	}
	for _, e := range entries {
		if e.DID != did.String() {
			return nil, fmt.Errorf("%w: asked for %s, the directory shows that of %s", ErrLog, did, Clip(e.DID))
		}
		if e.Operation.AsOperation() == nil {
			return nil, fmt.Errorf("%w: %s: an entry without an operation", ErrLog, did)
		}
	}
	if err := didplc.VerifyOpLog(entries); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrLog, did, err)
	}
	return &Log{did, entries}, nil
}

// Head is the newest operation that counts.
func (l *Log) Head() *didplc.LogEntry {
	for i := len(l.Entries) - 1; i > 0; i-- {
		if !l.Entries[i].Nullified {
			return &l.Entries[i]
		}
	}
	return &l.Entries[0]
}

// Find returns the entry of an operation, or nil.
func (l *Log) Find(cid string) *didplc.LogEntry {
	for i := range l.Entries {
		if l.Entries[i].CID == cid {
			return &l.Entries[i]
		}
	}
	return nil
}

// Tombstoned reports whether the DID was given up.
func (l *Log) Tombstoned() bool { return l.Head().Operation.Tombstone != nil }

// continues reports why l does not go on from an older look at the same log, or nil.
func (l *Log) continues(old *Log) error {
	for i, e := range old.Entries {
		if i >= len(l.Entries) {
			return fmt.Errorf("%w: %s: the directory shows %d operations, before it showed %d", ErrLog, l.DID, len(l.Entries),
				len(old.Entries))
		}
		if now := l.Entries[i]; now.CID != e.CID {
			return fmt.Errorf("%w: %s is forked: operation %d is %s, before it was %s", ErrLog, l.DID, i+1, now.CID, e.CID)
		} else if e.Nullified && !now.Nullified {
			return fmt.Errorf("%w: %s is forked: operation %d, %s, counts again", ErrLog, l.DID, i+1, e.CID)
		}
	}
	return nil
}

// check reports why the directory would refuse an operation after this log, or nil.
func (l *Log) check(op didplc.Operation, now time.Time) error {
	ctx, store := context.Background(), didplc.NewMemOpStore()
	for i := range l.Entries {
		e := &l.Entries[i]
		at, err := syntax.ParseDatetime(e.CreatedAt)
		if err != nil {
			return err
		}
		if !at.Time().Before(now) { // the directory's clock is ahead of ours
			now = at.Time().Add(time.Millisecond)
		}
		prepared, err := didplc.VerifyOperation(ctx, store, l.DID.String(), e.Operation.AsOperation(), at.Time())
		if err != nil {
			return err
		}
		if err := store.CommitOperations(ctx, []*didplc.PreparedOperation{prepared}); err != nil {
			return err
		}
	}
	if _, err := didplc.VerifyOperation(ctx, store, l.DID.String(), op, now); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrRefused, l.DID, err)
	}
	return nil
}

// MayRotate reports whether a key is in the list of the DID's newest operation.
func MayRotate(log *Log, rotation atcrypto.PrivateKey) bool {
	if rotation == nil {
		return false
	}
	pub, err := rotation.PublicKey()
	if err != nil {
		return false
	}
	return slices.Contains(log.Head().Operation.AsOperation().EquivalentRotationKeys(), pub.DIDKey())
}

// createdAt of an entry; the log was verified, so it can be read.
func createdAt(e *didplc.LogEntry) time.Time {
	at, err := syntax.ParseDatetime(e.CreatedAt)
	if err != nil {
		return time.Time{}
	}
	return at.Time()
}
