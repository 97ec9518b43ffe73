package auth

import (
	"bytes"
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

	"github.com/atcr-dev/atcr/internal/durable"
)

const (
	maxSessionKeys = 16
	// boundSuffix makes the name of the file that says that all rows are sealed with their PDS: it lies beside the keys, where whoever
	// writes to the database alone can't remove it.
	boundSuffix = ".bound"
)

// tokens are what a PDS gave for a password.
type tokens struct {
	Access  string `json:"access"`
	Refresh string `json:"refresh"`
}

// place is what a row's secret belongs to: everything that says whose it is and where it is sent. Whoever can write to the database
// must not be able to have it sent elsewhere.
type place struct{ id, did, pds string }

func (p place) bytes() []byte { return []byte("2\x00" + p.id + "\x00" + p.did + "\x00" + p.pds) }

// before is the form of versions that did not bind the PDS.
func (p place) before() []byte { return []byte(p.id + "\x00" + p.did) }

// sealer encrypts tokens (AES-256-GCM) and makes MACs of passwords. The first of its keys seals; the others open what
// they sealed when they were first.
type sealer struct {
	keys []sealKey
	path string
	old  bool // rows of before may be there: see [sealer.openOld]
}

// sealKey is two keys derived from one line of the file.
type sealKey struct {
	aead   cipher.AEAD
	macKey []byte
}

// loadSealer reads session.key, or makes it.
func loadSealer(path string) (*sealer, error) {
	b, created, err := durable.LoadOrCreateSecret(path, func() ([]byte, error) {
		var key [32]byte
		_, err := rand.Read(key[:])
		return []byte(base64.StdEncoding.EncodeToString(key[:]) + "\n"), err
	})
	if err != nil {
		return nil, err
	}
	lines, err := parseSessionKeys(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	s := &sealer{path: path}
	for _, line := range lines {
		key, err := newSealKey(line)
		if err != nil {
			return nil, err
		}
		s.keys = append(s.keys, key)
	}
	if created {
		return s, s.setBound()
	}
	bound, err := exists(path + boundSuffix)
	s.old = !bound
	return s, err
}

// setBound ends the time in which rows of before are taken.
func (s *sealer) setBound() error {
	s.old = false
	return durable.ReplaceSecret(s.path+boundSuffix, []byte(
		"Every session is sealed together with the server that its tokens are sent to. While this file is here nothing else is opened.\n"))
}

// parseSessionKeys reads one key a line: 32 bytes in base64. Empty lines and those that begin with # are left out.
func parseSessionKeys(b []byte) ([][]byte, error) {
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
	if len(keys) == 0 || len(keys) > maxSessionKeys {
		return nil, fmt.Errorf("it has %d keys, and 1 to %d are taken: %s", len(keys), maxSessionKeys, remedy)
	}
	return keys, nil
}

func newSealKey(key []byte) (k sealKey, err error) {
	encKey, err := hkdf.Key(sha256.New, key, nil, "atcr session encryption", 32)
	if err != nil {
		return k, err
	}
	if k.macKey, err = hkdf.Key(sha256.New, key, nil, "atcr session password mac", 32); err != nil {
		return k, err
	}
	block, err := aes.NewCipher(encKey)
	if err != nil {
		return k, err
	}
	k.aead, err = cipher.NewGCMWithRandomNonce(block)
	return k, err
}

// mac is what a row knows of a password.
func (k sealKey) mac(did, password string) []byte {
	m := hmac.New(sha256.New, k.macKey)
	m.Write([]byte(did + "\x00" + password))
	return m.Sum(nil)
}

// seal encrypts tokens so that they open in the same row alone.
func (s *sealer) seal(p place, t tokens) ([]byte, error) {
	b, err := json.Marshal(t)
	if err != nil {
		return nil, err
	}
	return s.keys[0].aead.Seal(nil, nil, b, p.bytes()), nil
}

var errSealed = errors.New("session can't be decrypted: was session.key replaced?")

// open decrypts what seal made under any of the keys.
func (s *sealer) open(p place, sealed []byte) (t tokens, err error) {
	t, _, err = s.openWith(p.bytes(), sealed)
	return t, err
}

// openOld is open for rows of before, which are taken once: at the first start of a version that binds the PDS.
func (s *sealer) openOld(p place, sealed []byte) (t tokens, err error) {
	if !s.old {
		return t, errSealed
	}
	t, _, err = s.openWith(p.before(), sealed)
	return t, err
}

// openWith returns which key it was, too.
func (s *sealer) openWith(bound, sealed []byte) (t tokens, key int, err error) {
	for i, k := range s.keys {
		if b, err := k.aead.Open(nil, nil, sealed, bound); err == nil {
			return t, i, json.Unmarshal(b, &t)
		}
	}
	return t, 0, errSealed
}
