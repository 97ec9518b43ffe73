package filestore

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/atcr-dev/atcr/internal/durable"
	"github.com/opencontainers/go-digest"
)

// An upload id is, in base32: run 4 bytes (which opening of the store made it), algorithm 1, seconds 4, random 16,
// MAC 16. The MAC lets an upload that never had a byte resume after a restart though nothing of it is on disk.
const (
	idBody = 25
	idSize = idBody + 16
)

var idText = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// signer makes and checks ids.
type signer struct {
	key []byte
	run [4]byte
}

// loadSigner reads the key in the uploads folder, or makes one. One that others may read is refused.
func loadSigner(dir string) (*signer, error) {
	path := filepath.Join(dir, keyName)
	key, err := durable.ReadPrivate(path)
	if errors.Is(err, fs.ErrNotExist) {
		key = make([]byte, 32)
		rand.Read(key)
		err = durable.WriteFile(path, key, 0o600)
	}
	if err != nil {
		return nil, err
	}
	if len(key) != 32 {
		return nil, fmt.Errorf("%s holds %d bytes instead of 32; remove it to have a new key made", path, len(key))
	}
	s := &signer{key: key}
	rand.Read(s.run[:])
	return s, nil
}

func (s *signer) newID(a digest.Algorithm, now time.Time) string {
	b := make([]byte, idBody, idSize)
	copy(b, s.run[:])
	b[4] = algorithmCode(a)
	binary.BigEndian.PutUint32(b[5:], uint32(now.Unix()))
	rand.Read(b[9:idBody])
	return idText.EncodeToString(s.mac(b))
}

func (s *signer) mac(body []byte) []byte {
	m := hmac.New(sha256.New, s.key)
	m.Write(body)
	return m.Sum(body)[:idSize]
}

// isID reports whether a name could be an id, signed by this store or not.
func isID(name string) bool {
	if len(name) != idText.EncodedLen(idSize) {
		return false
	}
	b, err := idText.DecodeString(name)
	// The last character has spare bits: only one spelling is an id.
	return err == nil && idText.EncodeToString(b) == name
}

// read returns what an id says; ok is false when this store didn't sign it.
func (s *signer) read(id string) (v idValue, ok bool) {
	b, err := idText.DecodeString(id)
	if err != nil || len(b) != idSize {
		return v, false
	}
	body := b[:idBody:idBody]
	if subtle.ConstantTimeCompare(s.mac(body), b) != 1 {
		return v, false
	}
	v.thisRun = [4]byte(b[:4]) == s.run
	v.alg = algorithmOf(b[4])
	v.made = time.Unix(int64(binary.BigEndian.Uint32(b[5:])), 0)
	return v, v.alg != ""
}

type idValue struct {
	thisRun bool
	alg     digest.Algorithm
	made    time.Time
}

func algorithmCode(a digest.Algorithm) byte {
	for i, b := range algorithms {
		if a == b {
			return byte(i + 1)
		}
	}
	return 0
}

func algorithmOf(code byte) digest.Algorithm {
	if code == 0 || int(code) > len(algorithms) {
		return ""
	}
	return algorithms[code-1]
}
