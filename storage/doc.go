// Package storage keeps blobs by digest: the layers and configs of images.
//
// A [Store] has blobs, each visible whole or not at all, and uploads under way. An [Upload] hashes bytes as they are
// written; Commit names the digest they must have and makes the blob visible, durably:
//
//	up, err := store.Create(ctx, storage.Hint{Digest: d})
//	if err != nil { … }
//	defer up.Close() // after Commit it does nothing; without Commit the upload can be resumed
//	if _, err := up.ReadFrom(body); err != nil { … }
//	info, err := up.Commit(ctx, d)
//
// Drivers are plain: storage/filestore keeps blobs in a folder and storage/memstore in memory. What isn't about bytes
// is a wrapper around any store: [WithRetry] here, and storage/storagemetrics. [NewFaults] makes chosen calls fail, for
// tests. storage/storagetest is the suite that a driver passes.
//
// # Resume
//
// Bytes become durable first, then the state of the hash, by [Upload].Flush and now and then on the way. [Store].Resume
// cuts the bytes back to the last state. So nothing is hashed twice, nothing is assumed of bytes that a crash may have
// spoilt, and the client learns from Size where to go on.
//
// # Digests
//
// sha256 and sha512, in lower-case hex. [CheckDigest] is the one place that says what is allowed.
//
// This package never lists who may read or write, never deletes on its own, and knows nothing of HTTP.
package storage
