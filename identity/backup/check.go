package backup

import (
	"fmt"
	"io"

	"filippo.io/age"
	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"

	"github.com/atcr-dev/atcr/identity/internal/plclog"
)

// Check decrypts and checks a backup, and returns whose it is and the public half of the signing key. It writes nothing. Errors:
// ErrDecrypt; ErrFormat.
func Check(r io.Reader, identities ...age.Identity) (syntax.DID, atcrypto.PublicKey, error) {
	c, did, err := open(r, identities)
	if err != nil {
		return "", nil, fmt.Errorf("backup: %w", err)
	}
	key, err := plclog.ParseKey([]byte(c.Secrets["signing"]))
	if err != nil {
		return "", nil, fmt.Errorf("backup: %w: %w", ErrFormat, err)
	}
	pub, err := key.PublicKey()
	if err != nil {
		return "", nil, fmt.Errorf("backup: %w: %w", ErrFormat, err)
	}
	return did, pub, nil
}
