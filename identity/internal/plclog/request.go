package plclog

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

// A key rotation beside a process that runs as the identity: the new key is made durable and the directory is not asked.
// The running process sees the file (RotationRequested) and does the rest (CompleteRotations), since it alone knows from
// which moment on it signs with the new key.

// RequestSigningKey is the request of plc.Manager.RequestRotation.
func (f *Folder) RequestSigningKey(ctx context.Context, id *Self, kind string) (atcrypto.PublicKey, error) {
	return f.request(ctx, id, f.KeyPath, kind)
}

// RequestRotationKey is RequestSigningKey for the rotation key of a did:plc.
func (f *Folder) RequestRotationKey(ctx context.Context, id *Self, kind string) (atcrypto.PublicKey, error) {
	if err := errors.Join(id.PLCOnly(), f.replaceable(id)); err != nil {
		return nil, err
	}
	return f.request(ctx, id, f.RotationKeyPath, kind)
}

func (f *Folder) request(ctx context.Context, id *Self, path, keyType string) (atcrypto.PublicKey, error) {
	key, err := f.nextKey(ctx, id, path, keyType, Submit)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	if err := os.Chtimes(path+NextSuffix, now, now); err != nil && !errors.Is(err, fs.ErrNotExist) { // not there: it was faster than us
		return nil, fmt.Errorf("asking again for the rotation: %w", err)
	}
	return key.PublicKey()
}

// RotationRequested returns when a rotation that is not finished was requested, the zero time when there is none. It asks the folder alone.
func (f *Folder) RotationRequested(did syntax.DID) time.Time {
	var last time.Time
	for _, path := range f.keyPaths(did) {
		if st, err := os.Lstat(path + NextSuffix); err == nil && st.ModTime().After(last) {
			last = st.ModTime()
		}
	}
	return last
}

// keyPaths are the files of the keys that can be rotated.
func (f *Folder) keyPaths(did syntax.DID) []string {
	if did.Method() != "plc" {
		return []string{f.KeyPath}
	}
	return []string{f.KeyPath, f.RotationKeyPath}
}

// CompleteRotations is plc.Manager.CompleteRotations. It returns id itself when nothing has changed.
func (f *Folder) CompleteRotations(ctx context.Context, id *Self) (*Self, error) {
	fresh := *id
	if id.DID.Method() == "plc" {
		if err := f.takeOffered(ctx, id.DID); err != nil {
			return id, err
		}
	}
	if f.RotationRequested(id.DID).IsZero() {
		if err := f.takeFile(ctx, &fresh); err != nil || fresh.Key.Equal(id.Key) {
			return id, err
		}
		return &fresh, nil
	}
	err := f.finishFor(ctx, &fresh)
	if err == nil && !f.RotationRequested(id.DID).IsZero() {
		err = fmt.Errorf("%w: %s waits to take its place, and there is none at %s",
			ErrNoRotationKey, f.RotationKeyPath+NextSuffix, f.RotationKeyPath)
	}
	if err != nil {
		err = fmt.Errorf("the key rotation can't be finished now: %w", err)
	}
	if fresh.Key.Equal(id.Key) && SameKey(fresh.Rotation, id.Rotation) {
		return id, err
	}
	return &fresh, err
}

func (f *Folder) finishFor(ctx context.Context, id *Self) error {
	if id.DID.Method() != "plc" {
		if err := f.FinishWeb(ctx, id.DID); err != nil {
			return err
		}
		return f.takeFile(ctx, id)
	}
	rotation, err := f.ReadRotationKey(false)
	if err != nil {
		return err
	}
	if rotation == nil { // taken away after the start
		rotation = id.Rotation
	}
	key, err := f.FinishRotations(ctx, id.DID, &rotation)
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
	return f.takeFile(ctx, id)
}

// takeFile takes over the key in the signing key's file, when it is another than id has and the directory names it.
func (f *Folder) takeFile(ctx context.Context, id *Self) error {
	key, err := f.SigningKey(id.DID, true)
	if err != nil || key.Equal(id.Key) {
		return err
	}
	if err := f.CheckKey(key); err != nil {
		return err
	}
	if id.DID.Method() == "plc" {
		named, err := f.namesKey(ctx, id.DID, key)
		if err != nil {
			return fmt.Errorf("%s holds another key than the one in use, and which of them is right can't be told: %w", f.KeyPath, err)
		}
		if !named {
			return fmt.Errorf("%w: %s holds another key than the one in use, and the directory does not name it: put the right one back, "+
				"or start again to use the one in the file", ErrKeyFile, f.KeyPath)
		}
	}
	f.Log.Warn("the signing key's file has a new key, which is taken over", "did", id.DID, "path", f.KeyPath)
	f.noteKey()
	id.Key = key
	return nil
}

// namesKey reports whether the directory names key as the signing key.
func (f *Folder) namesKey(ctx context.Context, did syntax.DID, key atcrypto.PrivateKey) (bool, error) {
	log, err := f.ReadLog(ctx, did)
	if err != nil {
		return false, err
	}
	return log.names(key)
}

// names reports whether the newest state has key as the signing key.
func (l *Log) names(key atcrypto.PrivateKey) (bool, error) {
	pub, err := key.PublicKey()
	if err != nil {
		return false, err
	}
	state, err := State(l.Head())
	return err == nil && state.VerificationMethods[signingName] == pub.DIDKey(), err
}

// FinishWeb gives a did:web's new key, if there is one, the old one's name.
func (f *Folder) FinishWeb(ctx context.Context, did syntax.DID) error {
	_, err := LoadKey(f.KeyPath + NextSuffix)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = f.promote(ctx, f.KeyPath)
	}
	if err == nil {
		f.Log.Info("a rotation of the signing key is finished", "did", did)
	}
	return err
}

// SameKey reports whether two keys are the same, or both nil.
func SameKey(a, b atcrypto.PrivateKeyExportable) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	return a.Equal(b)
}
