package plclog

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"fmt"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
)

var (
	oidP256 = asn1.ObjectIdentifier{1, 2, 840, 10045, 3, 1, 7}
	oidK256 = asn1.ObjectIdentifier{1, 3, 132, 0, 10}
)

// sec1Key is an EC private key (RFC 5915). crypto/x509 does not know K-256, so both curves are read here.
type sec1Key struct {
	Version    int
	PrivateKey []byte
	Curve      asn1.ObjectIdentifier `asn1:"optional,explicit,tag:0"`
	PublicKey  asn1.BitString        `asn1:"optional,explicit,tag:1"`
}

// pkcs8Key wraps it (RFC 5208).
type pkcs8Key struct {
	Version    int
	Algorithm  pkix.AlgorithmIdentifier
	PrivateKey []byte
	Attributes asn1.RawValue `asn1:"optional,tag:0"`
}

// parsePEM reads the first private key of a PEM text: "EC PRIVATE KEY" or "PRIVATE KEY", P-256 or K-256, not encrypted.
func parsePEM(b []byte) (atcrypto.PrivateKeyExportable, error) {
	for {
		block, rest := pem.Decode(b)
		if block == nil {
			return nil, fmt.Errorf("%w: the PEM text holds no EC private key", ErrKeyFile)
		}
		switch block.Type {
		case "EC PRIVATE KEY":
			return parseSEC1(block.Bytes, nil)
		case "PRIVATE KEY":
			var outer pkcs8Key
			if _, err := asn1.Unmarshal(block.Bytes, &outer); err != nil {
				return nil, fmt.Errorf("%w: PKCS #8: %w", ErrKeyFile, err)
			}
			var curve asn1.ObjectIdentifier
			if _, err := asn1.Unmarshal(outer.Algorithm.Parameters.FullBytes, &curve); err != nil {
				return nil, fmt.Errorf("%w: PKCS #8 key without a named curve: only P-256 and K-256 are read", ErrKeyFile)
			}
			return parseSEC1(outer.PrivateKey, curve)
		case "ENCRYPTED PRIVATE KEY":
			return nil, fmt.Errorf("%w: the PEM key is encrypted; decrypt it with openssl pkey", ErrKeyFile)
		}
		b = rest
	}
}

func parseSEC1(der []byte, curve asn1.ObjectIdentifier) (atcrypto.PrivateKeyExportable, error) {
	var k sec1Key
	if _, err := asn1.Unmarshal(der, &k); err != nil {
		return nil, fmt.Errorf("%w: EC key: %w", ErrKeyFile, err)
	}
	if k.Curve != nil {
		curve = k.Curve
	}
	switch {
	case len(k.PrivateKey) == 0 || len(k.PrivateKey) > 32:
		return nil, fmt.Errorf("%w: an EC key of %d bytes, want 32", ErrKeyFile, len(k.PrivateKey))
	case curve.Equal(oidK256):
		return keyOr(atcrypto.ParsePrivateBytesK256(pad32(k.PrivateKey)))
	case curve.Equal(oidP256):
		key, err := atcrypto.ParsePrivateBytesP256(pad32(k.PrivateKey))
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrKeyFile, err)
		}
		return key, nil
	}
	return nil, fmt.Errorf("%w: curve %s: only P-256 and K-256 are read", ErrKeyFile, curve)
}

// pad32 puts back the leading zeros that some writers leave out.
func pad32(b []byte) []byte {
	return append(make([]byte, 32-len(b), 32), b...)
}
