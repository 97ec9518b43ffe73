package identity

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/did-method-plc/go-didplc/didplc"

	"github.com/atcr-dev/atcr/internal/durable"
)

const plcTimeout = 10 * time.Second // of one exchange with the directory

func (cfg *Config) plc() *PLC { return &PLC{URL: cfg.PLCURL, HTTP: cfg.HTTP} }

// CreatePLCIdentity makes a did:plc: a signing key, a rotation key and a genesis operation that names both, the public URL's services and
// its host as handle. Keys, genesis.json and then did.txt are on disk before the directory hears of it. A directory that is
// down is no error: [EnsurePLCCurrent] submits what is not there. Called again, also after a crash at any point, it answers the same DID.
//
// Errors: ErrContradiction when the folder holds another DID or a genesis of other keys; ErrKeyPermissions; ErrKeyFile;
// ErrPLCRefused for a genesis that no directory would take.
func CreatePLCIdentity(ctx context.Context, cfg Config) (*Identity, error) {
	if err := cfg.fill(); err != nil {
		return nil, err
	}
	stored, err := cfg.storedDID()
	if err != nil {
		return nil, err
	}
	made, err := cfg.storedGenesis()
	if err != nil {
		return nil, err
	}
	if made != nil { // its keys were on disk before it was
		for _, path := range []string{cfg.KeyPath, cfg.RotationKeyPath} {
			if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) && (path == cfg.KeyPath || cfg.RotationKey == "") {
				return nil, cfg.genesisOfOthers()
			}
		}
	}
	key, created, err := loadOrCreateKey(cfg.KeyPath, cfg.KeyType)
	if err != nil {
		return nil, err
	}
	if created {
		cfg.Log.Info("signing key made", "path", cfg.KeyPath)
	}
	cfg.seam(seamSigningKey)
	rotation, err := cfg.rotationKey(true)
	if err != nil {
		return nil, err
	}
	cfg.seam(seamRotationKey)
	id := cfg.identity("", key)
	id.Rotation = rotation
	op, err := cfg.genesis(id)
	if err != nil {
		return nil, err
	}
	did, err := op.DID()
	if err != nil {
		return nil, err
	}
	if stored != "" && stored.String() != did {
		return nil, fmt.Errorf("%w: %s says %s, %s makes %s; either keep the stored one and remove %s, or remove %s and be the other",
			ErrContradiction, cfg.didPath(), stored, genesisFile, did, cfg.path(genesisFile), cfg.didPath())
	}
	id.DID = syntax.DID(did)
	cfg.seam(seamGenesis)
	if err := cfg.store(id.DID); err != nil {
		return nil, err
	}
	cfg.seam(seamDID)
	cfg.Log.Info("did:plc made", "did", did, "rotation_key", cfg.RotationKeyPath)
	ctx, cancel := context.WithTimeout(ctx, plcTimeout)
	defer cancel()
	if err := cfg.plc().Submit(ctx, id.DID, op); err != nil {
		if errors.Is(err, ErrPLCRefused) { // it may be there already; EnsurePLCCurrent asks
			cfg.Log.Warn("the PLC directory did not take the new DID", "did", did, "error", err)
		} else {
			cfg.Log.Warn("the PLC directory can't be reached; the new DID is submitted later", "did", did, "error", err)
		}
	}
	cfg.seam(seamSubmitted)
	return id, nil
}

// genesis answers the stored genesis operation, or signs and stores one.
func (cfg *Config) genesis(id *Identity) (*didplc.RegularOp, error) {
	have, err := cfg.storedGenesis()
	if err != nil || have != nil {
		if err == nil {
			err = cfg.checkGenesis(have, id)
		}
		return have, err
	}
	pub, err := id.Rotation.PublicKey()
	if err != nil {
		return nil, fmt.Errorf("public rotation key: %w", err)
	}
	empty := didplc.RegularOp{Type: "plc_operation", RotationKeys: []string{pub.DIDKey()}, AlsoKnownAs: []string{},
		VerificationMethods: map[string]string{}, Services: map[string]didplc.OpService{}}
	op, err := id.wanted(empty, cfg.RecoveryDIDKey)
	if err != nil {
		return nil, err
	}
	if err := op.Sign(id.Rotation); err != nil {
		return nil, fmt.Errorf("signing the genesis operation: %w", err)
	}
	b, err := operationJSON(&op)
	if err != nil {
		return nil, err
	}
	if err := durable.CreateFile(cfg.path(genesisFile), append(b, '\n'), 0o644); err != nil {
		return nil, fmt.Errorf("storing the genesis operation: %w", err)
	}
	return &op, nil
}

// storedGenesis answers nil when there is none.
func (cfg *Config) storedGenesis() (*didplc.RegularOp, error) {
	b, err := os.ReadFile(cfg.path(genesisFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the genesis operation: %w", err)
	}
	op, err := parseGenesis(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w; restore it from a backup", cfg.path(genesisFile), err)
	}
	return op, nil
}

func parseGenesis(b []byte) (*didplc.RegularOp, error) {
	var op didplc.OpEnum
	if len(b) > 2*MaxPLCOperation {
		return nil, fmt.Errorf("%d bytes are no genesis operation", len(b))
	}
	if err := json.Unmarshal(b, &op); err != nil {
		return nil, fmt.Errorf("no PLC operation: %w", err)
	}
	if op.Regular == nil || !op.Regular.IsGenesis() {
		return nil, errors.New("the operation is no genesis")
	}
	if _, err := didplc.VerifySignatureAny(op.Regular, op.Regular.RotationKeys); err != nil {
		return nil, fmt.Errorf("its signature is no good: %w", err)
	}
	return op.Regular, nil
}

// checkGenesis: a genesis that nobody heard of must be of the keys that are here.
func (cfg *Config) checkGenesis(op *didplc.RegularOp, id *Identity) error {
	signing, err := id.Key.PublicKey()
	if err != nil {
		return err
	}
	rotation, err := id.Rotation.PublicKey()
	if err != nil {
		return err
	}
	if op.VerificationMethods[plcSigning] != signing.DIDKey() || !slices.Contains(op.RotationKeys, rotation.DIDKey()) {
		return cfg.genesisOfOthers()
	}
	return nil
}

func (cfg *Config) genesisOfOthers() error {
	return fmt.Errorf("%w: %s is of other keys than those at %s and %s; either restore its keys from a backup, or remove it to become somebody new",
		ErrContradiction, cfg.path(genesisFile), cfg.KeyPath, cfg.RotationKeyPath)
}

// rotationKey answers the configured key, or that of the file; nil without one, unless it is to be made.
func (cfg *Config) rotationKey(create bool) (atcrypto.PrivateKeyExportable, error) {
	if cfg.RotationKey != "" {
		key, err := ParseKey([]byte(cfg.RotationKey))
		if err != nil {
			return nil, fmt.Errorf("rotation_key: %w", err)
		}
		return key, nil
	}
	key, err := LoadKey(cfg.RotationKeyPath)
	if errors.Is(err, fs.ErrNotExist) {
		if !create {
			return nil, nil
		}
		if key, _, err = loadOrCreateKey(cfg.RotationKeyPath, cfg.KeyType); err == nil {
			cfg.Log.Info("rotation key made: keep a copy off this machine", "path", cfg.RotationKeyPath)
		}
	}
	return key, err
}

// loadPLC answers a did:plc that is stored, or configured for the first time.
func (cfg *Config) loadPLC(ctx context.Context, did syntax.DID, used known) (*Identity, error) {
	if genesis, err := cfg.storedGenesis(); err != nil {
		return nil, err
	} else if genesis != nil {
		if made, err := genesis.DID(); err == nil && made != did.String() {
			return nil, fmt.Errorf("%w: the DID is %s, %s makes %s; either remove that file and stay the first, or remove %s (and identity.did) and be the second",
				ErrContradiction, did, cfg.path(genesisFile), made, cfg.didPath())
		}
	}
	rotation, err := cfg.rotationKey(false)
	if err != nil {
		return nil, err
	}
	var key atcrypto.PrivateKeyExportable
	if !used {
		key, err = cfg.adopt(ctx, did, rotation)
	} else {
		key, err = cfg.finishRotations(ctx, did, &rotation)
		if err != nil {
			cfg.Log.Warn("a key rotation that was broken off can't be finished now; until it is, the new key is used if the directory named it just now, else the old one",
				"did", did, "error", err)
			err = nil
		}
		if key == nil {
			key, err = cfg.signingKey(did, true)
		}
	}
	if err != nil {
		return nil, err
	}
	if err := cfg.store(did); err != nil {
		return nil, err
	}
	id := cfg.identity(did, key)
	id.Rotation = rotation
	return id, nil
}

// adopt checks a did:plc that somebody made elsewhere. Without its signing key, but with a rotation key that may change it, it
// gets a new one.
func (cfg *Config) adopt(ctx context.Context, did syntax.DID, rotation atcrypto.PrivateKeyExportable) (atcrypto.PrivateKeyExportable, error) {
	log, err := cfg.plc().Log(ctx, did)
	switch {
	case errors.Is(err, ErrPLCUnavailable):
		return nil, fmt.Errorf("identity.did is configured for the first time, and whether it exists can't be asked: %w; start again when the directory answers", err)
	case err != nil:
		return nil, fmt.Errorf("identity.did: %w", err)
	case log.Tombstoned():
		return nil, fmt.Errorf("identity.did: %w: %s; remove identity.did to get a new DID, or undo the tombstone with a higher rotation key within 72 hours", ErrPLCTombstone, did)
	}
	ours := mayRotate(log, rotation)
	key, err := LoadKey(cfg.KeyPath)
	if errors.Is(err, fs.ErrNotExist) {
		if !ours {
			return nil, fmt.Errorf("%w: %s belongs to %s and is not there, nor is a rotation key that could set a new one at %s: put one of the two there",
				ErrKeyMissing, cfg.KeyPath, did, cfg.RotationKeyPath)
		}
		key, err = cfg.signingKey(did, false)
	}
	if err != nil {
		return nil, err
	}
	pub, err := key.PublicKey()
	if err != nil {
		return nil, err
	}
	state, err := plcState(log.Head())
	if err != nil {
		return nil, err
	}
	if !ours && state.VerificationMethods[plcSigning] != pub.DIDKey() {
		return nil, fmt.Errorf("identity.did: %w: the directory names %s as the signing key of %s, %s holds %s; put the right key there, or a rotation key of %s at %s",
			ErrNoRotationKey, state.VerificationMethods[plcSigning], did, cfg.KeyPath, pub.DIDKey(), did, cfg.RotationKeyPath)
	}
	cfg.Log.Info("did:plc taken over", "did", did, "ours_to_update", ours)
	return key, nil
}

// mayRotate reports whether a key is in the list of the DID's newest operation.
func mayRotate(log *PLCLog, rotation atcrypto.PrivateKey) bool {
	if rotation == nil {
		return false
	}
	pub, err := rotation.PublicKey()
	if err != nil {
		return false
	}
	return slices.Contains(log.Head().Operation.AsOperation().EquivalentRotationKeys(), pub.DIDKey())
}

// rememberLog keeps the newest verified log beside did.txt, after making sure that it goes on from the one kept before.
func (cfg *Config) rememberLog(log *PLCLog) error {
	old, err := cfg.rememberedLog(log.DID)
	if err != nil {
		return err
	}
	if old != nil {
		if err := log.continues(old); err != nil {
			return err
		}
		if len(old.Entries) == len(log.Entries) && old.Head().CID == log.Head().CID {
			return nil
		}
	}
	b, err := json.MarshalIndent(log.Entries, "", " ")
	if err != nil {
		return fmt.Errorf("keeping the PLC log: %w", err)
	}
	if err := durable.WriteFile(cfg.path(plcLogFile), append(b, '\n'), 0o644); err != nil {
		return fmt.Errorf("keeping the PLC log: %w", err)
	}
	return nil
}

// rememberedLog answers nil when there is none.
func (cfg *Config) rememberedLog(did syntax.DID) (*PLCLog, error) {
	b, err := os.ReadFile(cfg.path(plcLogFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the kept PLC log: %w", err)
	}
	log, err := ParsePLCLog(did, b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w; remove it, and it is fetched anew", filepath.Clean(cfg.path(plcLogFile)), err)
	}
	return log, nil
}
