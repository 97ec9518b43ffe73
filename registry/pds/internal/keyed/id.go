package keyed

import (
	"crypto/rand"
	"encoding/base64"
)

// NewID returns 256 random bits in the form of a URL path segment.
func NewID() string {
	var id [32]byte
	_, _ = rand.Read(id[:]) // never fails
	return base64.RawURLEncoding.EncodeToString(id[:])
}
