package plclog

import (
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
)

// Keys as openssl writes them: with and without parameters, SEC 1 and PKCS #8.
func TestParsePEM(t *testing.T) {
	read := func(name string) []byte {
		b, err := os.ReadFile(filepath.Join("testdata", "keys", name+".pem"))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for curve, hexKey := range map[string]string{ // as openssl ec -text prints them
		"p256": "5ab8bb34ad578f16e324c3668c0db89e76095a0d72b694465da0cf2dbaa8cc21",
		"k256": "0936c4de7073bb5943c9b475ef809ab9c4d2bbc9151f6ddf9d33b47f170dc597",
	} {
		one, err := ParseKey(read(curve + "sec1"))
		if err != nil {
			t.Fatal(err)
		}
		two, err := ParseKey(read(curve + "p8"))
		if err != nil {
			t.Fatal(err)
		}
		if !one.Equal(two) || hex.EncodeToString(one.Bytes()) != hexKey {
			t.Errorf("%s: %x and %x", curve, one.Bytes(), two.Bytes())
		}
		if _, isP256 := one.(*atcrypto.PrivateKeyP256); isP256 != (curve == "p256") {
			t.Errorf("%s: a %T", curve, one)
		}
		back, err := ParseKey([]byte(one.Multibase()))
		if err != nil || !back.Equal(one) {
			t.Errorf("%s: %v", curve, err)
		}
	}
	for _, name := range []string{"p384", "rsa"} {
		if _, err := ParseKey(read(name)); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
}

func TestKeyPermissions(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys", "k")
	if _, created, err := LoadOrCreateKey(path, ""); err != nil || !created {
		t.Fatal(created, err)
	}
	for _, c := range []struct {
		file, dir fs.FileMode
		remedy    string
	}{{0o640, 0o700, "chmod 600 " + path}, {0o604, 0o700, "chmod 600"}, {0o600, 0o770, "chmod 700 " + filepath.Dir(path)}, {0o600,
		0o755, ""}} {
		_ = os.Chmod(path, c.file)
		_ = os.Chmod(filepath.Dir(path), c.dir)
		_, err := LoadKey(path)
		if c.remedy == "" && err != nil || c.remedy != "" && (!errors.Is(err, ErrKeyPermissions) || !strings.Contains(err.Error(), c.remedy)) {
			t.Errorf("file %o, folder %o: %v", c.file, c.dir, err)
		}
	}
}

func TestParseKey(t *testing.T) {
	k, _ := atcrypto.GeneratePrivateKeyK256()
	p, _ := atcrypto.GeneratePrivateKeyP256()
	for name, in := range map[string]string{
		"multibase": k.Multibase() + "\n", "raw": string(k.Bytes()), "hex": hex.EncodeToString(k.Bytes()),
	} {
		if got, err := ParseKey([]byte(in)); err != nil || !got.Equal(k) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got, err := ParseKey([]byte(p.Multibase())); err != nil || !got.Equal(p) {
		t.Error(err)
	}
	for _, bad := range badKeys {
		if _, err := ParseKey([]byte(bad)); !errors.Is(err, ErrKeyFile) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// badKeys are no keys: nothing, zero, the order of the curve and beyond, other curves, torn and encrypted PEM.
var badKeys = []string{
	"", "z", "zzzz", strings.Repeat("0", 64), strings.Repeat("\x00", 32), strings.Repeat("g", 64), strings.Repeat("\xff",
		32), strings.Repeat("f", 64),
	"fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141", "zQ3shokFTS3brHcDQrn82RUDfCZESWL1ZdCEJwekUDPQiYBme",
	"-----BEGIN KEY-----", "-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----\n", "-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n",
	"-----BEGIN ENCRYPTED PRIVATE KEY-----\nMAA=\n-----END ENCRYPTED PRIVATE KEY-----\n", "did:key:zQ3shokFTS3brHcDQrn82RUDfCZESWL1ZdCEJwekUDPQiYBme",
}

func FuzzParseKey(f *testing.F) {
	for _, bad := range badKeys {
		f.Add([]byte(bad))
	}
	for _, name := range []string{"p256sec1", "p256p8", "k256sec1", "k256p8", "p384", "rsa"} {
		b, err := os.ReadFile(filepath.Join("testdata", "keys", name+".pem"))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte("z42tv1pb3Dzog28Q1udyieg1YJP3x1Un5vraE1bttXeCDSpW"))
	f.Add([]byte(strings.Repeat("1", 64)))
	f.Add([]byte(strings.Repeat("\x01", 32)))
	f.Fuzz(func(t *testing.T, b []byte) {
		k, err := ParseKey(b)
		if err != nil {
			if !errors.Is(err, ErrKeyFile) {
				t.Fatal(err)
			}
			return
		}
		if again, err := ParseKey([]byte(k.Multibase())); err != nil || !again.Equal(k) {
			t.Fatal("does not round-trip", err)
		}
	})
}
