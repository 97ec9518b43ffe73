package identity

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/did-method-plc/go-didplc/didplc"
)

// maxRaces bounds how often a change is tried against a log that others write to.
const maxRaces = 5

// PLCChange is one operation that was submitted, or would be.
type PLCChange struct {
	DID syntax.DID
	// Differences are lines of what it changes; empty: nothing was to be done.
	Differences []string
	// Operation is signed; nil when nothing was to be done, and for a did:web.
	Operation didplc.Operation
	// CID of the operation.
	CID string
	// Submitted tells that it is done: false for a dry run, and when nothing was to be done.
	Submitted bool
	// Log is the DID's log, as it was read last: after the operation, if one was submitted and the directory could still be asked.
	Log *PLCLog
}

// plan answers the operation that is to follow a log, not signed, and what it changes. nil is nothing to be done.
type plan func(log *PLCLog) (didplc.Operation, []string, error)

// change reads the log, plans, signs and submits one operation, and starts over when somebody else was faster.
func (cfg *Config) change(ctx context.Context, did syntax.DID, signer atcrypto.PrivateKey, dryRun bool, make plan) (*PLCChange, error) {
	log, err := cfg.readLog(ctx, did)
	if err != nil {
		return nil, err
	}
	for range maxRaces {
		c, err := cfg.prepare(log, signer, make)
		if err != nil || c.Operation == nil || dryRun {
			return c, err
		}
		for _, line := range c.Differences {
			cfg.Log.Info("changing the did:plc", "did", did, "change", line)
		}
		cfg.seam(seamUpdateSigned)
		err = cfg.plc().Submit(ctx, did, c.Operation)
		cfg.seam(seamUpdateSubmitted)
		after, readErr := cfg.readLog(ctx, did)
		switch {
		case readErr == nil && after.Find(c.CID) != nil: // also when the answer was lost
			c.Submitted, c.Log = true, after
			return c, nil
		case err == nil && readErr != nil:
			if errors.Is(readErr, ErrPLCUnavailable) {
				c.Submitted = true
				return c, nil
			}
			return c, readErr
		case err == nil:
			return c, fmt.Errorf("%w: the directory took operation %s and does not show it", ErrPLCUnavailable, c.CID)
		case readErr != nil:
			return c, errors.Join(err, readErr)
		case after.Head().CID == log.Head().CID:
			return c, err
		}
		cfg.Log.Info("the did:plc was changed by somebody else meanwhile; its log is read again", "did", did)
		log = after
	}
	return nil, fmt.Errorf("%w: %s: gave up after %d tries", ErrPLCRace, did, maxRaces)
}

// prepare plans and signs, and refuses what the directory would.
func (cfg *Config) prepare(log *PLCLog, signer atcrypto.PrivateKey, make plan) (*PLCChange, error) {
	c := &PLCChange{DID: log.DID, Log: log}
	op, lines, err := make(log)
	if err != nil || op == nil {
		return c, err
	}
	c.Differences = lines
	if signer == nil {
		return c, fmt.Errorf("%w: %s: put it at %s, or give it in rotation_key", ErrNoRotationKey, log.DID, cfg.RotationKeyPath)
	}
	if err := op.Sign(signer); err != nil {
		return c, fmt.Errorf("signing the operation: %w", err)
	}
	if _, err := operationJSON(op); err != nil {
		return c, err
	}
	if err := log.check(op, cfg.Clock()); err != nil {
		if prev := log.Find(op.PrevCIDStr()); prev != nil && prev.CID == log.Head().CID && !mayRotate(log, signer) {
			return c, fmt.Errorf("%w: %w", ErrNoRotationKey, err)
		}
		return c, err
	}
	c.Operation, c.CID = op, op.CID().String()
	return c, nil
}

// readLog fetches the log, makes sure that it goes on from the one kept, and keeps it.
func (cfg *Config) readLog(ctx context.Context, did syntax.DID) (*PLCLog, error) {
	ctx, cancel := context.WithTimeout(ctx, plcTimeout)
	defer cancel()
	log, err := cfg.plc().Log(ctx, did)
	if err != nil {
		return nil, err
	}
	return log, cfg.rememberLog(log)
}

// next answers the operation that makes the log's newest state another one; nil when they are the same.
func next(log *PLCLog, alter func(didplc.RegularOp) (didplc.RegularOp, error)) (didplc.Operation, []string, error) {
	head := log.Head()
	now, err := plcState(head)
	if err != nil {
		return nil, nil, err
	}
	want, err := alter(now)
	if err != nil {
		return nil, nil, err
	}
	lines := differences(now, want)
	if len(lines) == 0 {
		return nil, nil, nil
	}
	prev := head.CID
	want.Prev = &prev
	return &want, lines, nil
}

// PLCStatus is what a look at the directory found.
type PLCStatus struct {
	Log *PLCLog
	// Drift are the differences between the directory and what this service is, before an update: "what: theirs -> ours".
	Drift []string
	// Updated tells that an operation was submitted.
	Updated bool
	// MayUpdate tells whether our rotation key is in the list.
	MayUpdate bool
}

// EnsurePLCCurrent brings a did:plc's entry in the directory in line with id: the signing key, the handle, its services, and
// a configured recovery key. It reads the uncached log, verifies it, and on a difference submits one update, which keeps every
// rotation key, service, verification method and alias that isn't ours; the differences are logged first. When
// somebody else updates at the same moment the log is read again. A genesis that the directory never took is submitted.
//
// Without a rotation key that may update, differences are logged as a warning and answered in Drift: that is no error. While a key rotation is
// not finished nothing is changed. A did:web has nothing to do: nil, nil.
//
// Errors: ErrPLCUnavailable (go on, and try again later); ErrPLCNotFound; ErrPLCTombstone; ErrPLCLog; ErrPLCRefused; ErrPLCRace. None of them
// makes id unusable.
func EnsurePLCCurrent(ctx context.Context, id *Identity, cfg Config) (*PLCStatus, error) {
	if id.DID.Method() != "plc" {
		return nil, nil
	}
	if err := cfg.fill(); err != nil {
		return nil, err
	}
	log, err := cfg.readLog(ctx, id.DID)
	if errors.Is(err, ErrPLCNotFound) {
		log, err = cfg.submitGenesis(ctx, id.DID, err)
	}
	if err != nil {
		return nil, err
	}
	if log.Tombstoned() {
		return nil, fmt.Errorf("%w: %s", ErrPLCTombstone, id.DID)
	}
	s := &PLCStatus{Log: log, MayUpdate: mayRotate(log, id.Rotation)}
	plan := func(log *PLCLog) (didplc.Operation, []string, error) {
		return next(log, func(now didplc.RegularOp) (didplc.RegularOp, error) { return id.wanted(now, cfg.RecoveryDIDKey) })
	}
	_, lines, err := plan(log)
	if err != nil || len(lines) == 0 {
		return s, err
	}
	s.Drift = lines
	if cfg.rotating() {
		cfg.Log.Warn("a key rotation is not finished; the did:plc is left as it is until it is", "did", id.DID, "differences", lines)
		return s, nil
	}
	if !s.MayUpdate {
		cfg.Log.Warn("the PLC directory differs from this service and no rotation key may change it: others may not find it, or refuse its signatures. "+
			"Put a rotation key of this DID at rotation_key_path, or update the DID where the key is", "did", id.DID, "rotation_key_path", cfg.RotationKeyPath, "differences", lines)
		return s, nil
	}
	c, err := cfg.change(ctx, id.DID, id.Rotation, false, plan)
	if c != nil {
		s.Updated = c.Submitted
		if c.Log != nil {
			s.Log = c.Log
		}
	}
	return s, err
}

// submitGenesis submits what the directory never took.
func (cfg *Config) submitGenesis(ctx context.Context, did syntax.DID, missing error) (*PLCLog, error) {
	op, err := cfg.storedGenesis()
	if err != nil {
		return nil, err
	}
	if op == nil {
		return nil, missing
	}
	if made, err := op.DID(); err != nil || made != did.String() {
		return nil, fmt.Errorf("%w; %s is of %s", missing, cfg.path(genesisFile), made)
	}
	if known, err := cfg.rememberedLog(did); err != nil || known != nil {
		return nil, errors.Join(fmt.Errorf("%w, where it was before: is this the right directory? To register it there anew, remove %s", missing, cfg.path(plcLogFile)), err)
	}
	err = cfg.plc().Submit(ctx, did, op)
	cfg.seam(seamSubmitted)
	log, readErr := cfg.readLog(ctx, did)
	if readErr == nil {
		cfg.Log.Info("the new did:plc is registered", "did", did)
		return log, nil
	}
	return nil, errors.Join(err, readErr)
}

// PLCDrift answers what EnsurePLCCurrent would change after a log, without asking or changing anything.
func PLCDrift(id *Identity, log *PLCLog, recoveryDIDKey string) ([]string, error) {
	_, lines, err := next(log, func(now didplc.RegularOp) (didplc.RegularOp, error) { return id.wanted(now, recoveryDIDKey) })
	return lines, err
}

// createdAt of an entry; the log was verified, so it can be read.
func createdAt(e *didplc.LogEntry) time.Time {
	at, err := syntax.ParseDatetime(e.CreatedAt)
	if err != nil {
		return time.Time{}
	}
	return at.Time()
}
