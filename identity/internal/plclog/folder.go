package plclog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"

	"github.com/atcr-dev/atcr"
	"github.com/atcr-dev/atcr/internal/durable"
	"github.com/atcr-dev/atcr/internal/httpx"
)

// Names of files in a data folder. Keys can lie elsewhere.
const (
	DIDFile      = "did.txt"
	KeyFile      = "keys/signing.key"
	RotationFile = "keys/rotation.key"
	GenesisFile  = "genesis.json"
	LogFile      = "plc-log.json"
	HistoryFile  = "keys/history" // the public halves of the signing keys that were in use, the newest last

	NextSuffix = ".next" // a key that a rotation made and the directory has not confirmed
	OldSuffix  = ".old"  // the key before a rotation, until the next one

	OfferedSuffix = ".offered" // a key that waits for an operation which is signed elsewhere
)

// DefaultURL is the public did:plc directory.
const DefaultURL = "https://plc.directory"

const timeout = 10 * time.Second // of one exchange with the directory

// Folder is the data folder of a service with a DID, and the directory that a did:plc is in. Its fields are as in
// identity.Config. Open it before use.
type Folder struct {
	Dir             string
	KeyPath         string
	KeyType         string
	RotationKeyPath string
	RotationKey     string
	RecoveryDIDKey  string
	PLCURL          string
	TestMode        bool
	AcceptKey       bool
	HTTP            *http.Client
	Clock           func() time.Time
	Log             *slog.Logger

	ownClient bool // HTTP was made by Open, with the address guard
}

// Open checks the fields and sets those that are empty. It reads and writes nothing. Errors: [ConfigError].
func (f Folder) Open() (*Folder, error) {
	if f.Log == nil {
		f.Log = slog.Default()
	}
	if f.Clock == nil {
		f.Clock = time.Now
	}
	if f.Dir == "" {
		return nil, &ConfigError{"Dir", errors.New("the data folder is missing")}
	}
	f.fillPaths()
	if err := checkKind(f.KeyType); err != nil {
		return nil, &ConfigError{"KeyType", err}
	}
	if f.RecoveryDIDKey != "" {
		if _, err := atcrypto.ParsePublicDIDKey(f.RecoveryDIDKey); err != nil {
			return nil, &ConfigError{"RecoveryDIDKey", NoPublicKey(f.RecoveryDIDKey)}
		}
	}
	if f.PLCURL != "" {
		if u, err := url.Parse(f.PLCURL); err != nil || u.Hostname() == "" || u.Scheme != "https" && u.Scheme != "http" {
			return nil, &ConfigError{"PLCURL", fmt.Errorf("%q is no address of a directory: write it as %s", Clip(f.PLCURL), DefaultURL)}
		}
	}
	if f.HTTP == nil {
		guard := httpx.Guard{Loopback: f.TestMode}
		if f.TestMode {
			guard.Hosts = httpx.HostsOf(f.PLCURL)
		}
		f.HTTP = httpx.NewClient(httpx.ClientOptions{Guard: guard, Timeout: timeout, PublicBodies: true, UserAgent: "atcr"})
		f.ownClient = true
	}
	return &f, nil
}

func (f *Folder) fillPaths() {
	if f.KeyPath == "" {
		f.KeyPath = f.Path(KeyFile)
	}
	if f.RotationKeyPath == "" {
		f.RotationKeyPath = f.Path(RotationFile)
	}
}

// Path returns where a file of the data folder lies.
func (f *Folder) Path(name string) string { return filepath.Join(f.Dir, filepath.FromSlash(name)) }

// DIDPath returns where did.txt lies.
func (f *Folder) DIDPath() string { return f.Path(DIDFile) }

func (f *Folder) client() *Client { return &Client{URL: f.PLCURL, HTTP: f.HTTP} }

// CheckDirectory refuses a directory at an address that the client's guard forbids, as far as that can be told without asking for
// its name. Errors: ErrForbidden in a [ConfigError].
func (f *Folder) CheckDirectory(ctx context.Context) error {
	guard := httpx.Guard{Loopback: f.TestMode}
	if f.TestMode {
		guard.Hosts = httpx.HostsOf(f.PLCURL)
	}
	err := guard.CheckURL(f.PLCURL)
	if err == nil {
		return nil
	}
	if !f.ownClient { // the caller's client may have a guard that allows it, or none
		ctx, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		req, reqErr := http.NewRequestWithContext(ctx, http.MethodHead, f.PLCURL, nil)
		if reqErr != nil {
			return reqErr
		}
		resp, doErr := f.HTTP.Do(req)
		if doErr == nil {
			httpx.Drain(resp)
		}
		if err = doErr; !errors.Is(err, httpx.ErrForbiddenAddress) {
			return nil
		}
	}
	return f.forbidden(err)
}

// forbidden gives an error of the address guard the remedy; others stay as they are.
func (f *Folder) forbidden(err error) error {
	var have *ConfigError
	if !errors.Is(err, httpx.ErrForbiddenAddress) || errors.As(err, &have) {
		return err
	}
	if !errors.Is(err, ErrForbidden) {
		err = fmt.Errorf("%w: %w", ErrForbidden, err)
	}
	where := f.PLCURL
	if where == "" {
		where = DefaultURL
	}
	return &ConfigError{"PLCURL", fmt.Errorf("%w: the directory %s can't be used: give the address of a public one, "+
		"or allow loopback and this host by test mode", err, Clip(where))}
}

// StoredDID returns the DID of did.txt, empty when there is none.
func (f *Folder) StoredDID() (syntax.DID, error) {
	b, err := os.ReadFile(f.DIDPath())
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("reading the stored DID: %w", err)
	}
	did, err := atcr.NormalizeDID(string(b))
	if err != nil {
		return "", fmt.Errorf("%s: %w; restore the file from a backup", f.DIDPath(), err)
	}
	return syntax.DID(did), nil
}

// StoreDID writes did.txt when it is not there.
func (f *Folder) StoreDID(did syntax.DID) error {
	err := durable.CreateFile(f.DIDPath(), []byte(did.String()+"\n"), 0o644)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("storing the DID: %w", err)
	}
	return nil
}

// SigningKey returns the key of the file. When the DID was in use before the key must be there; else one is made. Errors: ErrKeyMissing;
// those of [LoadKey].
func (f *Folder) SigningKey(did syntax.DID, used bool) (atcrypto.PrivateKeyExportable, error) {
	if used {
		key, err := LoadKey(f.KeyPath)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("%w: %s belongs to %s and is not there: restore it from a backup", ErrKeyMissing, f.KeyPath, did)
		}
		return key, err
	}
	key, created, err := LoadOrCreateKey(f.KeyPath, f.KeyType)
	if created {
		f.Log.Info("signing key made", "path", f.KeyPath, "did", did)
	}
	return key, err
}

// ReadRotationKey returns the configured key, or that of the file; nil without one, unless it is to be made.
func (f *Folder) ReadRotationKey(create bool) (atcrypto.PrivateKeyExportable, error) {
	if f.RotationKey != "" {
		key, err := ParseKey([]byte(f.RotationKey))
		if err != nil {
			return nil, &ConfigError{"RotationKey", err}
		}
		return key, nil
	}
	key, err := LoadKey(f.RotationKeyPath)
	if errors.Is(err, fs.ErrNotExist) {
		if !create {
			return nil, nil
		}
		if key, _, err = LoadOrCreateKey(f.RotationKeyPath, f.KeyType); err == nil {
			f.Log.Info("rotation key made: keep a copy off this machine", "path", f.RotationKeyPath)
		}
	}
	return key, err
}

// ReadLog fetches the log, makes sure that it goes on from the one kept, and keeps it.
func (f *Folder) ReadLog(ctx context.Context, did syntax.DID) (*Log, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	log, err := f.client().Log(ctx, did)
	switch {
	case errors.Is(err, ErrNotFound) && !f.Registered(did):
		return nil, fmt.Errorf("%w, and has never been seen there: the next start of the service, or "+
			"identity.EnsurePLCCurrent, submits it", err)
	case err != nil:
		return nil, f.forbidden(err)
	}
	return log, f.Remember(log)
}

// Remember keeps the newest verified log beside did.txt, after making sure that it goes on from the one kept before.
func (f *Folder) Remember(log *Log) error {
	old, err := f.RememberedLog(log.DID)
	if err != nil {
		return err
	}
	if old != nil {
		if err := log.continues(old); err != nil {
			return err
		}
		if len(old.Entries) == len(log.Entries) && old.Head().CID == log.Head().CID {
			return nil
		}
	}
	b, err := json.MarshalIndent(log.Entries, "", " ")
	if err != nil {
		return fmt.Errorf("keeping the PLC log: %w", err)
	}
	if err := durable.WriteFile(f.Path(LogFile), append(b, '\n'), 0o644); err != nil {
		return fmt.Errorf("keeping the PLC log: %w", err)
	}
	return nil
}

// RememberedLog returns the log as the directory showed it last, nil when it never did.
func (f *Folder) RememberedLog(did syntax.DID) (*Log, error) {
	b, err := os.ReadFile(f.Path(LogFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the kept PLC log: %w", err)
	}
	log, err := ParseLog(did, b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w; remove it, and it is fetched anew", filepath.Clean(f.Path(LogFile)), err)
	}
	return log, nil
}

// Registered reports whether the directory has shown the log of did once. A did:web needs no directory.
func (f *Folder) Registered(did syntax.DID) bool {
	if did.Method() != "plc" {
		return true
	}
	log, err := f.RememberedLog(did)
	return err == nil && log != nil
}
