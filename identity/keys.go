package identity

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/bluesky-social/indigo/atproto/atcrypto"

	"github.com/atcr-dev/atcr/internal/durable"
)

// Errors of key files.
var (
	// ErrKeyPermissions: a key file or its folder can be read or written by others.
	ErrKeyPermissions = errors.New("key file permissions")
	// ErrKeyFile: a key file holds no key.
	ErrKeyFile = errors.New("key file unreadable")
)

const maxKeyFile = 16 << 10 // an RSA key of 4096 bits has some 3 KiB as PEM

// ParseKey reads a private key as key files hold it: multibase text ("z…", P-256 or K-256), which is what we write; PEM of either
// curve (SEC 1 or PKCS #8, as openssl writes); or a K-256 key as 32 raw bytes or 64 hex digits, as other programs do.
func ParseKey(b []byte) (atcrypto.PrivateKeyExportable, error) {
	text := strings.TrimSpace(string(b))
	switch {
	case len(b) == 32:
		return keyOr(atcrypto.ParsePrivateBytesK256(b))
	case len(text) == 64:
		raw, err := hex.DecodeString(text)
		if err != nil {
			return nil, fmt.Errorf("%w: 64 characters that are not hex", ErrKeyFile)
		}
		return keyOr(atcrypto.ParsePrivateBytesK256(raw))
	case strings.HasPrefix(text, "-----BEGIN "):
		return parsePEM([]byte(text))
	case strings.HasPrefix(text, "z") && len(text) < 128:
		k, err := atcrypto.ParsePrivateMultibase(text)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrKeyFile, err)
		}
		return k, nil
	}
	return nil, fmt.Errorf("%w: expected multibase text (z…), PEM, 32 bytes or 64 hex digits", ErrKeyFile)
}

func keyOr(k *atcrypto.PrivateKeyK256, err error) (atcrypto.PrivateKeyExportable, error) {
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKeyFile, err)
	}
	return k, nil
}

// LoadKey reads a key file. One that others may read, or that lies in a folder others may write to, is refused.
// Errors: fs.ErrNotExist, ErrKeyPermissions, ErrKeyFile.
func LoadKey(path string) (atcrypto.PrivateKeyExportable, error) {
	b, err := readSecret(path)
	if err != nil {
		return nil, err
	}
	k, err := ParseKey(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return k, nil
}

// LoadOrCreateKey is [LoadKey], and makes a K-256 key when the file does not exist: mode 0600, durable before it returns;
// a missing folder is made with mode 0700. It tells whether the key is new.
func LoadOrCreateKey(path string) (key atcrypto.PrivateKeyExportable, created bool, err error) {
	return loadOrCreateKey(path, "")
}

func loadOrCreateKey(path, kind string) (key atcrypto.PrivateKeyExportable, created bool, err error) {
	key, err = LoadKey(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return key, false, err
	}
	fresh, err := newKey(kind)
	if err != nil {
		return nil, false, err
	}
	if err := writeSecret(path, []byte(fresh.Multibase()+"\n")); err != nil {
		return nil, false, fmt.Errorf("writing key %s: %w", path, err)
	}
	return fresh, true, nil
}

// newKey makes a key: "k256" (also when empty) or "p256".
func newKey(kind string) (key atcrypto.PrivateKeyExportable, err error) {
	switch strings.ToLower(kind) {
	case "", "k256":
		key, err = atcrypto.GeneratePrivateKeyK256()
	case "p256":
		key, err = atcrypto.GeneratePrivateKeyP256()
	default:
		return nil, fmt.Errorf("key type %q: it is k256 or p256", clip(kind))
	}
	if err != nil {
		return nil, fmt.Errorf("making a key: %w", err)
	}
	return key, nil
}

// writeSecret makes a file that must not exist yet.
func writeSecret(path string, b []byte) error {
	if err := durable.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return durable.CreateFile(path, b, 0o600)
}

// readSecret reads a small file that only its owner may read.
func readSecret(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if st.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%w: %s has mode %#o, others may read it: chmod 600 %s", ErrKeyPermissions, path, st.Mode().Perm(), path)
	}
	dir := filepath.Dir(path)
	if d, err := os.Stat(dir); err == nil && d.Mode().Perm()&0o022 != 0 && d.Mode()&fs.ModeSticky == 0 {
		return nil, fmt.Errorf("%w: the folder of %s has mode %#o, others may put another key there: chmod 700 %s", ErrKeyPermissions, path, d.Mode().Perm(), dir)
	}
	if st.Size() > maxKeyFile {
		return nil, fmt.Errorf("%w: %s has %d bytes", ErrKeyFile, path, st.Size())
	}
	b := make([]byte, st.Size())
	n, err := f.ReadAt(b, 0)
	if n < len(b) {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	return b, nil
}

// LoadOrCreateSecret reads a file that only its owner may read, by the rules of [LoadKey], and makes it from fresh when it does
// not exist, as [LoadOrCreateKey] does. For secrets that are no signing keys of an identity.
func LoadOrCreateSecret(path string, fresh func() ([]byte, error)) (secret []byte, created bool, err error) {
	secret, err = readSecret(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return secret, false, err
	}
	if secret, err = fresh(); err != nil {
		return nil, false, fmt.Errorf("making %s: %w", path, err)
	}
	if err := writeSecret(path, secret); err != nil {
		return nil, false, fmt.Errorf("writing %s: %w", path, err)
	}
	return secret, true, nil
}

// ReplaceSecret writes such a file, over an older one if there is one; durable before it returns.
func ReplaceSecret(path string, secret []byte) error {
	if err := durable.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	if err := durable.WriteFile(path, secret, 0o600); err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return nil
}
