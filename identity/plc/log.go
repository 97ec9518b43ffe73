package plc

import (
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"github.com/atcr-dev/atcr/identity/internal/plclog"
)

// RecoveryWindow is how long a higher rotation key may undo what a lower one signed.
const RecoveryWindow = 72 * time.Hour

// Limits of the directory, in bytes.
const (
	MaxOperation = 7500    // of one operation as JSON. The public directory refuses longer ones; they are not sent.
	MaxLog       = 4 << 20 // of a DID's log
)

// Log is the audit log of a DID, verified: every signature, link and nullification holds. It does not change. Its fields
// are DID and Entries (didplc.LogEntry, oldest first), its methods:
//
//	Head() *didplc.LogEntry              the newest operation that counts
//	Find(cid string) *didplc.LogEntry    nil when there is none
//	Tombstoned() bool                    whether the DID was given up
//	History() []Event                    what each operation changed, and who signed it
//	Revocable(key, now) []Event          what a rotation key may undo at a time
//	SigningKeysAt(at, slack) []string    the signing keys (did:key:…) of the document at a time, or up to slack before or after it
type Log = plclog.Log

// ParseLog reads and verifies the log of did, as the directory's GET /DID/log/audit returns it. Errors: identity.ErrPLCLog with the reason.
func ParseLog(did syntax.DID, b []byte) (*Log, error) { return plclog.ParseLog(did, b) }

// Event is one operation of a DID's history:
//
//	Time      time.Time  // when the directory took it
//	CID       string
//	Signer    string     // did:key
//	Rank      int        // of the signer in the list of rotation keys before, from 1, the highest
//	Nullified bool       // undone by a higher key
//	Changes   []string   // "what: before -> after"
type Event = plclog.Event

// Client is a client of a did:plc directory, for logs of other DIDs and operations that are signed elsewhere. Its fields are URL (empty is
// https://plc.directory) and HTTP (nil is a client with an address guard), its methods Log(ctx, did) (*Log, error) and
// Submit(ctx, did, operation) error. The zero value is ready for use, by many goroutines; don't copy it afterwards.
type Client = plclog.Client
