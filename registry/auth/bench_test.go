package auth

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"net/http"
	"testing"

	"github.com/atcr-dev/atcr/internal/limit"
)

// BenchmarkTokenBySecret is to be compared with BenchmarkSignature, with -cpu 16: a token is a signature and little more.
func BenchmarkTokenBySecret(b *testing.B) {
	f, o := newFlow(b)
	secret := f.device("x", o.add("g", alice)).AccessToken
	f.signings = limit.NewRates(1e6, 1e6)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if w := f.get("x", secret, "repository:alice.test/app:pull,push"); w.Code != http.StatusOK {
				b.Fatal(w.Code, w.Body)
			}
		}
	})
}

func BenchmarkSignature(b *testing.B) {
	keys, err := parseKeys(testKey())
	if err != nil {
		b.Fatal(err)
	}
	sum := sha256.Sum256(nil)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := rsa.SignPKCS1v15(rand.Reader, keys[0].key, crypto.SHA256, sum[:]); err != nil {
				b.Fatal(err)
			}
		}
	})
}
