package local

import (
	"errors"
	"io/fs"
	"strings"

	"github.com/bluesky-social/indigo/atproto/atcrypto"

	"github.com/atcr-dev/atcr/internal/durable"
)

// loadKey reads the signing key, or makes it on the first run. One that others may read is refused.
func loadKey(path string) (atcrypto.PrivateKey, error) {
	text, err := durable.ReadPrivate(path)
	switch {
	case err == nil:
		return atcrypto.ParsePrivateMultibase(strings.TrimSpace(string(text)))
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	key, err := atcrypto.GeneratePrivateKeyK256()
	if err != nil {
		return nil, err
	}
	return key, durable.CreateFile(path, []byte(key.Multibase()+"\n"), 0o600)
}
