// Package atcr is the vocabulary of ATCR, a container registry whose manifests live in their owners' AT Protocol
// repositories and whose layers live in holds that anyone can run. Everything else in this module imports it. It does no I/O
// and reads no clock, and its only errors are of parsing.
//
// # Packages
//
// A program begins with one of these, each of which is mounted as an http.Handler and takes its database, storage, clock and logger:
//
//   - hold: the service that keeps layers; hold/holdclient speaks to one, hold/backup backs one up
//   - registry/appview: the registry over users' repositories and holds
//   - registry/local: a registry that keeps everything in one folder
//   - registry: the OCI protocol over a Backend of one's own
//   - repo: a signed repository with CARs, proofs and a firehose (repo/xrpc, repo/firehose), in a repo/sqlstore or repo/memstore
//   - identity: handles and DIDs, a service's own did:web or did:plc; identity/plc changes the keys and address of a did:plc
//   - storage: blobs by digest, in storage/filestore, storage/memstore or a driver of one's own; storage/storagetest tests one
//   - sqldb: the database value, opened by sqldb/sqlite or sqldb/postgres
//
// # Names
//
// [ParseReference] reads HOST/IDENTITY/REPOSITORY[:TAG][@DIGEST] once into a value. [ParseIdentity] reads the part that says
// whose it is: a handle, a DID, or the spelling of a did:plc that OCI names can carry. [NormalizeDID] and
// [HoldDID] bring DIDs, and the URLs that older records have in their place, into one form.
//
// # Records
//
// One Go type per record of the lexicons in the folder lexicons: [Manifest], [Tag], [RepoPage], [SailorProfile] and
// [Star] in a user's repository, [Captain], [Crew], [Layer], [Stats] and [Scan] in a hold's. They are JSON as the AT Protocol
// writes it (https://atproto.com/specs/data-model). Every older form is read, the newest is written, and fields that
// this package doesn't know survive a read, a change and a write. Unmarshalling is lenient; [Record.Check] says whether a
// record keeps to its lexicon.
//
// The functions that make record keys ([ManifestRKey], [TagRKey] and others) say what we write. Other programs write other
// keys, so a reader takes the truth from inside the record.
//
// # Types
//
// The types are plain values: safe to read concurrently, not to change.
package atcr
