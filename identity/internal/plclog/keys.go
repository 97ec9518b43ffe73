package plclog

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/bluesky-social/indigo/atproto/atcrypto"

	"github.com/atcr-dev/atcr/internal/durable"
)

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
	b, err := durable.ReadSecret(path)
	if errors.Is(err, durable.ErrSecretSize) {
		err = fmt.Errorf("%w: %w", ErrKeyFile, err)
	}
	if err != nil {
		return nil, err
	}
	k, err := ParseKey(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return k, nil
}

// LoadOrCreateKey is [LoadKey], and makes a key of a kind as [NewKey] does when the file does not exist: mode 0600, durable before it
// returns; a missing folder is made with mode 0700. It reports whether the key is new.
func LoadOrCreateKey(path, kind string) (key atcrypto.PrivateKeyExportable, created bool, err error) {
	key, err = LoadKey(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return key, false, err
	}
	fresh, err := NewKey(kind)
	if err != nil {
		return nil, false, err
	}
	if err := durable.CreateSecret(path, []byte(fresh.Multibase()+"\n")); err != nil {
		return nil, false, fmt.Errorf("writing key %s: %w", path, err)
	}
	return fresh, true, nil
}

// NewKey makes a key of a kind: "k256" (also when empty) or "p256".
func NewKey(kind string) (key atcrypto.PrivateKeyExportable, err error) {
	if err := checkKind(kind); err != nil {
		return nil, err
	}
	if strings.EqualFold(kind, "p256") {
		key, err = atcrypto.GeneratePrivateKeyP256()
	} else {
		key, err = atcrypto.GeneratePrivateKeyK256()
	}
	if err != nil {
		return nil, fmt.Errorf("making a key: %w", err)
	}
	return key, nil
}

// NoPublicKey is the error for a text that is no public key. It may be a private one, so it is shown only as far as it says that it isn't.
func NoPublicKey(text string) error {
	if !strings.HasPrefix(text, "did:key:") {
		return errors.New("what is given is no public key (not shown, it may be a private one): write did:key:z…")
	}
	return fmt.Errorf("%q is no public key: write did:key:z…", Clip(text))
}

func checkKind(kind string) error {
	switch strings.ToLower(kind) {
	case "", "k256", "p256":
		return nil
	}
	return fmt.Errorf("key type %q is neither k256 nor p256", Clip(kind))
}
