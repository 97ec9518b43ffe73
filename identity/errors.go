package identity

import "github.com/atcr-dev/atcr/identity/internal/plclog"

// ConfigError says which field of a [Config] is wrong and why: Field is its name, as in "Method", Err the reason and what
// can be done. Functions return a *ConfigError, wrapped or not; find it with errors.As. A program with a configuration of its own
// names its own key in place of the field.
type ConfigError = plclog.ConfigError

// Errors of a service's identity.
var (
	// ErrContradiction: the configured DID is not the one on disk, or files of the data folder are of different identities.
	ErrContradiction = plclog.ErrContradiction
	// ErrKeyMissing: a DID is known but its key is not on disk.
	ErrKeyMissing = plclog.ErrKeyMissing
	// ErrKeyPermissions: a key file or its folder can be read or written by others.
	ErrKeyPermissions = plclog.ErrKeyPermissions
	// ErrKeyFile: a key file holds no key.
	ErrKeyFile = plclog.ErrKeyFile
	// ErrKeyReplaced: the signing key is one that a newer one has followed: see [Config.AcceptKey].
	ErrKeyReplaced = plclog.ErrKeyReplaced
)

// Errors of a did:plc.
var (
	// ErrPLCUnavailable: the directory can't be reached or fails; trying again later helps.
	ErrPLCUnavailable = plclog.ErrUnavailable
	// ErrPLCForbidden: the address guard of [Config.HTTP] refuses the directory's address. Trying again does not help: see [Config.PLCURL].
	ErrPLCForbidden = plclog.ErrForbidden
	// ErrPLCNotFound: the directory has no such DID.
	ErrPLCNotFound = plclog.ErrNotFound
	// ErrPLCLog: what the directory showed is not this DID's log: another's, forked, or badly signed.
	ErrPLCLog = plclog.ErrLog
	// ErrPLCTombstone: the DID was given up.
	ErrPLCTombstone = plclog.ErrTombstone
	// ErrPLCRefused: an operation that the directory or this package refuses, with the reason.
	ErrPLCRefused = plclog.ErrRefused
	// ErrPLCRace: others changed the DID each time this package tried to.
	ErrPLCRace = plclog.ErrRace
	// ErrNoRotationKey: our rotation key is missing, or not in the DID's list.
	ErrNoRotationKey = plclog.ErrNoRotationKey
)
