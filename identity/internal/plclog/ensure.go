package plclog

import (
	"context"
	"errors"
	"fmt"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/did-method-plc/go-didplc/didplc"

	"github.com/atcr-dev/atcr/internal/crashpoint"
)

// Status is documented at identity.PLCStatus.
type Status struct {
	Log       *Log
	Drift     []string
	Updated   bool
	MayUpdate bool
}

// Wants returns what makes a log's newest state that of id.
func (id *Self) Wants(recoveryDIDKey string) Planner {
	return func(log *Log) (didplc.Operation, []string, error) {
		return Next(log, func(now didplc.RegularOp) (didplc.RegularOp, error) { return id.wanted(now, recoveryDIDKey) })
	}
}

// EnsureCurrent is documented at identity.EnsurePLCCurrent.
func (f *Folder) EnsureCurrent(ctx context.Context, id *Self) (*Status, error) {
	log, err := f.ReadLog(ctx, id.DID)
	if errors.Is(err, ErrNotFound) {
		log, err = f.submitGenesis(ctx, id.DID, err)
	}
	if err != nil {
		return nil, err
	}
	if log.Tombstoned() {
		return nil, fmt.Errorf("%w: %s", ErrTombstone, id.DID)
	}
	s := &Status{Log: log, MayUpdate: MayRotate(log, id.Rotation)}
	plan := id.Wants(f.RecoveryDIDKey)
	_, lines, err := plan(log)
	if err != nil || len(lines) == 0 {
		return s, err
	}
	s.Drift = lines
	if f.Rotating() || f.offeredNamed(log) {
		f.Log.Warn("a key rotation is not finished; the did:plc is left as it is until it is", "did", id.DID, "differences", lines)
		return s, nil
	}
	if !s.MayUpdate {
		f.Log.Warn("the PLC directory differs from this service and no rotation key may change it: "+
			"others may not find it, or refuse its signatures. Put a rotation key of this DID into the file, or update "+
			"the DID where the key is",
			"did", id.DID, "file", f.RotationKeyPath, "differences", lines)
		return s, nil
	}
	c, err := f.Apply(ctx, id.DID, id.Rotation, Submit, plan)
	if c != nil {
		s.Updated = c.Submitted
		if c.Log != nil {
			s.Log = c.Log
		}
	}
	return s, err
}

// submitGenesis submits what the directory never took.
func (f *Folder) submitGenesis(ctx context.Context, did syntax.DID, missing error) (*Log, error) {
	op, err := f.StoredGenesis()
	if err != nil {
		return nil, err
	}
	if op == nil {
		return nil, missing
	}
	if made, err := op.DID(); err != nil || made != did.String() {
		return nil, fmt.Errorf("%w; %s is of %s", missing, f.Path(GenesisFile), made)
	}
	if known, err := f.RememberedLog(did); err != nil || known != nil {
		return nil, errors.Join(fmt.Errorf("%w, where it was before: is this the right directory? "+
			"To register it there anew, remove %s", missing, f.Path(LogFile)), err)
	}
	err = f.forbidden(f.client().Submit(ctx, did, op))
	_ = crashpoint.Reach(ctx, crashpoint.GenesisSubmitted)
	log, readErr := f.ReadLog(ctx, did)
	if readErr == nil {
		f.Log.Info("the new did:plc is registered", "did", did)
		return log, nil
	}
	return nil, errors.Join(err, readErr)
}
