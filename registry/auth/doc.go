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
// Guessing is slowed before the PDS is asked (429 with Retry-After): per client and account, per client, and per account for all
// clients that never signed in to it. One that did has a bucket of its own there, so that nobody is locked out by
// others; a password known to be good never waits. A client is what [Options.ClientAddr] returns.
//
// Who signs in by a password may ask for a refresh token (offline_token=true, or access_type=offline in the form), which is then taken in
// place of the password (grant_type=refresh_token, or as Basic's password beside any user name). It lives 90 days from its last use, is
// not replaced when it is used, and keeps the session behind it alive. See [Logins].
//
// # Devices
//
// POST /auth/device/code and /auth/device/token are the flow of RFC 8628; a page approves by [Devices]. A device's secret is taken where a
// refresh token is. It acts by a grant of its own ([Options.OAuth]), which ends with it.
//
// # Robots
//
// [Robots] are for a CI: a secret with an end, for some repositories and actions, which can be renewed with a day's overlap. Where a robot
// may not pull it is anonymous.
//
// # Tokens
//
// JWTs of five minutes signed by RS256, whose key is at /auth/jwks.json with its certificate. They say who ("sub" and "did"), which
// session ("sid"), by which refresh token, device or robot ("tid"), and what ("access", names as they were asked).
// Key and certificate are made on first run; the certificate is for ten years and is renewed within 30 days of its end. [RotateKey] puts
// another key in its place, and both are published for a day.
//
// # Sessions
//
// One row per account and password keeps the PDS's tokens, encrypted under session.key beside the signing key. A row
// outlives restarts, is refreshed under a lock of its account, checked with the PDS at least every ten minutes in which
// it is used, and dropped 30 days after its last use or when the PDS refuses it. The password itself is not kept, only its HMAC.
// [Sessions] does requests with it, and with grants of OAuth, whose ids begin with "oauth-". An account has at most
// 20 sessions; one more makes the least used go, but none that [Options.InUse] names.
// Tokens of more than 8 KiB are refused.
//
// The encryption binds the row's id, account and PDS: whoever may write to the database can't have the tokens sent elsewhere. Before a
// refresh the PDS is compared with the account's document. Rows of versions that bound less are sealed anew at the first start, and
// refused from then on (the file session.key.bound says so).
//
// To replace session.key put a new key (32 bytes in base64) on a line before the old one, and restart: all rows are sealed anew. The old
// line is needed until people have signed in again, for their passwords' HMACs; without it they get new rows.
//
// # The authorizer
//
// [Auth.Authorize] takes tokens of this package alone. A pull without any token goes on as anonymous, with a challenge for the
// backend to use. Who continues an upload may do so with a token that expired up to a day ago: the upload's id
// is itself secret, and rights are asked again when it ends. A token whose session, or whose refresh token, device or robot has ended is
// refused: at once in the process that ended it, within seconds in others.
//
// Everything here is safe for concurrent use.
package auth
