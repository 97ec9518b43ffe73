// Package atcr is the vocabulary of ATCR, a container registry whose manifests live in their owners' AT Protocol
// repositories and whose layers live in holds that anyone can run. Everything else in this module imports it. It does no I/O
// and reads no clock, and its only errors are of parsing.
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
