// Package seal encrypts what a database keeps for one place alone, under keys of a file.
//
// A [Keys] encrypts with AES-256-GCM. Every secret is bound to bytes that say where it belongs and where it may go; it opens together
// with the same bytes only, so that whoever can write to a database can't move it to another row or have it sent elsewhere. Losing the
// file loses what was sealed, and nothing else.
package seal

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"

	"github.com/atcr-dev/atcr/internal/durable"
)

// MaxKeys is how many keys a file may have.
const MaxKeys = 16

// ErrSealed: none of the keys opens it, or not together with these bytes.
var ErrSealed = errors.New("can't be decrypted: was the key file replaced?")

// Keys are the keys of a file. The first one seals; the others open what they sealed when they were first. Safe for concurrent use.
type Keys struct{ keys []key }

// key is two keys derived from one line of the file.
type key struct {
	aead   cipher.AEAD
	macKey []byte
}

// Load reads a file of keys, 32 bytes in base64 a line, or makes one with a key: mode 0600. Empty lines and those that begin with # are
// left out. It reports whether it made the file. The label keeps keys of one file for different uses apart.
func Load(path, label string) (k *Keys, created bool, err error) {
	b, created, err := durable.LoadOrCreateSecret(path, func() ([]byte, error) {
		var key [32]byte
		_, err := rand.Read(key[:])
		return []byte(base64.StdEncoding.EncodeToString(key[:]) + "\n"), err
	})
	if err != nil {
		return nil, false, err
	}
	lines, err := parse(b)
	if err != nil {
		return nil, false, fmt.Errorf("%s: %w", path, err)
	}
	k = &Keys{}
	for _, line := range lines {
		key, err := derive(line, label)
		if err != nil {
			return nil, false, err
		}
		k.keys = append(k.keys, key)
	}
	return k, created, nil
}

// parse reads one key a line.
func parse(b []byte) ([][]byte, error) {
	const remedy = "write one key a line, the one that seals first; or remove the file and everybody signs in again"
	var keys [][]byte
	for i, line := range bytes.Split(b, []byte("\n")) {
		line = bytes.TrimSpace(line)
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		key, err := base64.StdEncoding.DecodeString(string(line))
		if err != nil || len(key) != 32 {
			return nil, fmt.Errorf("line %d is not 32 bytes in base64: %s", i+1, remedy)
		}
		keys = append(keys, key)
	}
	if len(keys) == 0 || len(keys) > MaxKeys {
		return nil, fmt.Errorf("it has %d keys, and 1 to %d are taken: %s", len(keys), MaxKeys, remedy)
	}
	return keys, nil
}

func derive(line []byte, label string) (k key, err error) {
	encKey, err := hkdf.Key(sha256.New, line, nil, label+" encryption", 32)
	if err != nil {
		return k, err
	}
	if k.macKey, err = hkdf.Key(sha256.New, line, nil, label+" password mac", 32); err != nil {
		return k, err
	}
	block, err := aes.NewCipher(encKey)
	if err != nil {
		return k, err
	}
	k.aead, err = cipher.NewGCMWithRandomNonce(block)
	return k, err
}

// Len is how many keys there are.
func (k *Keys) Len() int { return len(k.keys) }

// Seal encrypts plain under the first key, bound to bytes that Open must be given, too.
func (k *Keys) Seal(bound, plain []byte) []byte { return k.keys[0].aead.Seal(nil, nil, plain, bound) }

// Open decrypts what Seal made under any of the keys, and returns which one it was: one that is not 0 should seal it anew.
// Errors: [ErrSealed].
func (k *Keys) Open(bound, sealed []byte) (plain []byte, key int, err error) {
	for i, k := range k.keys {
		if plain, err = k.aead.Open(nil, nil, sealed, bound); err == nil {
			return plain, i, nil
		}
	}
	return nil, 0, ErrSealed
}

// MAC is HMAC-SHA256 of a message by a key, 0 to Len()-1: to find a row by a secret that the row doesn't tell.
func (k *Keys) MAC(key int, message []byte) []byte {
	m := hmac.New(sha256.New, k.keys[key].macKey)
	m.Write(message)
	return m.Sum(nil)
}
