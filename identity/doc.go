// Package identity resolves handles and DIDs of the AT Protocol network, and gives a service a DID and keys of its own.
//
// # Resolving identities
//
// [NewResolver] returns a [Directory] (bluesky-social/indigo's interface, so anything written for it works) with what a
// server needs that looks up untrusted names: a guard on the connected address, documents of at most 64 KiB, bounded
// caches, one request for many callers, "there is none" remembered for a minute, and the last good result while a
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
// did:web:127.0.0.1%3A8080 and did:web:localhost%3A8080 are one host: looking up either returns the identity with the DID
// that the host's own document shows.
//
// # A service's own identity
//
// [LoadOrCreateDID] finds or makes the DID and signing key of a service, and keeps both in its data folder; [Document] is
// its DID document and [WellKnown] serves it. One call at each start is all that a did:web needs:
//
//	cfg := identity.Config{Dir: dir, PublicURL: "https://hold.example.com", Services: identity.HoldServices()}
//	id, err := identity.LoadOrCreateDID(ctx, cfg)
//	mux.Handle("/.well-known/", identity.WellKnown(id))
//
// A did:plc (Method "plc") outlives the name that it was made under: its document lies in a directory, as a log of signed
// operations. A service with one calls [EnsurePLCCurrent], too, at every start and every some hours:
//
//	status, err := identity.EnsurePLCCurrent(ctx, id, cfg)
//
// It compares signing key, handle and services with the uncached log, which it verifies and holds against the log as it was
// seen last, and on a difference submits one update that leaves everything else as it is. A directory that is down stops
// nothing: the service runs, [Identity.Registered] is false while the directory has never shown the DID, and the next call
// submits what is missing.
//
// Who holds a rotation key decides who the service is. Package plc below this one rotates keys, adds recovery keys, moves,
// recovers and gives up a did:plc, and shows its history; package backup carries an identity to another machine.
//
// # When configuration and disk disagree
//
// What is stored stays; it is never derived from the configuration again.
//
//   - A [Config.DID] other than the stored one is refused with [ErrContradiction], which names both and what can be done.
//   - So are files of different identities in one folder: did.txt and genesis.json of two DIDs, or, while there is no did.txt, a
//     genesis.json that names other keys than the stored ones.
//   - A [Config.Method] other than the stored DID's is logged as a warning: it is for a DID that is made.
//   - A [Config.PublicURL] that is not a did:web's host is logged as a warning: others find the service only while that
//     host leads to it. In the directory of a did:plc EnsurePLCCurrent puts the new URL in place of the old one.
//   - A stored DID without its key is refused with [ErrKeyMissing]; no new key takes its place.
//
// A value that is wrong in itself is a [ConfigError] with the field's name. So is a directory whose address the guard of the
// HTTP client refuses ([ErrPLCForbidden]): unlike an outage it would never end.
//
// # Files in the data folder
//
//	did.txt            the DID
//	genesis.json       the signed operation that made a did:plc
//	plc-log.json       its log, as it was seen last
//	keys/signing.key   signs commits and service tokens
//	keys/rotation.key  signs operations; can be kept elsewhere, or given by the environment
//	keys/history       the public keys that signed, the newest last: see [Config.AcceptKey]
//	keys/*.next        a key that a rotation made and the directory has not confirmed
//	keys/*.old         the one before the last rotation
//	keys/*.offered     a key that waits for an operation which is signed elsewhere
//
// What is made is made in an order that leaves one DID, and every key that the directory may name, after a crash at any
// point: keys first, then genesis.json, then did.txt, then the directory.
//
// Key files hold a private key as multibase text ("z…"), PEM (SEC 1 or PKCS #8), 32 raw bytes or 64 hex digits, of P-256 or
// K-256. A file that others may read, or that lies in a folder others may write to, is refused ([ErrKeyPermissions]).
//
// Service tokens are minted and checked by package serviceauth below this one.
//
// Importing indigo's identity package registers its metrics in the default Prometheus registry; this package's are returned by
// [Resolver.Metrics] and never registered. Everything here is safe for concurrent use.
package identity
