package identity

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"

	"github.com/atcr-dev/atcr/internal/durable"
	"github.com/atcr-dev/atcr/internal/httpx"
)

// Errors of [LoadOrCreateDID].
var (
	// ErrContradiction: the configured DID is not the one on disk.
	ErrContradiction = errors.New("configured DID differs from the stored one")
	// ErrKeyMissing: a DID is known but its key is not on disk.
	ErrKeyMissing = errors.New("signing key missing")
)

// Names of files in [Config.Dir].
const (
	didFile      = "did.txt"
	keyFile      = "keys/signing.key"
	rotationFile = "keys/rotation.key"
	genesisFile  = "genesis.json"
	plcLogFile   = "plc-log.json"
	nextSuffix   = ".next" // a key that a rotation made and the directory has not confirmed
)

// Config says who a service of ours is. Dir and PublicURL are required.
type Config struct {
	// Dir is the data folder. did.txt lies in it, and by default the keys.
	Dir string
	// PublicURL is where others reach the service, for example https://hold.example.com.
	PublicURL string
	// Method is "web" (also when empty) or "plc"; it matters only when a DID is made.
	Method string
	// DID is a DID to take instead of making one; empty is the stored one, or a new one.
	DID string
	// KeyPath is the signing key's file; empty is keys/signing.key in Dir.
	KeyPath string
	// KeyType is of keys that are made: "k256" (also when empty) or "p256".
	KeyType string

	// PLCURL is the did:plc directory; empty is [DefaultPLCURL].
	PLCURL string
	// RotationKeyPath is the file of the key that may change a did:plc; empty is keys/rotation.key in Dir. It may lie
	// elsewhere, and be missing: then the service runs, and warns of what it can't change.
	RotationKeyPath string
	// RotationKey is that key itself, as [ParseKey] reads it, in place of a file: for a value of the environment.
	RotationKey string
	// RecoveryDIDKey is a public key (did:key:…) of the operator's that stands above ours in a did:plc's rotation list, and so
	// may undo what ours does, within 72 hours. Empty is none.
	RecoveryDIDKey string
	// HTTP asks the directory; nil is a client with the address guard, opened under TestMode for loopback and PLCURL's host.
	HTTP *http.Client
	// Clock tells the time; nil is time.Now.
	Clock func() time.Time
	// Seam is called at the points of [Seams]; nil in production.
	Seam func(name string)

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
	return []Service{{"atcr_hold", "AtcrHoldService"}, {"atproto_pds", "AtprotoPersonalDataServer"}}
}

// Identity is the identity of a service of ours. It does not change and is safe for concurrent use.
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
}

// Is reports whether a DID names this service, in any spelling (see [SameDID]).
func (id *Identity) Is(did syntax.DID) bool { return SameDID(id.DID, did, id.TestMode) }

// Audiences answers what a service token for this service may have as its audience: each spelling of the DID, bare and with
// the fragment of each service.
func (id *Identity) Audiences() []string {
	var all []string
	for _, did := range Spellings(id.DID, id.TestMode) {
		all = append(all, did.String())
		for _, s := range id.Services {
			all = append(all, did.String()+"#"+s.ID)
		}
	}
	return all
}

// LoadOrCreateDID answers the service's identity: the configured DID, else that of did.txt, else a new one by Method: a did:web of
// the public URL, or a did:plc as [CreatePLCIdentity] makes it. What it makes is on disk (keys first, then did.txt) before it
// returns; a second start finds the same. Call it while holding the folder's lock.
//
// The network is asked only about a did:plc: one that is new is submitted (a directory that is down is no error, see
// [EnsurePLCCurrent]), one that is configured for the first time must be in the directory, and a key rotation that
// was broken off is finished.
//
// Errors: ErrContradiction when configuration and disk name different DIDs; ErrKeyMissing; ErrKeyPermissions; ErrKeyFile; for
// a did:plc configured for the first time ErrPLCNotFound, ErrPLCTombstone, ErrPLCLog, ErrPLCUnavailable.
func LoadOrCreateDID(ctx context.Context, cfg Config) (*Identity, error) {
	if err := cfg.fill(); err != nil {
		return nil, err
	}
	did, known, err := cfg.chooseDID()
	if err != nil {
		return nil, err
	}
	switch {
	case did == "":
		return CreatePLCIdentity(ctx, cfg)
	case did.Method() == "plc":
		return cfg.loadPLC(ctx, did, known)
	}
	if err := cfg.finishWeb(did); err != nil {
		cfg.Log.Warn("a key rotation that was broken off can't be finished now; the old key is used until it is", "did", did, "error", err)
	}
	key, err := cfg.signingKey(did, known)
	if err != nil {
		return nil, err
	}
	if err := cfg.store(did); err != nil {
		return nil, err
	}
	id := cfg.identity(did, key)
	cfg.warnAddress(id)
	return id, nil
}

// fill sets defaults.
func (cfg *Config) fill() error {
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	if cfg.Dir == "" {
		return errors.New("identity: the data folder is not set")
	}
	cfg.fillPaths()
	if cfg.RecoveryDIDKey != "" {
		if _, err := atcrypto.ParsePublicDIDKey(cfg.RecoveryDIDKey); err != nil {
			return fmt.Errorf("recovery_did_key %q: it is a public key like did:key:z…: %w", clip(cfg.RecoveryDIDKey), err)
		}
	}
	if cfg.HTTP == nil {
		guard := httpx.Guard{Loopback: cfg.TestMode}
		if cfg.TestMode {
			guard.Hosts = httpx.HostsOf(cfg.PLCURL)
		}
		cfg.HTTP = httpx.NewClient(httpx.ClientOptions{Guard: guard, Timeout: plcTimeout, UserAgent: "atcr"})
	}
	return nil
}

func (cfg *Config) fillPaths() {
	if cfg.KeyPath == "" {
		cfg.KeyPath = cfg.path(keyFile)
	}
	if cfg.RotationKeyPath == "" {
		cfg.RotationKeyPath = cfg.path(rotationFile)
	}
}

func (cfg *Config) path(name string) string { return filepath.Join(cfg.Dir, filepath.FromSlash(name)) }

func (cfg *Config) identity(did syntax.DID, key atcrypto.PrivateKeyExportable) *Identity {
	id := &Identity{
		DID: did, Key: key, PublicURL: strings.TrimRight(cfg.PublicURL, "/"),
		Services: cfg.Services, TestMode: cfg.TestMode,
	}
	id.Handle = handleOf(id.PublicURL)
	return id
}

// known says that a DID was in use before: then its key must be there.
type known bool

// chooseDID answers the DID that is there; an empty one is a did:plc to be made.
func (cfg *Config) chooseDID() (syntax.DID, known, error) {
	stored, err := cfg.storedDID()
	if err != nil {
		return "", false, err
	}
	if cfg.DID != "" {
		did, err := NormalizeDID(cfg.DID)
		if err != nil {
			return "", false, fmt.Errorf("identity.did: %w", err)
		}
		if stored != "" && !SameDID(stored, did, cfg.TestMode) {
			return "", false, fmt.Errorf("%w: identity.did is %s, %s says %s; either set identity.did to the stored one (or remove it), "+
				"or, to become the configured one and leave the old one's records behind, remove that file",
				ErrContradiction, did, cfg.didPath(), stored)
		}
		if stored == "" {
			return did, false, nil
		}
	}
	if stored != "" {
		if m := cfg.Method; m != "" && m != stored.Method() && cfg.DID == "" {
			cfg.Log.Warn("did_method is for a new DID only; the stored one stays. Set did_method to its method, or start on an empty data folder to be somebody new",
				"did_method", m, "did", stored)
		}
		return stored, true, nil
	}
	switch cfg.Method {
	case "", "web":
		did, err := WebDID(cfg.PublicURL, cfg.TestMode)
		return did, false, err
	case "plc":
		return "", false, nil
	}
	return "", false, fmt.Errorf("did_method %q: it is web or plc", clip(cfg.Method))
}

func (cfg *Config) didPath() string { return cfg.path(didFile) }

func (cfg *Config) storedDID() (syntax.DID, error) {
	b, err := os.ReadFile(cfg.didPath())
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("reading the stored DID: %w", err)
	}
	did, err := NormalizeDID(string(b))
	if err != nil {
		return "", fmt.Errorf("%s: %w; restore the file from a backup", cfg.didPath(), err)
	}
	return did, nil
}

func (cfg *Config) signingKey(did syntax.DID, used known) (atcrypto.PrivateKeyExportable, error) {
	if used {
		key, err := LoadKey(cfg.KeyPath)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("%w: %s belongs to %s and is not there: restore it from a backup", ErrKeyMissing, cfg.KeyPath, did)
		}
		return key, err
	}
	key, created, err := loadOrCreateKey(cfg.KeyPath, cfg.KeyType)
	if created {
		cfg.Log.Info("signing key made", "path", cfg.KeyPath, "did", did)
	}
	return key, err
}

// store writes did.txt when it is not there.
func (cfg *Config) store(did syntax.DID) error {
	err := durable.CreateFile(cfg.didPath(), []byte(did.String()+"\n"), 0o644)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("storing the DID: %w", err)
	}
	return nil
}

// warnAddress tells of a did:web that others will ask at another host than the public URL's.
func (cfg *Config) warnAddress(id *Identity) {
	if id.DID.Method() != "web" {
		return
	}
	if now, err := WebDID(id.PublicURL, cfg.TestMode); err != nil || !id.Is(now) {
		cfg.Log.Warn("the public URL is not the did:web's host: others find this service only if that host still leads here",
			"did", id.DID, "public_url", id.PublicURL)
	}
}

func handleOf(publicURL string) syntax.Handle {
	u, err := url.Parse(publicURL)
	if err != nil || hasPort(u) {
		return ""
	}
	h, err := syntax.ParseHandle(strings.ToLower(u.Hostname()))
	if err != nil || !h.AllowedTLD() {
		return ""
	}
	return h
}
