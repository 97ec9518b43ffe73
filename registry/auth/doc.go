// Package auth is what docker knows of signing in: the token endpoint, the keys that its tokens are checked by, and the
// registry.Authorizer that checks them. It keeps the sessions by which a backend then acts at an account's own server (PDS).
//
//	a, err := auth.New(ctx, auth.Options{DB: db, Directory: dir, BaseURL: "https://registry.example.com",
//		KeyPath: "auth/private-key.pem"})
//	mux.Handle("/auth/", a.Handler())
//	mux.Handle("/v2/", registry.NewHandler(backend, &registry.Options{Authorizer: a}))
//	// the backend acts for signed-in accounts by a.Sessions()
//	go a.Run(ctx)
//
// # The token endpoint
//
// GET and POST /auth/token follow the docker token and OAuth2 token specifications of CNCF distribution. Nobody needs to
// sign in to pull: an anonymous caller is granted pull on whatever is asked; whether it is public is decided by the backend
// at the request. Basic (or the OAuth2 form's username and password) signs in with an app password of the account's
// PDS; the user name is a handle, did-plc-…, or a DID, which Basic cuts at its first colon and this package puts together
// again. Push and delete are granted in the account's own namespace only: names whose first part resolves to its DID.
// What is asked beyond that is left out, without a word about what exists.
//
// Unknown account, wrong password and an account without a PDS are one 401. A PDS that is down is 503 and named. The account's
// main password is refused with 403 that says how to make an app password, unless [Options.AllowAccountPassword].
// Guessing is slowed, per account and per address, before the PDS is asked (429 with Retry-After); a password known to be
// good never waits.
//
// # Tokens
//
// JWTs of five minutes signed by RS256, whose key is at /auth/jwks.json with its certificate. They say who ("sub" and "did"), which
// session ("sid") and what ("access", names as they were asked). Key and certificate are made on first run; the certificate is
// for ten years and is renewed within 30 days of its end.
//
// # Sessions
//
// One row per account and password keeps the PDS's tokens, encrypted under session.key beside the signing key. A row
// outlives restarts, is refreshed under a lock of its account, checked with the PDS at least every ten minutes in which
// it is used, and dropped 30 days after its last use or when the PDS refuses it. The password itself is not kept, only its HMAC.
// [Sessions] does requests with it.
//
// # The authorizer
//
// [Auth.Authorize] takes tokens of this package alone. A pull without any token goes on as anonymous, with a challenge for the
// backend to use. Who continues an upload may do so with a token that expired up to a day ago: the upload's id
// is itself secret, and rights are asked again when it ends.
//
// Everything here is safe for concurrent use.
package auth
