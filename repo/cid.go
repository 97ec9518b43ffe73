package repo

import (
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	"strings"
)

// CID names bytes by their SHA-256: CIDv1, either a block of DAG-CBOR (records, nodes, commits) or raw (blobs). It is
// comparable; the zero value names nothing.
type CID struct {
	codec byte
	hash  [sha256.Size]byte
}

const (
	codecRaw  = 0x55
	codecCBOR = 0x71
	cidLen    = 4 + sha256.Size // version, codec, hash function, hash length, hash
)

var base32Lower = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// RecordCID is the CID of a block of DAG-CBOR.
func RecordCID(block []byte) CID { return CID{codecCBOR, sha256.Sum256(block)} }

// BlobCID is the CID of a blob.
func BlobCID(data []byte) CID { return CID{codecRaw, sha256.Sum256(data)} }

// BlobCIDFromSum is the CID of a blob whose SHA-256 is known.
func BlobCIDFromSum(sum [sha256.Size]byte) CID { return CID{codecRaw, sum} }

// ParseCID reads the base32 form (bafyrei…, bafkrei…).
func ParseCID(s string) (CID, error) {
	if len(s) != 59 || s[0] != 'b' {
		return CID{}, fmt.Errorf("%q is not a CIDv1 in base32 with SHA-256", clip(s))
	}
	raw, err := base32Lower.DecodeString(s[1:])
	if err != nil {
		return CID{}, fmt.Errorf("%q is not a CIDv1 in base32: %w", clip(s), err)
	}
	c, err := cidFromBytes(raw)
	if err != nil {
		return CID{}, fmt.Errorf("CID %q: %w", s, err)
	}
	if c.String() != s {
		return CID{}, fmt.Errorf("CID %q is not in its canonical form", s)
	}
	return c, nil
}

func cidFromBytes(raw []byte) (CID, error) {
	if len(raw) != cidLen || raw[0] != 1 || raw[2] != 0x12 || raw[3] != sha256.Size {
		return CID{}, errors.New("not CIDv1 with SHA-256")
	}
	if raw[1] != codecRaw && raw[1] != codecCBOR {
		return CID{}, fmt.Errorf("codec 0x%x is neither dag-cbor nor raw", raw[1])
	}
	c := CID{codec: raw[1]}
	copy(c.hash[:], raw[4:])
	return c, nil
}

// CIDFromHash makes a CID of a stored hash: of a block, or with raw of a blob.
func CIDFromHash(hash []byte, raw bool) (CID, error) {
	if len(hash) != sha256.Size {
		return CID{}, fmt.Errorf("%w: a hash of %d bytes", ErrCorrupt, len(hash))
	}
	c := CID{codec: codecCBOR}
	if raw {
		c.codec = codecRaw
	}
	copy(c.hash[:], hash)
	return c, nil
}

// Defined reports whether c names something.
func (c CID) Defined() bool { return c.codec != 0 }

// IsBlob reports whether c names a blob (codec raw).
func (c CID) IsBlob() bool { return c.codec == codecRaw }

// Hash is the SHA-256, 32 bytes.
func (c CID) Hash() []byte { return c.hash[:] }

// Bytes is the binary form, 36 bytes.
func (c CID) Bytes() []byte { return c.append(make([]byte, 0, cidLen)) }

func (c CID) append(b []byte) []byte {
	b = append(b, 1, c.codec, 0x12, sha256.Size)
	return append(b, c.hash[:]...)
}

// String is the base32 form; empty for the zero value.
func (c CID) String() string {
	if !c.Defined() {
		return ""
	}
	return "b" + base32Lower.EncodeToString(c.Bytes())
}

// MarshalText is String.
func (c CID) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText is [ParseCID]; an empty text is the zero value.
func (c *CID) UnmarshalText(text []byte) (err error) {
	if len(text) == 0 {
		*c = CID{}
		return nil
	}
	*c, err = ParseCID(string(text))
	return err
}

func clip(s string) string {
	if len(s) > 80 {
		s = s[:80] + "…"
	}
	return strings.ToValidUTF8(s, "?")
}
