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
)

// keyring is the RS256 key that signs tokens, and what others check it by.
type keyring struct {
	key  *rsa.PrivateKey
	kid  string // RFC 7638 thumbprint of the public key
	jwks []byte
}

func loadKeyring(keyPath, certPath string, now time.Time, log *slog.Logger) (*keyring, error) {
	b, created, err := durable.LoadOrCreateSecret(keyPath, newKeyPEM)
	if err != nil {
		return nil, err
	}
	if created {
		log.Info("token key made", "path", keyPath)
	}
	key, err := parseKeyPEM(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", keyPath, err)
	}
	cert, err := loadCert(certPath, key, now, log)
	if err != nil {
		return nil, err
	}
	k := &keyring{key: key}
	return k, k.describe(cert)
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

// parseKeyPEM reads an RSA key of at least 2048 bits, PKCS #8 or PKCS #1.
func parseKeyPEM(b []byte) (*rsa.PrivateKey, error) {
	block, _ := pem.Decode(b)
	if block == nil {
		return nil, errors.New("no PEM block: it should be an RSA private key")
	}
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

// loadCert reads the certificate, and makes one when there is none or its end is near. One that somebody else signed is
// never replaced.
func loadCert(path string, key *rsa.PrivateKey, now time.Time, log *slog.Logger) (*x509.Certificate, error) {
	cert, err := readCert(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return writeCert(path, key, now)
	case err != nil:
		return nil, err
	case !key.PublicKey.Equal(cert.PublicKey):
		return nil, fmt.Errorf("%s is not the certificate of the token key: remove it to have one made", path)
	case now.Add(certRenew).Before(cert.NotAfter):
		return cert, nil
	case !bytes.Equal(cert.RawIssuer, cert.RawSubject):
		log.Warn("the token key's certificate ends soon and is not ours to renew", "path", path, "end", cert.NotAfter)
		return cert, nil
	}
	log.Info("token certificate renewed", "path", path, "ended", cert.NotAfter)
	return writeCert(path, key, now)
}

func readCert(path string) (*x509.Certificate, error) {
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
	block, _ := pem.Decode(b)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, fmt.Errorf("%s holds no PEM certificate: remove it to have one made", path)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return cert, nil
}

func writeCert(path string, key *rsa.PrivateKey, now time.Time) (*x509.Certificate, error) {
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
	if err := durable.ReplaceSecret(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})); err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// describe works out kid and JWKS (RFC 7517, RFC 7638).
func (k *keyring) describe(cert *x509.Certificate) error {
	n := base64.RawURLEncoding.EncodeToString(k.key.N.Bytes())
	e := base64.RawURLEncoding.EncodeToString(big.NewInt(int64(k.key.E)).Bytes())
	sum := sha256.Sum256(fmt.Appendf(nil, `{"e":%q,"kty":"RSA","n":%q}`, e, n))
	k.kid = base64.RawURLEncoding.EncodeToString(sum[:])
	var err error
	k.jwks, err = json.Marshal(map[string]any{"keys": []any{map[string]any{
		"kty": "RSA", "use": "sig", "alg": "RS256", "kid": k.kid, "n": n, "e": e,
		"x5c": []string{base64.StdEncoding.EncodeToString(cert.Raw)},
	}}})
	return err
}

func (a *Auth) serveJWKS(w http.ResponseWriter, _ *http.Request) {
	h := w.Header()
	h.Set("Content-Type", "application/jwk-set+json")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "public, max-age=300")
	_, _ = w.Write(a.keys.jwks)
}
