package identity

import (
	"context"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"

	"github.com/atcr-dev/atcr/identity/internal/plclog"
)

// CreatePLCIdentity makes a did:plc: a signing key, a rotation key and a genesis operation that names both, the public
// URL's services and its host as handle. Keys, genesis.json and then did.txt are on disk before the operation is submitted.
// A directory that is down is no error: [EnsurePLCCurrent] submits what is not there, and [Identity.Registered] is false
// until then. Called again, also after a crash at any point, it returns the same DID.
//
// Errors: [ConfigError]; ErrContradiction when the folder holds another DID or a genesis of other keys; ErrKeyPermissions; ErrKeyFile;
// ErrKeyReplaced; ErrPLCForbidden; ErrPLCRefused for a genesis that no directory would take.
func CreatePLCIdentity(ctx context.Context, cfg Config) (*Identity, error) {
	f, err := cfg.open()
	if err != nil {
		return nil, err
	}
	id := cfg.identity("", nil)
	self := id.self()
	if id.Registered, err = f.Create(ctx, self); err != nil {
		return nil, err
	}
	id.DID, id.Key, id.Rotation = self.DID, self.Key, self.Rotation
	return id, nil
}

// loadPLC returns a did:plc that is stored, or configured for the first time.
func (cfg *Config) loadPLC(ctx context.Context, f *plclog.Folder, did syntax.DID, known bool) (*Identity, error) {
	if err := f.CheckDirectory(ctx); err != nil {
		return nil, err
	}
	if err := f.CheckGenesis(did); err != nil {
		return nil, err
	}
	rotation, err := f.ReadRotationKey(false)
	if err != nil {
		return nil, err
	}
	var key atcrypto.PrivateKeyExportable
	var log *plclog.Log
	if !known {
		if key, log, err = f.Adopt(ctx, did, rotation); err == nil {
			err = f.UseKey(key)
		}
	} else {
		key, err = f.FinishRotations(ctx, did, &rotation)
		if err != nil {
			f.Log.Warn("a key rotation that was broken off can't be finished now; until it is, the new key is used "+
				"if the directory named it just now, else the old one", "did", did, "error", err)
			err = nil
		}
		if key == nil { // else the history has it, once the file does
			if key, err = f.SigningKey(did, true); err == nil {
				err = f.UseKey(key)
			}
		}
	}
	if err != nil {
		return nil, err
	}
	if err := f.StoreDID(did); err != nil {
		return nil, err
	}
	if log != nil {
		if err := f.Remember(log); err != nil {
			return nil, err
		}
	}
	id := cfg.identity(did, key)
	id.Rotation = rotation
	id.Registered = f.Registered(did)
	return id, nil
}

// self is what an operation names of id.
func (id *Identity) self() *plclog.Self {
	s := &plclog.Self{DID: id.DID, Key: id.Key, Rotation: id.Rotation, PublicURL: id.PublicURL, Handle: id.Handle}
	for _, service := range id.Services {
		s.Services = append(s.Services, plclog.Service(service))
	}
	return s
}

// PLCStatus is what a look at the directory found.
type PLCStatus struct {
	// Log is the verified log: a plc.Log of package plc below this one.
	Log *plclog.Log
	// Drift are the differences between the directory and what this service is, before an update: "what: theirs -> ours".
	Drift []string
	// Updated reports that an operation was submitted.
	Updated bool
	// MayUpdate reports whether our rotation key is in the list.
	MayUpdate bool
}

// EnsurePLCCurrent brings a did:plc's entry in the directory in line with id: the signing key, the handle, its services, and
// a configured recovery key. It reads the uncached log, verifies it, and on a difference submits one update, which keeps every
// rotation key, service, verification method and alias that isn't ours; the differences are logged first. When
// somebody else updates at the same moment the log is read again. A genesis that the directory never took is submitted.
//
// Without a rotation key that may update, differences are logged as a warning and returned in Drift: that is no error.
// While a key rotation is not finished nothing is changed. A did:web has nothing to do: nil, nil.
//
// Errors: ErrPLCUnavailable (go on, and try again later); ErrPLCForbidden; ErrPLCNotFound; ErrPLCTombstone; ErrPLCLog; ErrPLCRefused;
// ErrPLCRace. None of them makes id unusable.
func EnsurePLCCurrent(ctx context.Context, id *Identity, cfg Config) (*PLCStatus, error) {
	if id.DID.Method() != "plc" {
		return nil, nil
	}
	f, err := cfg.open()
	if err != nil {
		return nil, err
	}
	status, err := f.EnsureCurrent(ctx, id.self())
	return (*PLCStatus)(status), err
}
