package oauth

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
)

func pemOf(t *testing.T, kind string, der []byte, err error) []byte {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func TestClientKeyFile(t *testing.T) {
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(p256)
	pkcs8 := pemOf(t, "PRIVATE KEY", der, err)
	der, err = x509.MarshalECPrivateKey(p256)
	sec1 := pemOf(t, "EC PRIVATE KEY", der, err)
	p384, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	der, err = x509.MarshalPKCS8PrivateKey(p384)
	wrongCurve := pemOf(t, "PRIVATE KEY", der, err)
	rsaKey, _ := rsa.GenerateKey(rand.Reader, 2048)
	der, err = x509.MarshalPKCS8PrivateKey(rsaKey)
	wrongKind := pemOf(t, "PRIVATE KEY", der, err)
	var many []byte
	for range maxClientKeys + 1 {
		fresh, err := newKeyPEM()
		if err != nil {
			t.Fatal(err)
		}
		many = append(many, fresh...)
	}
	a, err := parseClientKeys(pkcs8)
	if err != nil {
		t.Fatal(err)
	}
	b, err := parseClientKeys(append([]byte("# made by hand\n"), sec1...))
	if err != nil {
		t.Fatal(err)
	}
	if a[0].id != b[0].id || len(a[0].id) != 43 {
		t.Errorf("ids of one key are %q and %q", a[0].id, b[0].id)
	}
	for name, c := range map[string]struct {
		file  []byte
		words string
	}{
		"empty": {nil, "0 keys"}, "no PEM": {[]byte("secret\n"), "0 keys"}, "another curve": {wrongCurve, "no P-256 key"},
		"another kind": {wrongKind, "no P-256 key"}, "not DER": {pemOf(t, "PRIVATE KEY", []byte("x"), nil), "key 1"},
		"twice": {append(bytes.Clone(pkcs8), sec1...), "key 2 is there twice"}, "too many": {many, "17 keys"},
	} {
		if _, err := parseClientKeys(c.file); err == nil || !strings.Contains(err.Error(), c.words) {
			t.Errorf("%s: %v, want %q", name, err, c.words)
		}
	}
}

// TestJWK: RFC 7518 §6.2.1.2 wants each coordinate whole, its leading zeros included; indigo reads it back.
func TestJWK(t *testing.T) {
	for n, short := 0, 0; short < 2; n++ {
		if n == 20_000 {
			t.Fatal("no key with a leading zero was made")
		}
		b, err := newKeyPEM()
		if err != nil {
			t.Fatal(err)
		}
		keys, err := parseClientKeys(b)
		if err != nil {
			t.Fatal(err)
		}
		k := keys[0]
		pub, err := k.key.PublicKey()
		if err != nil {
			t.Fatal(err)
		}
		if theirs, err := pub.JWK(); err != nil || len(theirs.X) == 43 && len(theirs.Y) == 43 {
			continue
		}
		short++
		if len(k.jwk.X) != 43 || len(k.jwk.Y) != 43 {
			t.Errorf("coordinates are %q and %q", k.jwk.X, k.jwk.Y)
		}
		if back, err := atcrypto.ParsePublicJWK(k.jwk); err != nil || !back.Equal(pub) {
			t.Errorf("another key is read back: %v", err)
		}
	}
}

// TestDPoPKeys: none of those that indigo would write down too short.
func TestDPoPKeys(t *testing.T) {
	for range 2000 { // of which some 15 would be
		key, err := newDPoPKey()
		if err != nil {
			t.Fatal(err)
		}
		pub, err := key.PublicKey()
		if err != nil {
			t.Fatal(err)
		}
		if jwk, err := pub.JWK(); err != nil || len(jwk.X) != 43 || len(jwk.Y) != 43 {
			t.Fatalf("%+v, %v", jwk, err)
		}
	}
}

func TestRotateKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "oauth", "client.key")
	now := time.Unix(1_800_000_000, 0)
	clock := func() time.Time { return now }
	k, err := loadKeyring(path, clock, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Fatalf("key file is %v, %v", st, err)
	}
	first := k.all()[0].id
	second, err := RotateKey(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := k.all(); len(got) != 1 || got[0].id != first {
		t.Error("the file was looked at before its time")
	}
	now = now.Add(lookAtKeyEvery)
	if got := k.all(); len(got) != 2 || got[0].id != second || got[1].id != first {
		t.Fatalf("keys are %v, want %s and %s", got, second, first)
	}
	for _, id := range []string{first, second} {
		cfg, err := k.config("https://app.example/metadata.json", id)
		if err != nil || !cfg.IsConfidential() || *cfg.KeyID != id {
			t.Errorf("key %s: %v", id, err)
		}
	}
	if _, err := k.config("https://app.example/metadata.json", "gone"); err != errNoClientKey {
		t.Error(err)
	}
	// what was rotated is what a new start reads
	again, err := loadKeyring(path, clock, slog.New(slog.DiscardHandler))
	if err != nil || again.all()[0].id != second || len(again.all()) != 2 {
		t.Fatalf("%v, %v", again, err)
	}
	// a file that is broken or gone leaves the running client its keys
	for _, breakIt := range []func() error{
		func() error { return os.WriteFile(path, []byte("nothing"), 0o600) },
		func() error { return os.Chmod(path, 0o644) },
		func() error { return os.Remove(path) },
	} {
		if err := breakIt(); err != nil {
			t.Fatal(err)
		}
		now = now.Add(lookAtKeyEvery)
		if got := k.all(); len(got) != 2 || got[0].id != second {
			t.Errorf("keys are %v", got)
		}
	}
	if err := os.WriteFile(path, []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := RotateKey(path); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("a file without keys was rotated: %v", err)
	}
	if b, _ := os.ReadFile(path); string(b) != "nothing" {
		t.Error("it was written over")
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if _, err := RotateKey(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a key that does not exist was rotated: %v", err)
	}
	if _, err := loadKeyring(path, clock, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	for n := 1; n <= maxClientKeys; n++ {
		if _, err := RotateKey(path); (err != nil) != (n == maxClientKeys) {
			t.Fatalf("rotation %d: %v", n, err)
		}
	}
}
