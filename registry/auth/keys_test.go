package auth

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/atcr-dev/atcr/identity"
)

// Somebody who knows the JWKS alone can check our tokens, by n and e and by the certificate.
func TestJWKS(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	w := f.serve(httptest.NewRequest(http.MethodGet, "/auth/jwks.json", nil))
	var set struct {
		Keys []struct {
			Kty, Kid, Alg, Use, N, E string
			X5C                      []string `json:"x5c"`
		}
	}
	if err := json.Unmarshal(w.Body.Bytes(), &set); err != nil || len(set.Keys) != 1 || len(set.Keys[0].X5C) != 1 {
		t.Fatalf("%s %v", w.Body, err)
	}
	k := set.Keys[0]
	n, _ := base64.RawURLEncoding.DecodeString(k.N)
	e, _ := base64.RawURLEncoding.DecodeString(k.E)
	pub := &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(new(big.Int).SetBytes(e).Int64())}
	der, _ := base64.StdEncoding.DecodeString(k.X5C[0])
	cert, err := x509.ParseCertificate(der)
	if err != nil || !pub.Equal(cert.PublicKey) || cert.NotAfter.Sub(f.clock()) < 9*365*24*time.Hour {
		t.Error(err, cert.NotAfter)
	}
	tok, err := jwt.Parse(f.token("", ""), func(tk *jwt.Token) (any, error) {
		if tk.Header["kid"] != k.Kid {
			return nil, errors.New("kid")
		}
		return pub, nil
	}, jwt.WithValidMethods([]string{k.Alg}), jwt.WithTimeFunc(f.clock))
	if err != nil || !tok.Valid {
		t.Error(err)
	}
}

func TestCertificateRenewal(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	keyPath, certPath := filepath.Join(dir, "k", "key.pem"), filepath.Join(dir, "k", "key.crt")
	now := time.Unix(1_800_000_000, 0)
	log := slog.New(slog.DiscardHandler)
	load := func(at time.Time) *keyring {
		t.Helper()
		k, err := loadKeyring(keyPath, certPath, at, log)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	first := load(now)
	if st, err := os.Stat(keyPath); err != nil || st.Mode().Perm() != 0o600 {
		t.Error(st, err)
	}
	if again := load(now.Add(9 * 365 * 24 * time.Hour)); string(again.jwks(now)) != string(first.jwks(now)) {
		t.Error("renewed too soon")
	}
	late := load(now.Add(certLife - certRenew + time.Second))
	if string(late.jwks(now)) == string(first.jwks(now)) || late.keys[0].kid != first.keys[0].kid {
		t.Error("not renewed, or with another key")
	}
	if err := os.Remove(certPath); err != nil {
		t.Fatal(err)
	}
	load(now)
	if err := os.Remove(keyPath); err != nil {
		t.Fatal(err)
	}
	if _, err := loadKeyring(keyPath, certPath, now, log); err == nil {
		t.Error("a certificate of another key was taken")
	}
	_ = os.Remove(certPath)
	load(now)
	if err := os.Chmod(keyPath, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := loadKeyring(keyPath, certPath, now, log); !errors.Is(err, identity.ErrKeyPermissions) {
		t.Error(err)
	}
	for _, bad := range []string{"", "x", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"} {
		if _, err := parseKeys([]byte(bad)); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

func FuzzParseKeyPEM(f *testing.F) {
	f.Add(append([]byte("# made 2027-01-15T08:00:00Z\n"), testKey()...))
	f.Add([]byte("-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		keys, err := parseKeys(b)
		if err == nil && (len(keys) == 0 || len(keys) > maxSigningKeys) {
			t.Fatal(len(keys))
		}
		for _, k := range keys {
			if k.key.N.BitLen() < keyBits {
				t.Fatal(k.key.N.BitLen())
			}
		}
	})
}
