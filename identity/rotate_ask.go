package identity

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"
)

// A key rotation beside a process that runs as the identity: the new key is made durable and the directory is not asked. The running process sees the
// file (RotationAsked) and does the rest (FinishRotations), since it alone knows from which moment on it signs with the new key.

// AskSigningKey asks the process that runs as id for a new signing key: it makes the key durable, beside the one in use, and answers its
// public half. A rotation that was not finished is asked for again, with the key that it made. keyType is as for
// [RotateSigningKey], whose dry run tells beforehand what would be done. It is done when [Load] answers the key.
func AskSigningKey(cfg Config, keyType string) (atcrypto.PublicKey, error) {
	if err := cfg.fill(); err != nil {
		return nil, err
	}
	return cfg.ask(cfg.KeyPath, keyType)
}

// AskRotationKey is AskSigningKey for the rotation key of a did:plc. Errors: [ErrNoRotationKey], and what [RotateRotationKey] refuses.
func AskRotationKey(id *Identity, cfg Config, keyType string) (atcrypto.PublicKey, error) {
	if err := cfg.fill(); err != nil {
		return nil, err
	}
	if err := errors.Join(plcOnly(id), cfg.replaceable(id)); err != nil {
		return nil, err
	}
	return cfg.ask(cfg.RotationKeyPath, keyType)
}

func (cfg *Config) ask(path, keyType string) (atcrypto.PublicKey, error) {
	key, err := cfg.nextKey(path, keyType, false)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	if err := os.Chtimes(path+nextSuffix, now, now); err != nil && !errors.Is(err, fs.ErrNotExist) { // not there: it was faster than us
		return nil, fmt.Errorf("asking again for the rotation: %w", err)
	}
	return key.PublicKey()
}

// RotationAsked answers when a rotation that is not finished was asked for, the zero time when there is none. It asks the folder alone, which
// costs microseconds.
func RotationAsked(id *Identity, cfg Config) time.Time {
	cfg.fillPaths()
	var last time.Time
	for _, path := range cfg.keyPaths(id.DID) {
		if st, err := os.Lstat(path + nextSuffix); err == nil && st.ModTime().After(last) {
			last = st.ModTime()
		}
	}
	return last
}

// keyPaths are the files of the keys that can be rotated.
func (cfg *Config) keyPaths(did syntax.DID) []string {
	if did.Method() != "plc" {
		return []string{cfg.KeyPath}
	}
	return []string{cfg.KeyPath, cfg.RotationKeyPath}
}

// FinishRotations goes on with rotations that were asked for or broken off, for the process that runs as id, and answers the identity that has the
// new keys: id itself when there was nothing to do. The rotation key is read again, so that one which is kept elsewhere may be put in its
// place for the moment; the answer has it only when id has one. Sign and announce with a new signing key afterwards (repo.Repo.Rekey). It
// may do a part and fail: then it answers what is done, and an error.
//
// It also compares the signing key's file with id: a key that was given the name by somebody else, or by a try that failed just then, is taken
// over when the directory names it (of a did:web always). Don't call EnsurePLCCurrent with what it answers beside an error, except
// ErrPLCNotFound and ErrNoRotationKey: it could bring the old key back.
//
// Errors: those of [EnsurePLCCurrent]; [ErrNoRotationKey]; ErrKeyMissing; ErrKeyPermissions; ErrKeyFile, also for a file with a key that neither
// id has nor the directory names. After each of them it can be called again.
func FinishRotations(ctx context.Context, id *Identity, cfg Config) (*Identity, error) {
	if err := cfg.fill(); err != nil {
		return id, err
	}
	fresh := *id
	if RotationAsked(id, cfg).IsZero() {
		if err := cfg.takeFile(ctx, &fresh); err != nil || fresh.Key.Equal(id.Key) {
			return id, err
		}
		return &fresh, nil
	}
	err := cfg.finishFor(ctx, &fresh)
	if err == nil && !RotationAsked(id, cfg).IsZero() {
		err = fmt.Errorf("%w: %s waits to take its place, and there is none at %s", ErrNoRotationKey, cfg.RotationKeyPath+nextSuffix, cfg.RotationKeyPath)
	}
	if err != nil {
		err = fmt.Errorf("the key rotation can't be finished now: %w", err)
	}
	if fresh.Key.Equal(id.Key) && sameKey(fresh.Rotation, id.Rotation) {
		return id, err
	}
	return &fresh, err
}

func (cfg *Config) finishFor(ctx context.Context, id *Identity) error {
	if id.DID.Method() != "plc" {
		if err := cfg.finishWeb(id.DID); err != nil {
			return err
		}
		return cfg.takeFile(ctx, id)
	}
	rotation, err := cfg.rotationKey(false)
	if err != nil {
		return err
	}
	if rotation == nil { // taken away after the start
		rotation = id.Rotation
	}
	key, err := cfg.finishRotations(ctx, id.DID, &rotation)
	if id.Rotation != nil { // else it is there for the moment
		id.Rotation = rotation
	}
	if key != nil {
		id.Key = key
		return err
	}
	if err != nil {
		return err
	}
	return cfg.takeFile(ctx, id)
}

// takeFile takes over the key in the signing key's file, when it is another than id has and the directory names it.
func (cfg *Config) takeFile(ctx context.Context, id *Identity) error {
	key, err := cfg.signingKey(id.DID, true)
	if err != nil || key.Equal(id.Key) {
		return err
	}
	if id.DID.Method() == "plc" {
		named, err := cfg.namesKey(ctx, id.DID, key)
		if err != nil {
			return fmt.Errorf("%s holds another key than the one in use, and which of them is right can't be told: %w", cfg.KeyPath, err)
		}
		if !named {
			return fmt.Errorf("%w: %s holds another key than the one in use, and the directory does not name it: put the right one back, or start again to use the one in the file",
				ErrKeyFile, cfg.KeyPath)
		}
	}
	cfg.Log.Warn("the signing key's file has a new key, which is taken over", "did", id.DID, "path", cfg.KeyPath)
	id.Key = key
	return nil
}

// namesKey reports whether the directory names key as the signing key.
func (cfg *Config) namesKey(ctx context.Context, did syntax.DID, key atcrypto.PrivateKey) (bool, error) {
	pub, err := key.PublicKey()
	if err != nil {
		return false, err
	}
	log, err := cfg.readLog(ctx, did)
	if err != nil {
		return false, err
	}
	state, err := plcState(log.Head())
	return err == nil && state.VerificationMethods[plcSigning] == pub.DIDKey(), err
}

// finishWeb gives a did:web's new key, if there is one, the old one's name.
func (cfg *Config) finishWeb(did syntax.DID) error {
	_, err := LoadKey(cfg.KeyPath + nextSuffix)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = cfg.promote(cfg.KeyPath)
	}
	if err == nil {
		cfg.Log.Info("a rotation of the signing key is finished", "did", did)
	}
	return err
}

func sameKey(a, b atcrypto.PrivateKeyExportable) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	return a.Equal(b)
}
