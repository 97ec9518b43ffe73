package plclog

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

	"github.com/atcr-dev/atcr/internal/crashpoint"
	"github.com/atcr-dev/atcr/internal/durable"
)

// errNotPromoted: the directory names a key whose file could not get its name.
var errNotPromoted = errors.New("the new key's file could not get the old one's name")

// Rotating reports whether a key rotation is not finished.
func (f *Folder) Rotating() bool {
	for _, path := range []string{f.KeyPath, f.RotationKeyPath} {
		if _, err := os.Lstat(path + NextSuffix); err == nil {
			return true
		}
	}
	return false
}

// RotateSigningKey is the rotation of plc.Manager.Rotate. With the change it returns the new key once the directory names
// it, also beside an error: then the key's file could not get its name. Modes other than Submit return no key.
func (f *Folder) RotateSigningKey(ctx context.Context, id *Self, kind string, mode Mode) (atcrypto.PrivateKeyExportable, *Change, error) {
	web := id.DID.Method() != "plc"
	if web && mode == Unsigned {
		return nil, nil, id.PLCOnly()
	}
	key, err := f.nextKey(ctx, id, f.KeyPath, kind, mode)
	if err != nil {
		return nil, nil, err
	}
	var c *Change
	if web {
		c, err = f.rotateWeb(ctx, id, key, mode)
	} else {
		c, err = f.rotateSigning(ctx, id.DID, id.Rotation, key, mode)
	}
	named := !web && errors.Is(err, errNotPromoted)
	if err != nil && !named || mode != Submit {
		return nil, c, err
	}
	return key, c, err
}

// rotateWeb puts the new key where the old one was: the document is what the service shows.
func (f *Folder) rotateWeb(ctx context.Context, id *Self, key atcrypto.PrivateKey, mode Mode) (*Change, error) {
	old, err := id.Key.PublicKey()
	if err != nil {
		return nil, err
	}
	pub, err := key.PublicKey()
	if err != nil {
		return nil, err
	}
	c := &Change{DID: id.DID, Differences: []string{"key #" + signingName + ": " + old.DIDKey() + " -> " + pub.DIDKey()},
		Submitted: mode == Submit}
	if mode != Submit {
		return c, nil
	}
	return c, f.promote(ctx, f.KeyPath)
}

func (f *Folder) rotateSigning(ctx context.Context, did syntax.DID, rotation, key atcrypto.PrivateKey, mode Mode) (*Change, error) {
	pub, err := key.PublicKey()
	if err != nil {
		return nil, err
	}
	c, err := f.Apply(ctx, did, rotation, mode, func(log *Log) (didplc.Operation, []string, error) {
		return Next(log, func(now didplc.RegularOp) (didplc.RegularOp, error) {
			now.VerificationMethods = cloneWith(now.VerificationMethods, signingName, pub.DIDKey())
			return now, nil
		})
	})
	if err != nil || mode != Submit {
		return c, err
	}
	return c, f.promote(ctx, f.KeyPath)
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

// RotateRotationKey puts a new rotation key of ours in the old one's place in the list, by the same steps as [Folder.RotateSigningKey].
func (f *Folder) RotateRotationKey(
	ctx context.Context, id *Self, kind string, mode Mode,
) (atcrypto.PrivateKeyExportable, *Change, error) {
	if err := id.PLCOnly(); err != nil {
		return nil, nil, err
	}
	if err := f.replaceable(id); err != nil {
		return nil, nil, err
	}
	key, err := f.nextKey(ctx, id, f.RotationKeyPath, kind, mode)
	if err != nil {
		return nil, nil, err
	}
	c, err := f.rotateRotation(ctx, id.DID, id.Rotation, key, mode)
	if err != nil || mode != Submit {
		return nil, c, err
	}
	return key, c, nil
}

// replaceable: the rotation key is one in whose place another can be put.
func (f *Folder) replaceable(id *Self) error {
	if f.RotationKey != "" {
		return &ConfigError{"RotationKey", errors.New("the rotation key is a value of the configuration, where no new " +
			"one can be written: " +
			"put it into a file and configure that")}
	}
	if id.Rotation == nil {
		return fmt.Errorf("%w: there is none at %s", ErrNoRotationKey, f.RotationKeyPath)
	}
	return nil
}

func (f *Folder) rotateRotation(ctx context.Context, did syntax.DID, old, key atcrypto.PrivateKey, mode Mode) (*Change, error) {
	before, err := old.PublicKey()
	if err != nil {
		return nil, err
	}
	after, err := key.PublicKey()
	if err != nil {
		return nil, err
	}
	c, err := f.Apply(ctx, did, old, mode, func(log *Log) (didplc.Operation, []string, error) {
		return Next(log, func(now didplc.RegularOp) (didplc.RegularOp, error) {
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
	if err != nil || mode != Submit {
		return c, err
	}
	return c, f.promote(ctx, f.RotationKeyPath)
}

// nextKey returns the new key of a rotation: the one that an earlier try made, else a new one, durable.
func (f *Folder) nextKey(ctx context.Context, id *Self, path, kind string, mode Mode) (atcrypto.PrivateKeyExportable, error) {
	if mode == Submit && id.DID.Method() == "plc" {
		if err := f.takeOffered(ctx, id.DID); err != nil {
			return nil, err
		}
	}
	key, err := LoadKey(path + NextSuffix)
	if !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	if mode == Unsigned { // nothing is kept for a directory that can't be asked
		if _, err := f.ReadLog(ctx, id.DID); err != nil {
			return nil, err
		}
	}
	offered, err := LoadKey(path + OfferedSuffix)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	file := path + NextSuffix
	switch {
	case mode == Unsigned:
		file = path + OfferedSuffix
	case mode == DryRun && offered != nil:
		return offered, nil
	case mode == DryRun:
		return NewKey(kind)
	case offered != nil && id.Rotation == nil:
		return nil, fmt.Errorf("%w: %s waits for an operation that is signed elsewhere, which the directory does not have yet; submit "+
			"that first, or remove the file", ErrNoRotationKey, path+OfferedSuffix)
	case offered != nil: // it is ours to sign after all
		if err := durable.Rename(path+OfferedSuffix, file); err != nil {
			return nil, err
		}
	}
	key, _, err = LoadOrCreateKey(file, kind)
	if err == nil {
		f.sameOwner(file, path)
	}
	if errors.Is(err, fs.ErrExist) { // somebody else asks at this moment
		key, err = LoadKey(file)
	}
	_ = crashpoint.Reach(ctx, crashpoint.NextKeyDurable)
	return key, err
}

// sameOwner gives a key file that root made the owner of the one whose place it takes: the service runs as that user.
func (f *Folder) sameOwner(path, like string) {
	if err := durable.SameOwner(path, like); err != nil && !errors.Is(err, fs.ErrNotExist) {
		f.Log.Warn("a new key file has another owner than the old one, and a service that runs as that user can't read it: chown it",
			"path", path, "like", like, "error", err)
	}
}

// promote gives the new key the old one's name, and keeps the old one beside it. At each point both are on disk. Its errors
// are errNotPromoted.
func (f *Folder) promote(ctx context.Context, path string) error {
	_ = crashpoint.Reach(ctx, crashpoint.NextKeyConfirmed)
	if old, err := durable.ReadSecret(path); err == nil {
		if err := durable.WriteFile(path+OldSuffix, old, 0o600); err != nil {
			return fmt.Errorf("%w: keeping the old key: %w", errNotPromoted, err)
		}
		f.sameOwner(path+OldSuffix, path)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %w", errNotPromoted, err)
	}
	if err := durable.Rename(path+NextSuffix, path); err != nil {
		return fmt.Errorf("%w: %s can't be named %s: %w", errNotPromoted, path+NextSuffix, filepath.Base(path), err)
	}
	_ = crashpoint.Reach(ctx, crashpoint.NextKeyPromoted)
	if path == f.KeyPath {
		f.noteKey()
	}
	return nil
}

// noteKey has the history know the key that is in use now. When that fails the next start does it.
func (f *Folder) noteKey() {
	key, err := LoadKey(f.KeyPath)
	if err == nil {
		err = f.UseKey(key)
	}
	if err != nil {
		f.Log.Warn("the history of signing keys could not be written", "path", f.Path(HistoryFile), "error", err)
	}
}

// FinishRotations goes on with rotations that were broken off: it asks the directory which key it names. It returns the new
// signing key when the directory names it, also beside an error: then its file could not get its name. Without a rotation
// of the signing key it returns nil.
func (f *Folder) FinishRotations(
	ctx context.Context, did syntax.DID, rotation *atcrypto.PrivateKeyExportable,
) (atcrypto.PrivateKeyExportable, error) {
	if err := f.takeOffered(ctx, did); err != nil {
		return nil, err
	}
	if next, err := LoadKey(f.RotationKeyPath + NextSuffix); err == nil && *rotation != nil && f.RotationKey == "" {
		signer := *rotation
		log, err := f.ReadLog(ctx, did)
		if err != nil {
			return nil, err
		}
		if MayRotate(log, next) {
			if err := f.promote(ctx, f.RotationKeyPath); err != nil {
				return nil, err
			}
		} else if _, err := f.rotateRotation(ctx, did, signer, next, Submit); err != nil {
			return nil, err
		}
		*rotation = next
		f.Log.Info("a rotation of the rotation key is finished", "did", did)
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	next, err := LoadKey(f.KeyPath + NextSuffix)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	named, err := f.namesKey(ctx, did, next)
	if err != nil {
		return nil, err
	}
	if named {
		err = f.promote(ctx, f.KeyPath)
	} else {
		var signer atcrypto.PrivateKey
		if *rotation != nil {
			signer = *rotation
		}
		_, err = f.rotateSigning(ctx, did, signer, next, Submit)
	}
	if err != nil && !errors.Is(err, errNotPromoted) {
		return nil, err
	}
	if err == nil {
		f.Log.Info("a rotation of the signing key is finished", "did", did)
	}
	return next, err
}
