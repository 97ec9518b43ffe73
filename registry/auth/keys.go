package auth

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/big"
	"net/http"
	"os"
	"time"

	"github.com/atcr-dev/atcr/internal/durable"
)

const (
	keyBits      = 2048
	certLife     = 10 * 365 * 24 * time.Hour
	certRenew    = 30 * 24 * time.Hour
	certSubject  = "ATCR registry tokens"
	maxCertBytes = 64 << 10

	maxSigningKeys = 4 // of RSA 4096, they fit into durable.MaxSecret
	madeLine       = "# made "
)

// keyring is the RS256 keys, the newest first. Each signs a while after it was made, when those who check tokens by the JWKS know
// it, and is published for as long as tokens that it signed may be shown.
type keyring struct{ keys []signKey }

// signKey is one key, and what others check its tokens by.
type signKey struct {
	key  *rsa.PrivateKey
	made time.Time // zero: before there was a rotation
	kid  string    // RFC 7638 thumbprint of the public key
	jwk  json.RawMessage
}

const (
	// signsAfter is when a new key signs, counted from when it was made: JWKS are cached for jwksAge.
	signsAfter = 10 * time.Minute
	jwksAge    = 5 * time.Minute
	// keyKept is how long a key is taken after its successor was made: the last token that it signed may still continue an upload.
	keyKept = signsAfter + tokenLife + uploadLife + 2*Leeway
)

func loadKeyring(keyPath, certPath string, now time.Time, log *slog.Logger) (*keyring, error) {
	b, created, err := durable.LoadOrCreateSecret(keyPath, newKeyPEM)
	if err != nil {
		return nil, err
	}
	if created {
		log.Info("token key made", "path", keyPath)
	}
	keys, err := parseKeys(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", keyPath, err)
	}
	certs, err := loadCerts(certPath, keys, now, log)
	if err != nil {
		return nil, err
	}
	for i := range keys {
		if err := keys[i].describe(certs[i]); err != nil {
			return nil, err
		}
	}
	return &keyring{keys}, nil
}

// signer returns the key that signs now.
func (k *keyring) signer(now time.Time) *signKey {
	for i := range k.keys {
		if !now.Before(k.keys[i].made.Add(signsAfter)) {
			return &k.keys[i]
		}
	}
	return &k.keys[len(k.keys)-1]
}

// live returns the keys whose tokens are taken now.
func (k *keyring) live(now time.Time) []signKey {
	for i := 1; i < len(k.keys); i++ {
		if !now.Before(k.keys[i-1].made.Add(keyKept)) {
			return k.keys[:i]
		}
	}
	return k.keys
}

// byID returns the public key that a token names, or nil.
func (k *keyring) byID(kid string, now time.Time) *rsa.PublicKey {
	for _, key := range k.live(now) {
		if key.kid == kid {
			return &key.key.PublicKey
		}
	}
	return nil
}

// jwks returns the public keys (RFC 7517).
func (k *keyring) jwks(now time.Time) []byte {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	for _, key := range k.live(now) {
		set.Keys = append(set.Keys, key.jwk)
	}
	b, _ := json.Marshal(set) // it is JSON already
	return b
}

func newKeyPEM() ([]byte, error) {
	key, err := rsa.GenerateKey(rand.Reader, keyBits)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// parseKeys reads RSA keys, the newest first; [RotateKey] wrote into each but the oldest when it was made.
func parseKeys(b []byte) (keys []signKey, err error) {
	for {
		block, rest := pem.Decode(b)
		if block == nil {
			break
		}
		k := signKey{}
		if k.key, err = parseKeyBlock(block); err != nil {
			return nil, err
		}
		if k.made, err = madeAt(b[:bytes.Index(b, []byte("-----BEGIN"))]); err != nil {
			return nil, err
		}
		keys, b = append(keys, k), rest
	}
	if len(keys) == 0 {
		return nil, errors.New("no PEM block: it should be an RSA private key")
	}
	if len(keys) > maxSigningKeys {
		return nil, fmt.Errorf("%d keys: at most %d are taken", len(keys), maxSigningKeys)
	}
	return keys, nil
}

// madeAt reads the line before a key that says when it was made. Text between blocks is for people (RFC 7468 §2); other programs, openssl
// too, pass over it, and not over headers in a block.
func madeAt(text []byte) (time.Time, error) {
	for line := range bytes.Lines(text) {
		if at, ok := bytes.CutPrefix(bytes.TrimSpace(line), []byte(madeLine)); ok {
			made, err := time.Parse(time.RFC3339, string(at))
			if err != nil {
				return time.Time{}, fmt.Errorf("when a key was made: %w", err)
			}
			return made, nil
		}
	}
	return time.Time{}, nil
}

// parseKeyBlock reads an RSA key of at least 2048 bits, PKCS #8 or PKCS #1.
func parseKeyBlock(block *pem.Block) (*rsa.PrivateKey, error) {
	var parsed any
	var err error
	if block.Type == "RSA PRIVATE KEY" {
		parsed, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	} else {
		parsed, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the private key: %w", err)
	}
	key, ok := parsed.(*rsa.PrivateKey)
	if !ok || key.N.BitLen() < keyBits {
		return nil, fmt.Errorf("an RSA key of %d bits or more is needed", keyBits)
	}
	return key, nil
}

// loadCerts returns the certificate of each key, and makes one of the newest when there is none or its end is near. One that somebody
// else signed is never replaced.
func loadCerts(path string, keys []signKey, now time.Time, log *slog.Logger) ([]*x509.Certificate, error) {
	all, err := readCerts(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	of := make([]*x509.Certificate, len(keys))
	known := false
	for i, k := range keys {
		for _, c := range all {
			if k.key.PublicKey.Equal(c.PublicKey) && of[i] == nil {
				of[i], known = c, true
			}
		}
	}
	switch cert := of[0]; {
	case len(all) > 0 && !known && keys[0].made.IsZero(): // else a rotation dropped that key
		return nil, fmt.Errorf("%s is not the certificate of the token key: remove it to have one made", path)
	case cert == nil:
	case now.Add(certRenew).Before(cert.NotAfter):
		return of, nil
	case !bytes.Equal(cert.RawIssuer, cert.RawSubject):
		log.Warn("the token key's certificate ends soon and is not ours to renew", "path", path, "end", cert.NotAfter)
		return of, nil
	default:
		log.Info("token certificate renewed", "path", path, "ended", cert.NotAfter)
	}
	if of[0], err = newCert(keys[0].key, now); err != nil {
		return nil, err
	}
	return of, writeCerts(path, of)
}

func readCerts(path string) (all []*x509.Certificate, err error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if st.Size() > maxCertBytes {
		return nil, fmt.Errorf("%s is no certificate: %d bytes", path, st.Size())
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	for {
		block, rest := pem.Decode(b)
		if block == nil || block.Type != "CERTIFICATE" {
			break
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		all, b = append(all, cert), rest
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%s holds no PEM certificate: remove it to have one made", path)
	}
	return all, nil
}

func writeCerts(path string, all []*x509.Certificate) error {
	var b []byte
	for _, cert := range all {
		if cert != nil {
			b = append(b, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})...)
		}
	}
	return durable.ReplaceSecret(path, b)
}

func newCert(key *rsa.PrivateKey, now time.Time) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: certSubject},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(certLife),
		KeyUsage: x509.KeyUsageDigitalSignature, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, fmt.Errorf("making the token certificate: %w", err)
	}
	return x509.ParseCertificate(der)
}

// describe works out kid and JWK (RFC 7517, RFC 7638). The certificate may be nil.
func (k *signKey) describe(cert *x509.Certificate) error {
	n := base64.RawURLEncoding.EncodeToString(k.key.N.Bytes())
	e := base64.RawURLEncoding.EncodeToString(big.NewInt(int64(k.key.E)).Bytes())
	sum := sha256.Sum256(fmt.Appendf(nil, `{"e":%q,"kty":"RSA","n":%q}`, e, n))
	k.kid = base64.RawURLEncoding.EncodeToString(sum[:])
	jwk := map[string]any{"kty": "RSA", "use": "sig", "alg": "RS256", "kid": k.kid, "n": n, "e": e}
	if cert != nil {
		jwk["x5c"] = []string{base64.StdEncoding.EncodeToString(cert.Raw)}
	}
	var err error
	k.jwk, err = json.Marshal(jwk)
	return err
}

func (a *Auth) serveJWKS(w http.ResponseWriter, _ *http.Request) {
	h := w.Header()
	h.Set("Content-Type", "application/jwk-set+json")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", fmt.Sprintf("public, max-age=%d", int(jwksAge/time.Second)))
	_, _ = w.Write(a.ring.Load().jwks(a.opts.Clock()))
}
