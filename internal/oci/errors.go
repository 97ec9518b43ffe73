package oci

import "errors"

// Kinds of errors. What a function returns wraps one of them and says which part is wrong.
var (
	// ErrName is for a repository name outside the grammar or over 255 bytes.
	ErrName = errors.New("invalid repository name")
	// ErrTag is for a tag outside the grammar or over 128 bytes.
	ErrTag = errors.New("invalid tag")
	// ErrDigest is for text that is no sha256 or sha512 digest.
	ErrDigest = errors.New("invalid digest")
	// ErrDigestMismatch is for bytes that don't hash to the digest they were announced with.
	ErrDigestMismatch = errors.New("content does not match the digest")
	// ErrTooLarge is for a manifest over [MaxManifestSize].
	ErrTooLarge = errors.New("manifest too large")
	// ErrMediaType is for a media type that is not taken as a manifest, or that differs between header and body.
	ErrMediaType = errors.New("invalid manifest media type")
	// ErrManifest is for a manifest that breaks any other rule.
	ErrManifest = errors.New("invalid manifest")
)
