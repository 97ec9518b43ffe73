// Package oauth signs people in with AT Protocol OAuth (confidential or loopback client) and keeps what they granted.
//
// A [Client] is one application. [Client.Begin] returns where to send a person's browser, [Client.Finish] takes what it comes back with
// and returns a [Grant]: one sign-in at one server, with tokens and an end of its own. From then on [Client.Do] sends requests to the
// person's server in that grant's name, whoever calls and after any restart:
//
//	client, err := oauth.New(ctx, oauth.Config{DB: db, Directory: dir, URL: "https://registry.example.com", …})
//	mux.Handle("/oauth-client-metadata.json", client.Handler())
//	started, err := client.Begin(ctx, oauth.Begin{Account: "alice.example.com"})
//	// keep started.Browser in a cookie, redirect to started.URL; then, at /auth/oauth/callback:
//	finished, err := client.Finish(ctx, r.URL.Query(), cookie.Value)
//	resp, err := client.Do(ctx, finished.Grant.ID, req) // req.URL is /xrpc/…
//
// # What is kept, and where
//
// Tables oauth_request and oauth_grant, in SQLite or PostgreSQL. Tokens and keys of grants are encrypted under the file at
// [Config].SealPath, each together with the account and every address that it is sent to. The client's own keys are in the file at
// [Config].KeyPath. Who has the database alone can use nothing in it.
//
// # Refresh
//
// An access token lives for minutes or hours; a refresh token is good once, and servers end a whole sign-in when they see one a second
// time. So there is one refresh at a time for each grant, over all processes that share the database: a random mark in the grant's row is
// durable before the request is sent, and new tokens are durable before they are used. Tokens are renewed 5 minutes before their end, or
// a third of a shorter life; those of grants that are to be kept ([Client.Keep]) at least weekly, by [Client.Run].
//
// An answer that is lost, by a crash or on the way, has no way back in the protocol: [Grant].Lost is true from then on, the access token
// is used while it lives, and after that the refresh token is shown once more, since nothing is left to lose.
//
// A process that ends calls [Client.Close] after the last [Client.Do], which waits for answers that would be lost.
//
// Only a server's invalid_grant ends a grant. Servers that are down, busy or broken are asked again later.
//
// Everything here is safe for concurrent use.
package oauth
