package plclog

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"

	"github.com/atcr-dev/atcr/internal/crashpoint"
)

// Create makes a did:plc as identity.CreatePLCIdentity documents it, and fills in id's keys and DID. It reports whether the
// directory shows it.
func (f *Folder) Create(ctx context.Context, id *Self) (registered bool, err error) {
	if err := f.CheckDirectory(ctx); err != nil {
		return false, err
	}
	stored, err := f.StoredDID()
	if err != nil {
		return false, err
	}
	if err := f.createKeys(ctx, id); err != nil {
		return false, err
	}
	if err := f.UseKey(id.Key); err != nil {
		return false, err
	}
	op, err := f.genesis(id)
	if err != nil {
		return false, err
	}
	did, err := op.DID()
	if err != nil {
		return false, err
	}
	if stored != "" && stored.String() != did {
		return false, fmt.Errorf("%w: %s says %s, %s makes %s; either keep the stored one and remove %s, or remove %s and be the other",
			ErrContradiction, f.DIDPath(), stored, GenesisFile, did, f.Path(GenesisFile), f.DIDPath())
	}
	id.DID = syntax.DID(did)
	_ = crashpoint.Reach(ctx, crashpoint.GenesisDurable)
	if err := f.StoreDID(id.DID); err != nil {
		return false, err
	}
	_ = crashpoint.Reach(ctx, crashpoint.DIDDurable)
	f.Log.Info("did:plc made", "did", did, "rotation_key", f.RotationKeyPath)
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	err = f.client().Submit(ctx, id.DID, op)
	_ = crashpoint.Reach(ctx, crashpoint.GenesisSubmitted)
	switch {
	case err == nil:
		if _, err := f.ReadLog(ctx, id.DID); err != nil {
			f.Log.Warn("the PLC directory took the new DID, and does not show it yet", "did", did, "error", err)
			return false, nil
		}
		return true, nil
	case errors.Is(err, ErrForbidden): // it would be refused for ever
		return false, f.forbidden(err)
	case errors.Is(err, ErrRefused): // it may be there already; EnsurePLCCurrent asks
		f.Log.Warn("the PLC directory did not take the new DID", "did", did, "error", err)
	default:
		f.Log.Warn("the PLC directory can't be reached; the new DID is submitted later", "did", did, "error", err)
	}
	return false, nil
}

// createKeys fills in the keys that are on disk, or makes them.
func (f *Folder) createKeys(ctx context.Context, id *Self) error {
	made, err := f.StoredGenesis()
	if err != nil {
		return err
	}
	if made != nil { // its keys were on disk before it was
		for _, path := range []string{f.KeyPath, f.RotationKeyPath} {
			if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) && (path == f.KeyPath || f.RotationKey == "") {
				return f.genesisOfOthers()
			}
		}
	}
	var created bool
	if id.Key, created, err = LoadOrCreateKey(f.KeyPath, f.KeyType); err != nil {
		return err
	}
	if created {
		f.Log.Info("signing key made", "path", f.KeyPath)
	}
	_ = crashpoint.Reach(ctx, crashpoint.SigningKeyDurable)
	if id.Rotation, err = f.ReadRotationKey(true); err != nil {
		return err
	}
	_ = crashpoint.Reach(ctx, crashpoint.RotationKeyDurable)
	return nil
}

// Adopt checks a did:plc that somebody made elsewhere, and returns its signing key and log. Without that key, but with a rotation key
// that may change it, it gets a new one. Errors: those of identity.LoadOrCreateDID.
func (f *Folder) Adopt(
	ctx context.Context, did syntax.DID, rotation atcrypto.PrivateKeyExportable,
) (atcrypto.PrivateKeyExportable, *Log, error) {
	log, err := f.client().Log(ctx, did)
	switch {
	case errors.Is(err, ErrUnavailable):
		return nil, nil, configDID("%s is configured for the first time, and whether it exists can't be asked: %w; "+
			"start again when the directory answers", did, err)
	case errors.Is(err, ErrForbidden):
		return nil, nil, f.forbidden(err)
	case err != nil:
		return nil, nil, configDID("%w", err)
	case log.Tombstoned():
		return nil, nil, configDID("%w: %s; leave it empty to get a new DID, or undo the tombstone with a higher "+
			"rotation key within 72 hours",
			ErrTombstone, did)
	}
	ours := MayRotate(log, rotation)
	key, err := LoadKey(f.KeyPath)
	if errors.Is(err, fs.ErrNotExist) {
		if !ours {
			return nil, nil, fmt.Errorf("%w: %s belongs to %s and is not there, nor is a rotation key that could set a new one at %s: "+
				"put one of the two there", ErrKeyMissing, f.KeyPath, did, f.RotationKeyPath)
		}
		key, err = f.SigningKey(did, false)
	}
	if err != nil {
		return nil, nil, err
	}
	pub, err := key.PublicKey()
	if err != nil {
		return nil, nil, err
	}
	state, err := State(log.Head())
	if err != nil {
		return nil, nil, err
	}
	if !ours && state.VerificationMethods[signingName] != pub.DIDKey() {
		return nil, nil, configDID("%w: the directory names %s as the signing key of %s, %s holds %s; "+
			"put the right key there, or a rotation key of %s at %s",
			ErrNoRotationKey, state.VerificationMethods[signingName], did, f.KeyPath, pub.DIDKey(), did, f.RotationKeyPath)
	}
	f.Log.Info("did:plc taken over", "did", did, "ours_to_update", ours)
	return key, log, nil
}

func configDID(format string, args ...any) error {
	return &ConfigError{"DID", fmt.Errorf(format, args...)}
}
