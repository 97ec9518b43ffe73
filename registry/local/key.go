package local

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/bluesky-social/indigo/atproto/atcrypto"

	"github.com/atcr-dev/atcr/internal/durable"
)

// loadKey reads the signing key, or makes it on the first run.
func loadKey(path string) (atcrypto.PrivateKey, error) {
	text, err := readKey(path)
	switch {
	case err == nil:
		return atcrypto.ParsePrivateMultibase(text)
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	key, err := atcrypto.GeneratePrivateKeyK256()
	if err != nil {
		return nil, err
	}
	return key, durable.CreateFile(path, []byte(key.Multibase()+"\n"), 0o600)
}

// readKey reads a key file that only its owner may read.
func readKey(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return "", err
	}
	if perm := st.Mode().Perm(); perm&0o077 != 0 {
		return "", fmt.Errorf("key %s has mode %#o, others may use it: chmod 600 %s", path, perm, path)
	}
	text, err := io.ReadAll(io.LimitReader(f, 1<<10))
	return strings.TrimSpace(string(text)), err
}
