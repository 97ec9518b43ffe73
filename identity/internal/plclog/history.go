package plclog

import (
	"errors"
	"slices"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/did-method-plc/go-didplc/didplc"
)

// RecoveryWindow is how long a higher rotation key may undo what a lower one signed.
const RecoveryWindow = 72 * time.Hour

// Event is one operation of a DID's history.
type Event struct {
	Time      time.Time `json:"time"`
	CID       string    `json:"cid"`
	Signer    string    `json:"signer"` // did:key
	Rank      int       `json:"rank"`   // of the signer in the list before, from 1, the highest
	Nullified bool      `json:"nullified,omitempty"`
	Changes   []string  `json:"changes"`
}

// History returns what each operation of a log changed, and who signed it.
func (l *Log) History() []Event {
	var all []Event
	for i := range l.Entries {
		all = append(all, l.event(&l.Entries[i]))
	}
	return all
}

// SigningKeysAt returns the keys (did:key:…) that the document named as #atproto at a time, or up to slack before or after it. Before
// the DID was in the directory its first document counts: a service may have signed by it already. Operations that were undone don't count.
func (l *Log) SigningKeysAt(at time.Time, slack time.Duration) []string {
	var keys []string
	var next time.Time // when the next operation took its place; zero: none did
	for i := len(l.Entries) - 1; i >= 0; i-- {
		e := &l.Entries[i]
		if e.Nullified {
			continue
		}
		began, ended := createdAt(e), next
		next = began
		if i > 0 && began.After(at.Add(slack)) || !ended.IsZero() && ended.Before(at.Add(-slack)) {
			continue
		}
		op, err := State(e)
		if key := op.VerificationMethods[signingName]; err == nil && key != "" && !slices.Contains(keys, key) {
			keys = append(keys, key)
		}
	}
	return keys
}

// Revocable returns the operations that key may still undo at a time, oldest first.
func (l *Log) Revocable(key atcrypto.PrivateKey, now time.Time) []Event {
	var all []Event
	for i := range l.Entries[1:] {
		e := &l.Entries[i+1]
		if e.Nullified || now.Sub(createdAt(e)) > RecoveryWindow {
			continue
		}
		prev := l.Find(e.Operation.AsOperation().PrevCIDStr())
		if prev == nil {
			continue
		}
		op, err := State(prev)
		if err != nil {
			continue
		}
		op.Prev = &prev.CID
		if op.Sign(key) == nil && l.check(&op, now) == nil {
			all = append(all, l.event(e))
		}
	}
	return all
}

func (l *Log) event(e *didplc.LogEntry) Event {
	op := e.Operation.AsOperation()
	ev := Event{Time: createdAt(e), CID: e.CID, Nullified: e.Nullified}
	keys, before := op.EquivalentRotationKeys(), didplc.RegularOp{}
	if prev := l.Find(op.PrevCIDStr()); prev != nil {
		keys = prev.Operation.AsOperation().EquivalentRotationKeys()
		before, _ = State(prev)
	}
	if n, err := didplc.VerifySignatureAny(op, keys); err == nil {
		ev.Signer, ev.Rank = keys[n], n+1
	}
	if now, err := State(e); errors.Is(err, ErrTombstone) {
		ev.Changes = []string{"the DID: given up"}
	} else if err == nil {
		ev.Changes = Differences(before, now)
	}
	return ev
}
