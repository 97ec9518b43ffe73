package plclog

import (
	"context"
	"errors"
	"fmt"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/did-method-plc/go-didplc/didplc"

	"github.com/atcr-dev/atcr/internal/crashpoint"
)

// maxRaces bounds how often a change is tried against a log that others write to.
const maxRaces = 5

// Change is one operation that was submitted, or would be.
type Change struct {
	DID syntax.DID
	// Differences are lines of what it changes; empty: nothing was to be done.
	Differences []string
	// Operation is without its signature; nil when nothing was to be done, and for a did:web.
	Operation *didplc.OpEnum
	// CID of the signed operation; empty when none was submitted.
	CID string
	// Submitted reports that it is done: false for a dry run, and when nothing was to be done.
	Submitted bool
	// Log is the DID's log, as it was read last: after the operation, if one was submitted and the directory could still be asked.
	Log *Log
}

// Planner returns the operation that is to follow a log, not signed, and what it changes; nil when nothing is to be done.
type Planner func(log *Log) (didplc.Operation, []string, error)

// Apply reads the log, plans, signs and submits one operation, and starts over when somebody else was faster. Other modes than Submit
// end before the submission; Unsigned before the signature, too, and takes no signer.
func (f *Folder) Apply(ctx context.Context, did syntax.DID, signer atcrypto.PrivateKey, mode Mode, make Planner) (*Change, error) {
	log, err := f.ReadLog(ctx, did)
	if err != nil {
		return nil, err
	}
	for range maxRaces {
		c, op, err := f.prepare(log, signer, mode, make)
		if err != nil || op == nil || mode != Submit {
			return c, err
		}
		for _, line := range c.Differences {
			f.Log.Info("changing the did:plc", "did", did, "change", line)
		}
		c.CID = op.CID().String()
		_ = crashpoint.Reach(ctx, crashpoint.UpdateSigned)
		err = f.forbidden(f.client().Submit(ctx, did, op))
		_ = crashpoint.Reach(ctx, crashpoint.UpdateSubmitted)
		after, readErr := f.ReadLog(ctx, did)
		switch {
		case readErr == nil && after.Find(c.CID) != nil: // also when the answer was lost
			c.Submitted, c.Log = true, after
			return c, nil
		case err == nil && readErr != nil:
			if errors.Is(readErr, ErrUnavailable) {
				c.Submitted = true
				return c, nil
			}
			return c, readErr
		case err == nil:
			return c, fmt.Errorf("%w: the directory took operation %s and does not show it", ErrUnavailable, c.CID)
		case readErr != nil:
			return c, errors.Join(err, readErr)
		case after.Head().CID == log.Head().CID:
			return c, err
		}
		f.Log.Info("the did:plc was changed by somebody else meanwhile; its log is read again", "did", did)
		log = after
	}
	return nil, fmt.Errorf("%w: %s: gave up after %d tries", ErrRace, did, maxRaces)
}

// prepare plans and signs, and refuses what the directory would.
func (f *Folder) prepare(log *Log, signer atcrypto.PrivateKey, mode Mode, make Planner) (*Change, didplc.Operation, error) {
	c := &Change{DID: log.DID, Log: log}
	op, lines, err := make(log)
	if err != nil || op == nil {
		return c, nil, err
	}
	c.Differences, c.Operation = lines, unsigned(op)
	if mode == Unsigned {
		_, err := operationJSON(op)
		return c, op, err
	}
	if signer == nil {
		return c, nil, fmt.Errorf("%w: %s: put it at %s, or configure the key itself", ErrNoRotationKey, log.DID, f.RotationKeyPath)
	}
	if err := op.Sign(signer); err != nil {
		return c, nil, fmt.Errorf("signing the operation: %w", err)
	}
	if _, err := operationJSON(op); err != nil {
		return c, nil, err
	}
	if err := log.check(op, f.Clock()); err != nil {
		if prev := log.Find(op.PrevCIDStr()); prev != nil && prev.CID == log.Head().CID && !MayRotate(log, signer) {
			return c, nil, fmt.Errorf("%w: %w", ErrNoRotationKey, err)
		}
		return c, nil, err
	}
	return c, op, nil
}

// unsigned returns a copy of an operation without its signature: who holds that could submit it.
func unsigned(op didplc.Operation) *didplc.OpEnum {
	switch op := op.(type) {
	case *didplc.RegularOp:
		plain := *op
		plain.Sig = nil
		return plain.AsOpEnum()
	case *didplc.TombstoneOp:
		plain := *op
		plain.Sig = nil
		return plain.AsOpEnum()
	}
	return nil // no planner makes another kind
}

// Next returns the operation that makes the log's newest state another one; nil when they are the same.
func Next(log *Log, alter func(didplc.RegularOp) (didplc.RegularOp, error)) (didplc.Operation, []string, error) {
	head := log.Head()
	now, err := State(head)
	if err != nil {
		return nil, nil, err
	}
	want, err := alter(now)
	if err != nil {
		return nil, nil, err
	}
	lines := Differences(now, want)
	if len(lines) == 0 {
		return nil, nil, nil
	}
	prev := head.CID
	want.Prev = &prev
	return &want, lines, nil
}
