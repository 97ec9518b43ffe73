package backup

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"filippo.io/age"
	"github.com/bluesky-social/indigo/atproto/syntax"

	"github.com/atcr-dev/atcr/identity"
	"github.com/atcr-dev/atcr/identity/internal/plclog"
	"github.com/atcr-dev/atcr/internal/durable"
)

// MaxFile is how long a backup may be once decrypted, in bytes.
const MaxFile = plclog.MaxLog + 1<<20

// Errors of Import.
var (
	// ErrDecrypt: the file is no age file, is damaged, or is for another passphrase or key.
	ErrDecrypt = errors.New("the backup can't be decrypted")
	// ErrFormat: what is in it is no identity.
	ErrFormat = errors.New("not a backup of an identity")
	// ErrOccupied: the folder holds another identity, or other keys.
	ErrOccupied = errors.New("the data folder is somebody else's")
)

const format = "atcr-identity-1"

// contents is what is encrypted.
type contents struct {
	Format  string            `json:"format"`
	DID     string            `json:"did"`
	Created time.Time         `json:"created"`
	Secrets map[string]string `json:"secrets"` // key files by their part in it
	Genesis json.RawMessage   `json:"genesis,omitempty"`
	Log     json.RawMessage   `json:"log,omitempty"`
	History []string          `json:"history,omitempty"` // of signing keys, as did:key, the newest last
}

// places of the key files. The rest of the map's keys are refused.
func places(cfg identity.Config) map[string]string {
	signing, rotation := cfg.KeyPath, cfg.RotationKeyPath
	if signing == "" {
		signing = filepath.Join(cfg.Dir, "keys", "signing.key")
	}
	if rotation == "" {
		rotation = filepath.Join(cfg.Dir, "keys", "rotation.key")
	}
	return map[string]string{"signing": signing, "signing.next": signing + ".next", "rotation": rotation,
		"rotation.next": rotation + ".next"}
}

const (
	didFile     = "did.txt"
	genesisFile = "genesis.json"
	logFile     = "plc-log.json"
)

// Export writes the identity of cfg.Dir, encrypted for the recipients. A rotation key that is kept elsewhere is in the file when it can be
// read; one that is missing is not. Errors: fs.ErrNotExist without an identity; those of identity.Load.
func Export(w io.Writer, cfg identity.Config, recipients ...age.Recipient) error {
	id, err := identity.Load(cfg)
	if err != nil {
		return fmt.Errorf("export: %w", err)
	}
	c := contents{Format: format, DID: id.DID.String(), Created: time.Now().UTC().Truncate(time.Second), Secrets: map[string]string{}}
	if cfg.Clock != nil {
		c.Created = cfg.Clock().UTC().Truncate(time.Second)
	}
	at := places(cfg)
	// A service that runs may give a new key its place meanwhile: that one is read first, so that none is missed.
	for _, name := range []string{"signing.next", "signing", "rotation.next", "rotation"} {
		key, err := plclog.LoadKey(at[name])
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("export: %w", err)
		}
		c.Secrets[name] = key.Multibase()
	}
	if id.Rotation != nil && (cfg.RotationKey != "" || c.Secrets["rotation"] == "") {
		c.Secrets["rotation"] = id.Rotation.Multibase()
	}
	if c.History, err = (&plclog.Folder{Dir: cfg.Dir}).KeyHistory(); err != nil {
		return fmt.Errorf("export: %w", err)
	}
	for name, to := range map[string]*json.RawMessage{genesisFile: &c.Genesis, logFile: &c.Log} {
		b, err := os.ReadFile(filepath.Join(cfg.Dir, name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("export: %w", err)
		}
		*to = b
	}
	plain, err := json.Marshal(c)
	if err != nil {
		return fmt.Errorf("export: %w", err)
	}
	enc, err := age.Encrypt(w, recipients...)
	if err != nil {
		return fmt.Errorf("export: %w", err)
	}
	if _, err := enc.Write(plain); err != nil {
		return fmt.Errorf("export: %w", err)
	}
	if err := enc.Close(); err != nil {
		return fmt.Errorf("export: %w", err)
	}
	return nil
}

// Import reads a backup and writes its identity into cfg.Dir, which is made when missing. A folder that holds the same identity is
// left with it. Call it while holding the folder's lock. Errors: ErrDecrypt; ErrFormat; ErrOccupied.
func Import(r io.Reader, cfg identity.Config, identities ...age.Identity) (syntax.DID, error) {
	c, did, err := open(r, identities)
	if err != nil {
		return "", fmt.Errorf("import: %w", err)
	}
	if err := c.write(cfg, did); err != nil {
		return "", fmt.Errorf("import: %w", err)
	}
	return did, nil
}

// parse reads and checks what was decrypted.
func parse(b []byte) (*contents, syntax.DID, error) {
	if len(b) > MaxFile {
		return nil, "", fmt.Errorf("it has more than %d bytes", MaxFile)
	}
	var c contents
	if err := json.Unmarshal(b, &c); err != nil {
		return nil, "", err
	}
	if c.Format != format {
		return nil, "", fmt.Errorf("its format is %.40q, this program reads %q", c.Format, format)
	}
	did, err := identity.NormalizeDID(c.DID)
	if err != nil {
		return nil, "", err
	}
	if c.Secrets["signing"] == "" {
		return nil, "", errors.New("it has no signing key")
	}
	known := places(identity.Config{})
	for name, secret := range c.Secrets {
		if known[name] == "" {
			return nil, "", fmt.Errorf("it has a key %.40q that this program does not know", name)
		}
		if _, err := plclog.ParseKey([]byte(secret)); err != nil {
			return nil, "", fmt.Errorf("key %s: %w", name, err)
		}
	}
	if _, err := plclog.ParseHistory([]byte(strings.Join(c.History, "\n"))); err != nil {
		return nil, "", fmt.Errorf("its history of signing keys: %w", err)
	}
	if absent(c.Genesis) {
		c.Genesis = nil
	} else if made, err := plclog.GenesisDID(c.Genesis); err != nil {
		return nil, "", err
	} else if made != did {
		return nil, "", fmt.Errorf("its genesis operation makes %s, its DID is %s", made, did)
	}
	if absent(c.Log) {
		c.Log = nil
	} else if _, err := plclog.ParseLog(did, c.Log); err != nil {
		return nil, "", err
	}
	return &c, did, nil
}

func absent(b json.RawMessage) bool { return len(b) == 0 || string(b) == "null" }

func (c *contents) write(cfg identity.Config, did syntax.DID) error {
	if err := durable.MkdirAll(cfg.Dir, 0o700); err != nil {
		return err
	}
	didPath := filepath.Join(cfg.Dir, didFile)
	if have, err := os.ReadFile(didPath); err == nil {
		if other, err := identity.NormalizeDID(string(have)); err != nil || other != did {
			return fmt.Errorf("%w: %s says %s, the backup is of %s; import into an empty folder, or move that file and the keys away",
				ErrOccupied, didPath, bytes.TrimSpace(have), did)
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	at := places(cfg)
	for name, secret := range c.Secrets { // look at all before writing any
		if have, err := plclog.LoadKey(at[name]); err == nil {
			if have.Multibase() != secret {
				return fmt.Errorf("%w: %s holds another key than the backup; move it away", ErrOccupied, at[name])
			}
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	for name, secret := range c.Secrets {
		if err := durable.ReplaceSecret(at[name], []byte(secret+"\n")); err != nil {
			return err
		}
	}
	if f := (&plclog.Folder{Dir: cfg.Dir, KeyPath: at["signing"], Log: slog.New(slog.DiscardHandler)}); len(c.History) > 0 {
		if have, err := f.KeyHistory(); err != nil || len(have) == 0 { // what is there may be newer
			if err := f.WriteHistory(c.History); err != nil {
				return err
			}
		}
	}
	for name, b := range map[string][]byte{genesisFile: c.Genesis, logFile: c.Log} {
		if len(b) == 0 {
			continue
		}
		if _, err := os.Stat(filepath.Join(cfg.Dir, name)); err == nil {
			continue // what is there may be newer
		}
		if err := durable.WriteFile(filepath.Join(cfg.Dir, name), append(bytes.TrimSpace(b), '\n'), 0o644); err != nil {
			return err
		}
	}
	return durable.WriteFile(didPath, []byte(did.String()+"\n"), 0o644)
}

func open(r io.Reader, identities []age.Identity) (*contents, syntax.DID, error) {
	dec, err := age.Decrypt(r, identities...)
	if err != nil {
		return nil, "", fmt.Errorf("%w: %w", ErrDecrypt, err)
	}
	plain, err := io.ReadAll(io.LimitReader(dec, MaxFile+1))
	if err != nil {
		return nil, "", fmt.Errorf("%w: %w", ErrDecrypt, err)
	}
	c, did, err := parse(plain)
	if err != nil {
		return nil, "", fmt.Errorf("%w: %w", ErrFormat, err)
	}
	return c, did, nil
}
