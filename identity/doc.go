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
// Service tokens are minted and checked by the package serviceauth below this one.
//
// Importing indigo's identity package registers its metrics in the default Prometheus registry; ours are handed out by
// [Resolver.Metrics] and never registered. Everything here is safe for concurrent use.
package identity
