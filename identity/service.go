package identity

import (
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"

	"github.com/atcr-dev/atcr/identity/internal/plclog"
)

// Config says who a service is, and where its identity is kept. Dir and PublicURL are required.
type Config struct {
	// Dir is the data folder. did.txt lies in it, and by default the keys.
	Dir string
	// PublicURL is where others reach the service, for example https://hold.example.com.
	PublicURL string
	// Method is "web" (also when empty) or "plc". It is for a DID that is made; one that differs from the stored DID's is logged.
	Method string
	// DID is a DID to take instead of making one; empty is the stored one, or a new one. One that differs from the stored one is refused.
	DID string
	// KeyPath is the signing key's file; empty is keys/signing.key in Dir.
	KeyPath string
	// KeyType is of keys that are made: "k256" (also when empty) or "p256".
	KeyType string

	// PLCURL is the did:plc directory; empty is [DefaultPLCURL]. The address guard of HTTP refuses one on loopback or in a
	// private network, unless TestMode is set.
	PLCURL string
	// RotationKeyPath is the file of the key that may change a did:plc; empty is keys/rotation.key in Dir. It may lie
	// elsewhere, and be missing: then the service runs, and warns of what it can't change.
	RotationKeyPath string
	// RotationKey is that key itself, in any form that a key file may have, in place of a file: for a value of the environment.
	RotationKey string
	// RecoveryDIDKey is a public key (did:key:…) of the operator's that stands above ours in a did:plc's rotation list, and so
	// may undo what ours does, within 72 hours. Empty is none.
	RecoveryDIDKey string
	// AcceptKey takes a signing key that a newer one has followed (keys/history in Dir) and makes it the newest; otherwise it is
	// refused. Set it for one start.
	AcceptKey bool
	// HTTP asks the directory; nil is a client with the address guard, opened under TestMode for loopback and PLCURL's host.
	HTTP *http.Client
	// Clock returns the time; nil is time.Now.
	Clock func() time.Time

	// Services stand in the DID document, with PublicURL as their address. See [HoldServices].
	Services []Service
	// TestMode allows loopback names with ports, and http.
	TestMode bool
	Log      *slog.Logger // nil: slog.Default()
}

// Service is an entry of a DID document: ID is the fragment without its #.
type Service struct{ ID, Type string }

// HoldServices are the two services of a hold. Readers look for the first, and fall back to the second.
func HoldServices() []Service {
	return []Service{{"atcr_hold", "AtcrHoldService"}, {servicePDS, "AtprotoPersonalDataServer"}}
}

const servicePDS = "atproto_pds"

// Identity is the identity of a service. It does not change and is safe for concurrent use.
type Identity struct {
	DID syntax.DID
	// Key signs commits and service tokens; in the DID document it is #atproto.
	Key atcrypto.PrivateKeyExportable
	// Rotation is the did:plc rotation key; nil without one.
	Rotation  atcrypto.PrivateKeyExportable
	PublicURL string // without a slash at its end
	// Handle is the public URL's host, or empty when that can be no handle: an address, a name with a port.
	Handle   syntax.Handle
	Services []Service
	TestMode bool
	// Registered reports whether others can find the DID: the directory has shown the log of a did:plc at least once. A did:web needs no
	// directory: true. While it is false, [EnsurePLCCurrent] submits what the directory does not have; nil from it says
	// that it is there now.
	Registered bool
}

// Is reports whether a DID names this service, in any spelling: under test mode the spellings of loopback with one port are one host.
func (id *Identity) Is(did syntax.DID) bool { return sameDID(id.DID, did, id.TestMode) }

// Audiences returns what a service token for this service may have as its audience: each spelling of the DID, bare and with
// the fragment of each service but atproto_pds. That one stands for the repository alone, by which a PDS means itself.
func (id *Identity) Audiences() []string {
	var all []string
	for _, did := range spellings(id.DID, id.TestMode) {
		all = append(all, did.String())
		for _, s := range id.Services {
			if s.ID != servicePDS {
				all = append(all, did.String()+"#"+s.ID)
			}
		}
	}
	return all
}

// LoadOrCreateDID returns the service's identity: the configured DID, else that of did.txt, else a new one by Method: a did:web of
// the public URL, or a did:plc as [CreatePLCIdentity] makes it. What it makes is on disk (keys first, then did.txt) before it
// returns; a second start finds the same. One process at a time may call it for a folder: hold.New and appview.New lock theirs
// first; other programs see to it themselves.
//
// The network is asked only about a did:plc: one that is new is submitted (a directory that is down is no error, see
// [Identity.Registered] and [EnsurePLCCurrent]), one that is configured for the first time must be in the directory, and a
// key rotation that was broken off is finished.
//
// Errors: a [ConfigError] for a field that is wrong; ErrContradiction when configuration and disk name different DIDs; ErrKeyMissing;
// ErrKeyPermissions; ErrKeyFile; ErrKeyReplaced; for a did:plc ErrPLCForbidden; for one that is configured for the first time
// ErrPLCNotFound, ErrPLCTombstone, ErrPLCLog, ErrPLCUnavailable.
func LoadOrCreateDID(ctx context.Context, cfg Config) (*Identity, error) {
	f, err := cfg.open()
	if err != nil {
		return nil, err
	}
	did, known, err := cfg.chooseDID(f)
	if err != nil {
		return nil, err
	}
	switch {
	case did == "":
		return CreatePLCIdentity(ctx, cfg)
	case did.Method() == "plc":
		return cfg.loadPLC(ctx, f, did, known)
	}
	if err := f.FinishWeb(ctx, did); err != nil {
		f.Log.Warn("a key rotation that was broken off can't be finished now; the old key is used until it is", "did", did, "error", err)
	}
	key, err := f.SigningKey(did, known)
	if err != nil {
		return nil, err
	}
	if err := f.UseKey(key); err != nil {
		return nil, err
	}
	if err := f.StoreDID(did); err != nil {
		return nil, err
	}
	id := cfg.identity(did, key)
	id.Registered = true
	if now, err := WebDID(id.PublicURL, cfg.TestMode); err != nil || !id.Is(now) {
		f.Log.Warn("the public URL is not the did:web's host: others find this service only if that host still leads here",
			"did", id.DID, "public_url", id.PublicURL)
	}
	return id, nil
}

// noIdentityError is fs.ErrNotExist, and says what to do in place of "file does not exist".
type noIdentityError struct{ path string }

func (e noIdentityError) Error() string {
	return "there is no identity at " + e.path + " yet: start the service once, or import one"
}

func (noIdentityError) Is(target error) bool { return target == fs.ErrNotExist }

// Load returns the stored identity, makes nothing and asks nobody. Errors: fs.ErrNotExist when the folder holds no DID yet; [ConfigError];
// ErrKeyMissing; ErrKeyPermissions; ErrKeyFile; ErrKeyReplaced; ErrContradiction.
func Load(cfg Config) (*Identity, error) {
	f, err := cfg.open()
	if err != nil {
		return nil, err
	}
	stored, err := f.StoredDID()
	if err != nil {
		return nil, err
	}
	if stored == "" {
		return nil, noIdentityError{f.DIDPath()}
	}
	did, _, err := cfg.chooseDID(f)
	if err != nil {
		return nil, err
	}
	key, err := f.SigningKey(did, true)
	if err != nil {
		return nil, err
	}
	if err := f.CheckKey(key); err != nil {
		return nil, err
	}
	id := cfg.identity(did, key)
	if did.Method() == "plc" {
		if id.Rotation, err = f.ReadRotationKey(false); err != nil {
			return nil, err
		}
	}
	id.Registered = f.Registered(did)
	return id, nil
}

// SigningKeys returns the signing keys that have been in use in a folder (keys/history), as did:key, the newest last; none where none was
// noted yet. Errors: [ConfigError]; ErrKeyFile for what is no list of keys.
func SigningKeys(cfg Config) ([]string, error) {
	f, err := cfg.open()
	if err != nil {
		return nil, err
	}
	return f.KeyHistory()
}

// Check looks at a configuration before a start, without making or asking anything: it returns the DID that the service
// would have (empty for a did:plc that is still to be made), and why others could not use it as a name. Errors are those of
// [LoadOrCreateDID] for a configuration.
func Check(cfg Config) (did syntax.DID, warnings []string, err error) {
	f, err := cfg.open()
	if err != nil {
		return "", nil, err
	}
	if did, _, err = cfg.chooseDID(f); err != nil {
		return "", nil, err
	}
	return did, plclog.NameWarnings(did, cfg.PublicURL, cfg.TestMode), nil
}

// open checks the configuration and sets defaults.
func (cfg *Config) open() (*plclog.Folder, error) {
	return plclog.Folder{
		Dir: cfg.Dir, KeyPath: cfg.KeyPath, KeyType: cfg.KeyType, RotationKeyPath: cfg.RotationKeyPath, RotationKey: cfg.RotationKey,
		RecoveryDIDKey: cfg.RecoveryDIDKey, PLCURL: cfg.PLCURL, TestMode: cfg.TestMode, AcceptKey: cfg.AcceptKey,
		HTTP: cfg.HTTP, Clock: cfg.Clock, Log: cfg.Log,
	}.Open()
}

func (cfg *Config) identity(did syntax.DID, key atcrypto.PrivateKeyExportable) *Identity {
	id := &Identity{
		DID: did, Key: key, PublicURL: strings.TrimRight(cfg.PublicURL, "/"),
		Services: cfg.Services, TestMode: cfg.TestMode,
	}
	id.Handle = plclog.HandleOf(id.PublicURL)
	return id
}

// chooseDID returns the DID that is there, and whether it was in use before: then its key must be there. An empty one is a
// did:plc to be made.
func (cfg *Config) chooseDID(f *plclog.Folder) (did syntax.DID, known bool, err error) {
	stored, err := f.StoredDID()
	if err != nil {
		return "", false, err
	}
	if cfg.DID != "" {
		did, err := NormalizeDID(cfg.DID)
		if err != nil {
			return "", false, &ConfigError{Field: "DID", Err: err}
		}
		if stored != "" && !sameDID(stored, did, cfg.TestMode) {
			err := fmt.Errorf("%w: it is %s, %s says %s; either set it to the stored one (or leave it empty), "+
				"or, to become the configured one and leave the old one's records behind, remove that file",
				ErrContradiction, did, f.DIDPath(), stored)
			return "", false, &ConfigError{Field: "DID", Err: err}
		}
		if stored == "" {
			return did, false, nil
		}
	}
	if stored != "" {
		if m := cfg.Method; m != "" && m != stored.Method() && cfg.DID == "" {
			f.Log.Warn("the configured DID method is for a new DID only; the stored one stays. Configure its method, "+
				"or start on an empty data folder to be somebody new", "method", m, "did", stored)
		}
		return stored, true, nil
	}
	switch cfg.Method {
	case "", "web":
		did, err := WebDID(cfg.PublicURL, cfg.TestMode)
		if err != nil {
			err = &ConfigError{Field: "PublicURL", Err: err}
		}
		return did, false, err
	case "plc":
		return "", false, nil
	}
	return "", false, &ConfigError{Field: "Method", Err: fmt.Errorf("%q is neither web nor plc", plclog.Clip(cfg.Method))}
}
