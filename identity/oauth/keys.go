package oauth

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	indigo "github.com/bluesky-social/indigo/atproto/auth/oauth"

	"github.com/atcr-dev/atcr/internal/durable"
)

const (
	maxClientKeys  = 16
	lookAtKeyEvery = 10 * time.Second
)

// clientKey is one of the keys that the client proves itself with.
type clientKey struct {
	id  string // RFC 7638 thumbprint
	key *atcrypto.PrivateKeyP256
	jwk atcrypto.JWK
}

// keyring is the client's keys as their file has them, the newest first. A file that [RotateKey] changed is read again while the client
// is in use. Safe for concurrent use.
type keyring struct {
	path  string
	clock func() time.Time
	log   *slog.Logger

	mu     sync.Mutex
	keys   []clientKey
	looked time.Time
	seen   fileStamp
}

// fileStamp says whether a file is the one that was read.
type fileStamp struct {
	size int64
	mod  time.Time
}

func stampOf(path string) (fileStamp, error) {
	st, err := os.Stat(path)
	if err != nil {
		return fileStamp{}, err
	}
	return fileStamp{st.Size(), st.ModTime()}, nil
}

// loadKeyring reads the file, or makes it with one key.
func loadKeyring(path string, clock func() time.Time, log *slog.Logger) (*keyring, error) {
	b, created, err := durable.LoadOrCreateSecret(path, newKeyPEM)
	if err != nil {
		return nil, err
	}
	if created {
		log.Info("OAuth client key made", "path", path)
	}
	keys, err := parseClientKeys(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	k := &keyring{path: path, clock: clock, log: log, keys: keys, looked: clock()}
	k.seen, err = stampOf(path)
	return k, err
}

// all returns the keys, the newest first; there is at least one. The slice is not changed.
func (k *keyring) all() []clientKey {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := k.clock()
	if d := now.Sub(k.looked); d >= 0 && d < lookAtKeyEvery {
		return k.keys
	}
	k.looked = now
	stamp, err := stampOf(k.path)
	if err != nil || stamp == k.seen {
		return k.keys // a file that went away does not end what runs
	}
	b, err := durable.ReadSecret(k.path)
	if err != nil {
		k.log.Warn("the OAuth client key file changed and can't be read: the keys of before stay in use", "path", k.path, "err", err)
		return k.keys
	}
	keys, err := parseClientKeys(b)
	if err != nil {
		k.log.Warn("the OAuth client key file changed and holds no keys: those of before stay in use", "path", k.path, "err", err)
		return k.keys
	}
	k.keys, k.seen = keys, stamp
	return k.keys
}

// byID returns the key that a grant began with. When it was removed from the file, nothing that it began can go on.
func (k *keyring) byID(id string) (clientKey, bool) {
	keys := k.all()
	if i := slices.IndexFunc(keys, func(c clientKey) bool { return c.id == id }); i >= 0 {
		return keys[i], true
	}
	return clientKey{}, false
}

// RotateKey puts a new key before those of a client key file ([Config].KeyPath), and returns the new key's id. A running client takes it
// up within 10 seconds. Sign-ins from then on begin with it; the older keys stay for grants that began with them, which servers demand,
// and the client's metadata shows all. Removing a key from the file ends its grants.
// Errors: fs.ErrNotExist; a file that can't be read or written, or that has 16 keys.
func RotateKey(path string) (keyID string, err error) {
	old, err := durable.ReadSecret(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("there is no key to replace: the application makes its key at its first start: %w", err)
	}
	if err != nil {
		return "", err
	}
	before, err := parseClientKeys(old)
	if err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	if len(before) >= maxClientKeys {
		return "", fmt.Errorf("%s has %d keys already: remove the last ones, whose grants then end", path, len(before))
	}
	fresh, err := newKeyPEM()
	if err != nil {
		return "", err
	}
	keys, err := parseClientKeys(fresh)
	if err != nil {
		return "", err
	}
	if err := durable.ReplaceSecret(path, append(fresh, old...)); err != nil {
		return "", err
	}
	if err := durable.SameOwner(path, filepath.Dir(path)); err != nil { // root may do it for the service's user
		return "", err
	}
	return keys[0].id, nil
}

func newKeyPEM() ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// parseClientKeys reads P-256 keys, each a PEM block (PKCS #8 or SEC 1).
func parseClientKeys(b []byte) ([]clientKey, error) {
	const remedy = "write P-256 private keys as PEM blocks, the newest first; or remove the file and everybody signs in again"
	var keys []clientKey
	for n := 1; ; n++ {
		block, rest := pem.Decode(b)
		if block == nil {
			break
		}
		b = rest
		k, err := parseClientKey(block)
		if err != nil {
			return nil, fmt.Errorf("key %d: %w: %s", n, err, remedy)
		}
		if slices.ContainsFunc(keys, func(o clientKey) bool { return o.id == k.id }) {
			return nil, fmt.Errorf("key %d is there twice: %s", n, remedy)
		}
		keys = append(keys, k)
	}
	if len(keys) == 0 || len(keys) > maxClientKeys {
		return nil, fmt.Errorf("it has %d keys, and 1 to %d are taken: %s", len(keys), maxClientKeys, remedy)
	}
	return keys, nil
}

func parseClientKey(block *pem.Block) (c clientKey, err error) {
	var parsed any
	if block.Type == "EC PRIVATE KEY" {
		parsed, err = x509.ParseECPrivateKey(block.Bytes)
	} else {
		parsed, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	}
	if err != nil {
		return c, fmt.Errorf("reading the private key: %w", err)
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok || key.Curve != elliptic.P256() {
		return c, errors.New("it is no P-256 key")
	}
	raw, err := key.Bytes()
	if err != nil {
		return c, err
	}
	if c.key, err = atcrypto.ParsePrivateBytesP256(raw); err != nil {
		return c, err
	}
	point, err := key.PublicKey.Bytes() // 0x04, x, y
	if err != nil {
		return c, err
	}
	x, y := base64.RawURLEncoding.EncodeToString(point[1:33]), base64.RawURLEncoding.EncodeToString(point[33:])
	sum := sha256.Sum256(fmt.Appendf(nil, `{"crv":"P-256","kty":"EC","x":%q,"y":%q}`, x, y))
	c.id = base64.RawURLEncoding.EncodeToString(sum[:])
	c.jwk = atcrypto.JWK{KeyType: "EC", Curve: "P-256", X: x, Y: y, Use: "sig", KeyID: &c.id}
	return c, nil
}

// newDPoPKey makes the key that a grant's tokens are bound to. indigo's JWK leaves out the leading zeros of a coordinate, against
// RFC 7518 §6.2.1.2, and servers refuse such a key: one in 128 is not used.
func newDPoPKey() (*atcrypto.PrivateKeyP256, error) {
	for {
		key, err := atcrypto.GeneratePrivateKeyP256()
		if err != nil {
			return nil, err
		}
		pub, err := key.PublicKey()
		if err != nil {
			return nil, err
		}
		jwk, err := pub.JWK()
		if err != nil {
			return nil, err
		}
		if len(jwk.X) == 43 && len(jwk.Y) == 43 {
			return key, nil
		}
	}
}

// config is what indigo signs client assertions by; of a public client ("" as keyID) it signs none.
func (k *keyring) config(clientID, keyID string) (*indigo.ClientConfig, error) {
	cfg := indigo.NewPublicConfig(clientID, "", nil)
	if keyID == "" {
		return &cfg, nil
	}
	key, ok := k.byID(keyID)
	if !ok {
		return nil, errNoClientKey
	}
	return &cfg, cfg.SetClientSecret(key.key, key.id)
}

// errNoClientKey: the key that a grant or request began with is not in the file.
var errNoClientKey = errors.New("the client's key is not in the key file any more")
