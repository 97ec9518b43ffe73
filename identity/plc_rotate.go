package identity

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/did-method-plc/go-didplc/didplc"

	"github.com/atcr-dev/atcr/internal/durable"
)

const oldSuffix = ".old" // the key before a rotation, until the next one

// errNotPromoted: the directory names a key whose file could not get its name.
var errNotPromoted = errors.New("the new key's file could not get the old one's name")

// rotating reports whether a key rotation is not finished.
func (cfg *Config) rotating() bool {
	for _, path := range []string{cfg.KeyPath, cfg.RotationKeyPath} {
		if _, err := os.Lstat(path + nextSuffix); err == nil {
			return true
		}
	}
	return false
}

// RotateSigningKey gives a service a new signing key and answers the identity that has it. The new key is on disk, beside the old one,
// before the directory is asked; it gets the old one's name when the directory shows it. Broken off at any point, it is finished by calling it
// again, by [FinishRotations] or by [LoadOrCreateDID]. Sign a commit with the new key and announce it afterwards (repo.Repo.Rekey, Resign).
// Beside a process that runs as this identity, ask that one instead ([AskSigningKey]).
// keyType is "k256" (also when empty) or "p256". A dry run changes nothing and writes nothing, and answers no identity. A did:web has no operation: the
// document shows the new key as soon as the service serves the identity that is answered (a hold that runs does so at once, hold.Server.RotateSigningKey).
//
// Errors: those of [EnsurePLCCurrent], and ErrNoRotationKey. Beside an error there may be an identity: then the directory names the new key, whose
// file could not get the old one's name. Use it; FinishRotations tries again.
func RotateSigningKey(ctx context.Context, id *Identity, cfg Config, keyType string, dryRun bool) (*Identity, *PLCChange, error) {
	if err := cfg.fill(); err != nil {
		return nil, nil, err
	}
	key, err := cfg.nextKey(cfg.KeyPath, keyType, dryRun)
	if err != nil {
		return nil, nil, err
	}
	rotate := cfg.rotateSigning
	if id.DID.Method() != "plc" {
		rotate = func(context.Context, syntax.DID, atcrypto.PrivateKey, atcrypto.PrivateKey, bool) (*PLCChange, error) {
			return cfg.rotateWeb(id, key, dryRun)
		}
	}
	c, err := rotate(ctx, id.DID, id.Rotation, key, dryRun)
	named := id.DID.Method() == "plc" && errors.Is(err, errNotPromoted)
	if err != nil && !named || dryRun {
		return nil, c, err
	}
	fresh := *id
	fresh.Key = key
	return &fresh, c, err
}

// rotateWeb puts the new key where the old one was: the document is what the service shows.
func (cfg *Config) rotateWeb(id *Identity, key atcrypto.PrivateKey, dryRun bool) (*PLCChange, error) {
	old, err := id.Key.PublicKey()
	if err != nil {
		return nil, err
	}
	pub, err := key.PublicKey()
	if err != nil {
		return nil, err
	}
	c := &PLCChange{DID: id.DID, Differences: []string{"key #" + plcSigning + ": " + old.DIDKey() + " -> " + pub.DIDKey()}, Submitted: !dryRun}
	if dryRun {
		return c, nil
	}
	return c, cfg.promote(cfg.KeyPath)
}

func (cfg *Config) rotateSigning(ctx context.Context, did syntax.DID, rotation, key atcrypto.PrivateKey, dryRun bool) (*PLCChange, error) {
	pub, err := key.PublicKey()
	if err != nil {
		return nil, err
	}
	c, err := cfg.change(ctx, did, rotation, dryRun, func(log *PLCLog) (didplc.Operation, []string, error) {
		return next(log, func(now didplc.RegularOp) (didplc.RegularOp, error) {
			now.VerificationMethods = cloneWith(now.VerificationMethods, plcSigning, pub.DIDKey())
			return now, nil
		})
	})
	if err != nil || dryRun {
		return c, err
	}
	return c, cfg.promote(cfg.KeyPath)
}

func cloneWith(m map[string]string, key, value string) map[string]string {
	c := map[string]string{key: value}
	for k, v := range m {
		if k != key {
			c[k] = v
		}
	}
	return c
}

// RotateRotationKey puts a new rotation key of ours in the old one's place in the list, by the same steps as [RotateSigningKey].
func RotateRotationKey(ctx context.Context, id *Identity, cfg Config, keyType string, dryRun bool) (*Identity, *PLCChange, error) {
	if err := cfg.fill(); err != nil {
		return nil, nil, err
	}
	if err := plcOnly(id); err != nil {
		return nil, nil, err
	}
	if err := cfg.replaceable(id); err != nil {
		return nil, nil, err
	}
	key, err := cfg.nextKey(cfg.RotationKeyPath, keyType, dryRun)
	if err != nil {
		return nil, nil, err
	}
	c, err := cfg.rotateRotation(ctx, id.DID, id.Rotation, key, dryRun)
	if err != nil || dryRun {
		return nil, c, err
	}
	fresh := *id
	fresh.Rotation = key
	return &fresh, c, nil
}

// replaceable: the rotation key is one in whose place another can be put.
func (cfg *Config) replaceable(id *Identity) error {
	if cfg.RotationKey != "" {
		return errors.New("the rotation key is a value of the configuration, where no new one can be written: put it into a file, name that in rotation_key_path, and empty rotation_key")
	}
	if id.Rotation == nil {
		return fmt.Errorf("%w: there is none at %s", ErrNoRotationKey, cfg.RotationKeyPath)
	}
	return nil
}

func (cfg *Config) rotateRotation(ctx context.Context, did syntax.DID, old, key atcrypto.PrivateKey, dryRun bool) (*PLCChange, error) {
	before, err := old.PublicKey()
	if err != nil {
		return nil, err
	}
	after, err := key.PublicKey()
	if err != nil {
		return nil, err
	}
	c, err := cfg.change(ctx, did, old, dryRun, func(log *PLCLog) (didplc.Operation, []string, error) {
		return next(log, func(now didplc.RegularOp) (didplc.RegularOp, error) {
			if slices.Contains(now.RotationKeys, after.DIDKey()) {
				return now, nil
			}
			at := slices.Index(now.RotationKeys, before.DIDKey())
			if at < 0 {
				return now, fmt.Errorf("%w: %s is not in the list of %s", ErrNoRotationKey, before.DIDKey(), did)
			}
			now.RotationKeys = slices.Clone(now.RotationKeys)
			now.RotationKeys[at] = after.DIDKey()
			return now, nil
		})
	})
	if err != nil || dryRun {
		return c, err
	}
	return c, cfg.promote(cfg.RotationKeyPath)
}

// nextKey answers the new key of a rotation: the one that an earlier try made, else a new one, durable.
func (cfg *Config) nextKey(path, kind string, dryRun bool) (atcrypto.PrivateKeyExportable, error) {
	key, err := LoadKey(path + nextSuffix)
	if !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	if dryRun {
		return newKey(kind)
	}
	key, _, err = loadOrCreateKey(path+nextSuffix, kind)
	if err == nil {
		cfg.sameOwner(path+nextSuffix, path)
	}
	if errors.Is(err, fs.ErrExist) { // somebody else asks at this moment
		key, err = LoadKey(path + nextSuffix)
	}
	cfg.seam(seamNextKey)
	return key, err
}

// sameOwner gives a key file that root made the owner of the one whose place it takes: the service runs as that user.
func (cfg *Config) sameOwner(path, like string) {
	if err := durable.SameOwner(path, like); err != nil && !errors.Is(err, fs.ErrNotExist) {
		cfg.Log.Warn("a new key file has another owner than the old one, and a service that runs as that user can't read it: chown it", "path", path, "like", like, "error", err)
	}
}

// promote gives the new key the old one's name, and keeps the old one beside it. At each point both are on disk. Its errors are errNotPromoted.
func (cfg *Config) promote(path string) error {
	cfg.seam(seamNextConfirmed)
	if old, err := readSecret(path); err == nil {
		if err := durable.WriteFile(path+oldSuffix, old, 0o600); err != nil {
			return fmt.Errorf("%w: keeping the old key: %w", errNotPromoted, err)
		}
		cfg.sameOwner(path+oldSuffix, path)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %w", errNotPromoted, err)
	}
	if err := durable.Rename(path+nextSuffix, path); err != nil {
		return fmt.Errorf("%w: %s can't be named %s: %w", errNotPromoted, path+nextSuffix, filepath.Base(path), err)
	}
	cfg.seam(seamNextPromoted)
	return nil
}

// finishRotations goes on with rotations that were broken off: it asks the directory which key it names. It answers the new signing key when the
// directory names it, also beside an error: then its file could not get its name. Without a rotation of the signing key it answers nil.
func (cfg *Config) finishRotations(ctx context.Context, did syntax.DID, rotation *atcrypto.PrivateKeyExportable) (atcrypto.PrivateKeyExportable, error) {
	if next, err := LoadKey(cfg.RotationKeyPath + nextSuffix); err == nil && *rotation != nil && cfg.RotationKey == "" {
		signer := *rotation
		log, err := cfg.readLog(ctx, did)
		if err != nil {
			return nil, err
		}
		if mayRotate(log, next) {
			if err := cfg.promote(cfg.RotationKeyPath); err != nil {
				return nil, err
			}
		} else if _, err := cfg.rotateRotation(ctx, did, signer, next, false); err != nil {
			return nil, err
		}
		*rotation = next
		cfg.Log.Info("a rotation of the rotation key is finished", "did", did)
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	next, err := LoadKey(cfg.KeyPath + nextSuffix)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	named, err := cfg.namesKey(ctx, did, next)
	if err != nil {
		return nil, err
	}
	if named {
		err = cfg.promote(cfg.KeyPath)
	} else {
		var signer atcrypto.PrivateKey
		if *rotation != nil {
			signer = *rotation
		}
		_, err = cfg.rotateSigning(ctx, did, signer, next, false)
	}
	if err != nil && !errors.Is(err, errNotPromoted) {
		return nil, err
	}
	if err == nil {
		cfg.Log.Info("a rotation of the signing key is finished", "did", did)
	}
	return next, err
}
