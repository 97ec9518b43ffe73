package plclog

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/did-method-plc/go-didplc/didplc"

	"github.com/atcr-dev/atcr/internal/durable"
)

// genesis returns the stored genesis operation, or signs and stores one.
func (f *Folder) genesis(id *Self) (*didplc.RegularOp, error) {
	have, err := f.StoredGenesis()
	if err != nil || have != nil {
		if err == nil {
			err = f.checkGenesis(have, id)
		}
		return have, err
	}
	pub, err := id.Rotation.PublicKey()
	if err != nil {
		return nil, fmt.Errorf("public rotation key: %w", err)
	}
	empty := didplc.RegularOp{Type: "plc_operation", RotationKeys: []string{pub.DIDKey()}, AlsoKnownAs: []string{},
		VerificationMethods: map[string]string{}, Services: map[string]didplc.OpService{}}
	op, err := id.wanted(empty, f.RecoveryDIDKey)
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
	if err := durable.CreateFile(f.Path(GenesisFile), append(b, '\n'), 0o644); err != nil {
		return nil, fmt.Errorf("storing the genesis operation: %w", err)
	}
	return &op, nil
}

// StoredGenesis returns nil when there is none.
func (f *Folder) StoredGenesis() (*didplc.RegularOp, error) {
	b, err := os.ReadFile(f.Path(GenesisFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the genesis operation: %w", err)
	}
	op, err := parseGenesis(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w; restore it from a backup", f.Path(GenesisFile), err)
	}
	return op, nil
}

func parseGenesis(b []byte) (*didplc.RegularOp, error) {
	var op didplc.OpEnum
	if len(b) > 2*MaxOperation {
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
func (f *Folder) checkGenesis(op *didplc.RegularOp, id *Self) error {
	signing, err := id.Key.PublicKey()
	if err != nil {
		return err
	}
	rotation, err := id.Rotation.PublicKey()
	if err != nil {
		return err
	}
	if op.VerificationMethods[signingName] != signing.DIDKey() || !slices.Contains(op.RotationKeys, rotation.DIDKey()) {
		return f.genesisOfOthers()
	}
	return nil
}

func (f *Folder) genesisOfOthers() error {
	return fmt.Errorf("%w: %s is of other keys than those at %s and %s; either restore its keys from a backup, "+
		"or remove it to become somebody new", ErrContradiction, f.Path(GenesisFile), f.KeyPath, f.RotationKeyPath)
}

// CheckGenesis refuses a genesis.json that makes another DID. Errors: ErrContradiction.
func (f *Folder) CheckGenesis(did syntax.DID) error {
	genesis, err := f.StoredGenesis()
	if err != nil || genesis == nil {
		return err
	}
	if made, err := genesis.DID(); err == nil && made != did.String() {
		return fmt.Errorf("%w: the DID is %s, %s makes %s; either remove that file and stay the first, "+
			"or remove %s (and configure no other DID) and be the second", ErrContradiction, did, f.Path(GenesisFile), made, f.DIDPath())
	}
	return nil
}

// GenesisDID returns the DID that a signed genesis operation makes, as genesis.json holds one.
func GenesisDID(operation []byte) (syntax.DID, error) {
	op, err := parseGenesis(operation)
	if err != nil {
		return "", fmt.Errorf("genesis operation: %w", err)
	}
	did, err := op.DID()
	return syntax.DID(did), err
}
