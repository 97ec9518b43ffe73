// Package local is a registry.Backend that keeps everything itself: manifests and tags as records of one signed AT Protocol
// repository, blobs in one store. It is what a program embeds to have a registry:
//
//	backend, err := local.Open(ctx, "data")
//	defer backend.Close()
//	http.Handle("/v2/", registry.NewHandler(backend, nil))
//
// # Names
//
// Any name of the OCI grammar is a repository; no part of it is an identity. The first manifest creates a repository, which
// stays when it is empty. Authorization is the Authorizer's: the backend allows every actor everything.
//
// # What lies where
//
//	DIR/key            signing key (0600); the DID is its did:key
//	DIR/registry.db    SQLite: the repository, and which blobs each name has
//	DIR/blobs/…        the blobs, see storage/filestore
//
// A manifest is a record io.atcr.manifest whose blob is its exact bytes; a tag is a record io.atcr.tag with the key
// REPOSITORY:TAG ('/' as '~'), so that a page of tags is one range of keys; a repository has a record io.atcr.repo.page.
// A manifest with a subject has a record io.atcr.local.referrer beside it, which makes the list of referrers a range
// as well. A push is one Apply: all of these or none, one signed commit.
//
// # Blobs
//
// A blob is there for a name once it was uploaded or mounted under it, and for no other name, so that an Authorizer
// can keep names apart. Knowing a digest is enough to mount a blob without saying from where, unless
// [Options].NoAnonymousMount is set. Deleting a blob takes it from the one name; the bytes go with the last one.
// As in other registries, a manifest that names it is not asked.
//
// # Durability
//
// What was answered is on the disk: bytes are hashed, fsynced and renamed before a blob's 201, and the commit is in the
// database before a manifest's. Nothing needs repair after a crash. What a crash may leave behind is a blob that no name
// has, from an upload that was never acknowledged. Uploads are thrown away a day after their last byte.
//
// One process has a folder at a time; a second one gets an error that names the first one's pid.
//
// # Speed
//
// Answers are kept in memory, bounded in bytes, and dropped when a commit changes them. Lookups and pages don't depend on how
// much there is. Deleting a manifest reads the tags of its repository once.
package local
