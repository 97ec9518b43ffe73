package plclog

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"

	"github.com/atcr-dev/atcr/internal/durable"
)

// Mode says how far a change goes.
type Mode int

const (
	Submit   Mode = iota // it is signed and submitted
	DryRun               // it is signed, and all that would refuse it is looked at; nobody gets the signature
	Unsigned             // it is for a rotation key that is kept elsewhere: a new key is kept, nothing is signed
)

// An operation that is signed elsewhere is submitted by others, or never. The new key that it names waits in a file of its own
// (OfferedSuffix), which asks nothing of a running process; once the directory names it, it is the key of a rotation that was broken off.

// takeOffered makes offered keys that the directory names those of a rotation that is to be finished.
func (f *Folder) takeOffered(ctx context.Context, did syntax.DID) error {
	var log *Log
	for _, path := range f.keyPaths(did) {
		key, err := LoadKey(path + OfferedSuffix)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if _, err := os.Lstat(path + NextSuffix); err == nil {
			continue // another rotation is under way
		}
		if log == nil {
			if log, err = f.ReadLog(ctx, did); err != nil {
				return fmt.Errorf("%s waits for an operation that is signed elsewhere, and whether it is there can't be told: %w",
					path+OfferedSuffix, err)
			}
		}
		if f.offeredIn(log, path, key) {
			if err := durable.Rename(path+OfferedSuffix, path+NextSuffix); err != nil {
				return err
			}
			f.Log.Info("the directory names a new key whose operation was signed elsewhere", "did", did, "path", path)
		}
	}
	return nil
}

// offeredIn reports whether the log's newest state names a key for what the file at path is for.
func (f *Folder) offeredIn(log *Log, path string, key atcrypto.PrivateKey) bool {
	if path == f.RotationKeyPath {
		return MayRotate(log, key)
	}
	named, err := log.names(key)
	return err == nil && named
}

// offeredNamed reports whether the log names the signing key of an operation that was signed elsewhere, which is not in use yet.
func (f *Folder) offeredNamed(log *Log) bool {
	key, err := LoadKey(f.KeyPath + OfferedSuffix)
	return err == nil && f.offeredIn(log, f.KeyPath, key)
}

// Offered returns the files of keys that wait for operations which are signed elsewhere.
func (f *Folder) Offered(did syntax.DID) (files []string) {
	for _, path := range f.keyPaths(did) {
		if _, err := os.Lstat(path + OfferedSuffix); err == nil {
			files = append(files, path+OfferedSuffix)
		}
	}
	return files
}
