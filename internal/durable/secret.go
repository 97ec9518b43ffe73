package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// MaxSecret is how long a file of secrets may be, in bytes: an RSA key of 4096 bits has some 3 KiB as PEM.
const MaxSecret = 16 << 10

// Errors of [ReadSecret].
var (
	// ErrPermissions: others may read the file, or write to its folder.
	ErrPermissions = errors.New("key file permissions")
	// ErrSecretSize: the file has more than [MaxSecret] bytes.
	ErrSecretSize = errors.New("key file too long")
)

// ReadSecret is [ReadPrivate] for a file in a folder that only its owner may write to.
// Errors: fs.ErrNotExist; [ErrPermissions]; [ErrSecretSize].
func ReadSecret(path string) ([]byte, error) {
	b, err := ReadPrivate(path)
	if err != nil {
		return nil, err
	}
	dir := filepath.Dir(path)
	if d, err := os.Stat(dir); err == nil && d.Mode().Perm()&0o022 != 0 && d.Mode()&fs.ModeSticky == 0 {
		return nil, fmt.Errorf("%w: the folder of %s has mode %#o, others may put another key there: chmod 700 %s",
			ErrPermissions, path, d.Mode().Perm(), dir)
	}
	return b, nil
}

// ReadPrivate reads a small file that only its owner may read. It is for keys that lie among a service's data, where who
// can write to the folder needs no key. Errors: those of [ReadSecret].
func ReadPrivate(path string) ([]byte, error) {
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
		return nil, fmt.Errorf("%w: %s has mode %#o, others may read it: chmod 600 %s", ErrPermissions, path, st.Mode().Perm(), path)
	}
	if st.Size() > MaxSecret {
		return nil, fmt.Errorf("%w: %s has %d bytes", ErrSecretSize, path, st.Size())
	}
	b := make([]byte, st.Size())
	n, err := f.ReadAt(b, 0)
	if n < len(b) {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	return b, nil
}

// CreateSecret makes a file of mode 0600, in a folder of mode 0700 that is made when missing. It is durable when CreateSecret
// returns. Errors: fs.ErrExist.
func CreateSecret(path string, secret []byte) error {
	if err := MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return CreateFile(path, secret, 0o600)
}

// LoadOrCreateSecret is [ReadSecret], and [CreateSecret] with what fresh returns when the file does not exist. It reports whether it
// made one.
func LoadOrCreateSecret(path string, fresh func() ([]byte, error)) (secret []byte, created bool, err error) {
	secret, err = ReadSecret(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return secret, false, err
	}
	if secret, err = fresh(); err != nil {
		return nil, false, fmt.Errorf("making %s: %w", path, err)
	}
	if err := CreateSecret(path, secret); err != nil {
		return nil, false, fmt.Errorf("writing %s: %w", path, err)
	}
	return secret, true, nil
}

// ReplaceSecret writes such a file, over an older one if there is one; it is durable when ReplaceSecret returns.
func ReplaceSecret(path string, secret []byte) error {
	if err := MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	if err := WriteFile(path, secret, 0o600); err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return nil
}
