package plc

import (
	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/did-method-plc/go-didplc/didplc"

	"github.com/atcr-dev/atcr/identity/internal/plclog"
)

// Plan is one change of an identity: what would change, or what did. It marshals to JSON and back. It never holds a signature: who has one
// could submit the operation.
type Plan struct {
	DID syntax.DID `json:"did"`
	// Changes are lines "what: before -> after". Without any there is nothing to do.
	Changes []string `json:"changes"`
	// Operation is what is submitted to the directory, without its signature. nil when there is nothing to do, and for a did:web.
	Operation *didplc.OpEnum `json:"operation,omitempty"`
	// Submitted reports that the change is done: false for a dry run, and when there was nothing to do.
	Submitted bool `json:"submitted"`
	// CID of the operation in the log; empty until it is submitted. Beside an error it is that of an operation that the
	// directory may have taken.
	CID string `json:"cid,omitempty"`
}

// planOf returns nil for nil.
func planOf(c *plclog.Change) *Plan {
	if c == nil {
		return nil
	}
	p := &Plan{DID: c.DID, Changes: c.Differences, Operation: c.Operation, Submitted: c.Submitted, CID: c.CID}
	if p.Changes == nil {
		p.Changes = []string{}
	}
	return p
}
