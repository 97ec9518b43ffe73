package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"strings"
)

// Kinds of secrets that this registry gives out. A secret is "atcr_", its kind, an id to look it up by and 256 random bits:
// atcr_robot_<16 characters>_<52 characters>. Its SHA-256 alone is kept.
const (
	kindRefresh = "refresh"
	kindDevice  = "device"
	kindRobot   = "robot"
	kindCode    = "code" // a device code (RFC 8628), which is no token yet

	secretPrefix = "atcr_"
	idLength     = 16 // 80 bits
	randomLength = 52 // 256 bits
)

var secretEncoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// newID returns 80 random bits.
func newID() string {
	var b [10]byte
	_, _ = rand.Read(b[:]) // it never fails
	return secretEncoding.EncodeToString(b[:])
}

// newSecret returns a secret for an id, and what is kept of it.
func newSecret(kind, id string) (secret string, hash []byte) {
	var b [32]byte
	_, _ = rand.Read(b[:]) // it never fails
	secret = secretPrefix + kind + "_" + id + "_" + secretEncoding.EncodeToString(b[:])
	return secret, hashOf(secret)
}

func hashOf(secret string) []byte {
	sum := sha256.Sum256([]byte(secret))
	return sum[:]
}

// isSecret reports whether a password is meant as one of our secrets: no user name stands beside it.
func isSecret(s string) bool {
	kind, _ := parseSecret(s)
	return kind != ""
}

// parseSecret returns of which kind a secret says to be, empty for none of ours, and its id, empty when it has no secret's form.
func parseSecret(s string) (kind, id string) {
	rest, ok := strings.CutPrefix(s, secretPrefix)
	if !ok {
		return "", ""
	}
	kind, rest, ok = strings.Cut(rest, "_")
	switch kind {
	case kindRefresh, kindDevice, kindRobot, kindCode:
	default:
		return "", ""
	}
	id, random, ok2 := strings.Cut(rest, "_")
	if !ok || !ok2 || len(id) != idLength || len(random) != randomLength {
		return kind, ""
	}
	return kind, id
}

// matches compares a secret with what is kept of one, in a time that says nothing of how alike they are.
func matches(secret string, hash []byte) bool {
	return subtle.ConstantTimeCompare(hashOf(secret), hash) == 1
}
