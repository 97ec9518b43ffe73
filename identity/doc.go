// Package identity answers who: it resolves handles and DIDs, and keeps the DID and keys of a service of ours.
//
// # Others
//
// [NewResolver] answers a [Directory] (bluesky-social/indigo's interface, so anything written for it works) with what a
// server needs that asks about strangers: a guard on the connected address, documents of at most 64 KiB, bounded
// caches, one request for many askers, negative answers kept for a minute, and the last good answer while a
// directory is down.
//
//	dir := identity.NewResolver(identity.ResolverOptions{})
//	who, err := dir.LookupHandle(ctx, "alice.example.com")
//	// who.DID, who.Handle, who.PDSEndpoint(), who.PublicKey()
//
// Handles count only when they hold in both directions: the handle names the DID and the DID's document names the handle.
// Keys are read in today's form (Multikey) and both retired ones. For tests, [NewMockDirectory] is a directory in memory.
//
// did:web is a plain host name. Under test mode a loopback name may have a port and is asked by http, and
// did:web:127.0.0.1%3A8080 and did:web:localhost%3A8080 are one host: looking up either answers the identity with the DID
// that the host's own document shows.
//
// # Oneself
//
// [LoadOrCreateDID] makes or finds the DID and signing key of a hold or an AppView, and keeps both on disk; [Document] is
// its DID document and [WellKnown] serves it. The stored DID is never derived from the URL again: when configuration
// and disk disagree the service does not start, and the error names both and what can be done.
//
// A did:plc outlives the name that it was made under. Its document lives in a directory, as a log of signed operations:
//
//	cfg := identity.Config{Dir: dir, PublicURL: "https://hold.example.com", Method: "plc", Services: identity.HoldServices()}
//	id, err := identity.LoadOrCreateDID(ctx, cfg)        // makes it once: keys, genesis.json, did.txt, then the directory
//	status, err := identity.EnsurePLCCurrent(ctx, id, cfg) // at every start, and every some hours
//
// [EnsurePLCCurrent] compares signing key, handle and services with the uncached log, which it verifies and holds against the one it saw
// last, and on a difference signs one update that leaves everything else as it is. A directory that is down stops nothing. [RotateSigningKey],
// [RotateRotationKey], [AddRecoveryKey], [Move], [Tombstone] and [Recover] are what else is to be done with one; each can be a dry run.
// Beside a process that runs as the identity, a rotation is asked for with [AskSigningKey] and [AskRotationKey], and done by that process with
// [FinishRotations] (a hold does). [Describe] and [PLCLog.History] tell how things stand. A crash at any point ([Seams]) leaves one DID and every key that
// the directory may name. Package backup below this one carries an identity to another machine.
//
// Who holds a rotation key decides who the service is. Files in the data folder:
//
//	did.txt                 the DID
//	genesis.json            the signed operation that made a did:plc
//	plc-log.json            its log, as it was seen last
//	keys/signing.key        signs commits and service tokens
//	keys/rotation.key       signs operations; can be kept elsewhere, or given by the environment
//	keys/*.next, keys/*.old a key that a rotation made and the directory has not confirmed; the one before the last rotation
//
// Service tokens are minted and checked by the package serviceauth below this one.
//
// Importing indigo's identity package registers its metrics in the default Prometheus registry; ours are handed out by
// [Resolver.Metrics] and never registered. Everything here is safe for concurrent use.
package identity
