// Package oci holds the grammar of the OCI specifications and reads manifests with limits.
//
// [CheckName], [CheckTag], [ParseDigest] and [CheckMediaType] follow the distribution specification 1.1 ("Pulling
// manifests", "Pulling blobs") and the image specification 1.1 ("Descriptors"). [ParseManifest] reads the bytes of
// a manifest or an index once, before anything else trusts them, into a [Manifest]: what it is, what it names, and which
// of those blobs and manifests have to exist.
//
// Every error is of one of the kinds in errors.go, to be told apart with [errors.Is]. Nothing here keeps state; all
// functions are safe for concurrent use. A [Manifest] is read-only once it is made.
package oci
