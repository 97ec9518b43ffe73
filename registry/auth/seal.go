package auth

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/atcr-dev/atcr/internal/durable"
)

// tokens are what a PDS gave for a password.
type tokens struct {
	Access  string `json:"access"`
	Refresh string `json:"refresh"`
}

// sealer encrypts tokens (AES-256-GCM) and makes MACs of passwords, with two keys derived from one on disk.
type sealer struct {
	aead   cipher.AEAD
	macKey []byte
}

func loadSealer(path string) (*sealer, error) {
	b, _, err := durable.LoadOrCreateSecret(path, func() ([]byte, error) {
		var key [32]byte
		_, err := rand.Read(key[:])
		return []byte(base64.StdEncoding.EncodeToString(key[:]) + "\n"), err
	})
	if err != nil {
		return nil, err
	}
	key, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(b)))
	if err != nil || len(key) != 32 {
		return nil, fmt.Errorf("%s: it should hold 32 bytes in base64; restore it, or remove it and everybody signs in again", path)
	}
	return newSealer(key)
}

func newSealer(key []byte) (*sealer, error) {
	encKey, err := hkdf.Key(sha256.New, key, nil, "atcr session encryption", 32)
	if err != nil {
		return nil, err
	}
	macKey, err := hkdf.Key(sha256.New, key, nil, "atcr session password mac", 32)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(encKey)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, err
	}
	return &sealer{aead: aead, macKey: macKey}, nil
}

// mac is what a row knows of a password.
func (s *sealer) mac(did, password string) []byte {
	m := hmac.New(sha256.New, s.macKey)
	m.Write([]byte(did + "\x00" + password))
	return m.Sum(nil)
}

// seal encrypts tokens so that they open under the same row and account only.
func (s *sealer) seal(id, did string, t tokens) ([]byte, error) {
	b, err := json.Marshal(t)
	if err != nil {
		return nil, err
	}
	return s.aead.Seal(nil, nil, b, []byte(id+"\x00"+did)), nil
}

var errSealed = errors.New("session can't be decrypted: was session.key replaced?")

func (s *sealer) open(id, did string, sealed []byte) (t tokens, err error) {
	b, err := s.aead.Open(nil, nil, sealed, []byte(id+"\x00"+did))
	if err != nil {
		return t, errSealed
	}
	return t, json.Unmarshal(b, &t)
}
