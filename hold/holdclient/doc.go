// Package holdclient speaks to a hold, the service that keeps the layers of container images, over its XRPC
// methods io.atcr.hold.* and com.atproto.sync.getBlob. It works with any hold: what ours add to the protocol
// (checkBlobs, getUpload, notifyManifest "delete") is tried once, and a hold that lacks it is spoken to without.
//
// # One client a hold, one view a user
//
// [New] makes a client for one hold. It remembers what it learned of that hold: which methods it has, whom its
// tokens must be addressed to, whether parts go to the hold or to its bucket. Keep it. [Client.As] gives a view of
// the same client that signs as one user; views are cheap and share what was learned:
//
//	hold := holdclient.New(holdclient.Options{DID: "did:web:hold.example.com", URL: "https://hold.example.com"})
//	alice := hold.As(func(ctx context.Context, aud, lxm string) (string, error) { … com.atproto.server.getServiceAuth … })
//	present, err := alice.CheckBlobs(ctx, "app", digests)
//
// # Tokens
//
// A hold's address comes out of records that anybody may write, so no token is sent to a hold for a method before it
// has answered that method with 401 or 403 without one. The answer is remembered: later calls of the method send a
// token at once. Tokens are asked for the audience DID#atcr_hold where the hold's document has that service, else for the bare DID;
// when the hold answers 401 the other is tried once, and what worked is remembered. Redirects are never followed
// with a token; presigned addresses never see one.
//
// # Errors
//
// Every refusal is an [*Error] that is one of the kinds ErrNotFound, ErrUnauthorized, ErrForbidden, …; test with
// [errors.Is]. A hold that can't be reached, or answers 5xx, is [ErrUnavailable].
//
// # Limits
//
// JSON answers are read to 4 MiB, error bodies to 64 KiB, lists to 10 000 records; small calls end after 30 seconds.
// All methods are safe for concurrent use.
package holdclient
