package auth

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"time"

	"github.com/atcr-dev/atcr/internal/durable"
)

// keyLook is how often a running server looks whether its key file was replaced.
const keyLook = 5 * time.Second

// Rotation is what [RotateKey] did.
type Rotation struct {
	ID       string    // the new key's "kid"
	Signs    time.Time // from when on it signs, in a running server and in one that is started
	OldUntil time.Time // until when the tokens of the one before are taken; zero when it was dropped
}

// RotateKey puts a new key for registry tokens before those in a file. A server that runs on the file publishes it within seconds and signs
// by it after ten minutes, when others that check tokens know it; tokens of the key before are taken for a day more, as long as they may
// continue uploads, so nothing fails meanwhile. With drop the file has the new key alone, which signs at once: for a key that somebody may
// have seen; clients then get other tokens by themselves. Run it once at a time.
func RotateKey(keyPath string, now time.Time, drop bool) (*Rotation, error) {
	b, err := durable.ReadSecret(keyPath)
	if err != nil {
		return nil, fmt.Errorf("auth: %w: a server makes its key at its first start", err)
	}
	old, err := parseKeys(b)
	if err != nil {
		return nil, fmt.Errorf("auth: %s: %w", keyPath, err)
	}
	key, err := rsa.GenerateKey(rand.Reader, keyBits)
	if err != nil {
		return nil, fmt.Errorf("auth: %w", err)
	}
	now = now.UTC().Truncate(time.Second)
	fresh := signKey{key: key, made: now}
	if err := fresh.describe(nil); err != nil {
		return nil, fmt.Errorf("auth: %w", err)
	}
	r := &Rotation{ID: fresh.kid, Signs: now}
	ring := keyring{[]signKey{fresh}}
	if !drop {
		ring.keys = append(ring.keys, old...)
		ring.keys = ring.live(now)
		r.Signs, r.OldUntil = now.Add(signsAfter), now.Add(keyKept)
	}
	if n := len(ring.keys); n > maxSigningKeys {
		return nil, fmt.Errorf("auth: %s: %d keys are still in use: the oldest until %s", keyPath, n-1,
			ring.keys[n-2].made.Add(keyKept).Format(time.RFC3339))
	}
	out, err := encodeKeys(ring.keys)
	if err != nil {
		return nil, fmt.Errorf("auth: %w", err)
	}
	if err := durable.ReplaceSecret(keyPath, out); err != nil {
		return nil, fmt.Errorf("auth: %w", err)
	}
	return r, nil
}

func encodeKeys(keys []signKey) (out []byte, err error) {
	for _, k := range keys {
		der, err := x509.MarshalPKCS8PrivateKey(k.key)
		if err != nil {
			return nil, err
		}
		if !k.made.IsZero() {
			out = append(out, madeLine+k.made.UTC().Format(time.RFC3339)+"\n"...)
		}
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})...)
	}
	return out, nil
}

// watch takes a key file that was replaced, and saves what could not be saved before, until ctx ends.
func (a *Auth) watch(ctx context.Context) {
	t := time.NewTicker(keyLook)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			a.lookAtKeys()
			a.sessions.save(ctx)
		}
	}
}

// lookAtKeys reads the key file again if it is another one than before. One that can't be used leaves the keys as they are.
func (a *Auth) lookAtKeys() {
	st, err := os.Stat(a.opts.KeyPath)
	if was := a.keyFile; err != nil || was != nil && os.SameFile(st, was) && st.ModTime().Equal(was.ModTime()) {
		return
	}
	ring, err := loadKeyring(a.opts.KeyPath, a.opts.CertPath, a.opts.Clock(), a.opts.Log)
	a.keyFile = st
	if err != nil {
		a.opts.Log.Error("the key file was changed and can't be used: the keys of before stay in use", "err", err)
		return
	}
	a.ring.Store(ring)
	a.tokens.clear() // what was checked by a key that is gone
	a.opts.Log.Info("token keys read anew", "path", a.opts.KeyPath, "keys", len(ring.keys), "newest", ring.keys[0].kid)
}
