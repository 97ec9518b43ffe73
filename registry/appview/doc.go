// Package appview is the AppView as a value: a registry at /v2/ whose images belong to AT Protocol accounts, and the token
// endpoint at /auth/ where docker and others sign in, by app password, device or robot, and pages where people sign in at their own
// servers by OAuth.
//
//	app, err := appview.New(ctx, appview.Config{
//		Dir:         "/var/lib/atcr",
//		BaseURL:     "https://registry.example.com",
//		DefaultHold: "did:web:hold.example.com",
//	})
//	if err != nil { … }
//	defer app.Close()
//	go app.Run(ctx)                              // settles what a crash or a silent server left open
//	http.ListenAndServe(":5000", app.Handler())  // or mount it; or give Config.Addr and let Run listen
//
// It joins the packages that do the work and holds no logic of its own: registry (OCI over HTTP), registry/pds (manifests and tags in
// their owners' repositories, layers in holds), registry/auth (tokens and sessions), identity/oauth (grants), registry/web (pages),
// identity (who is who). To serve something else at /v2/, join them yourself, without the limits by client and the budget of answers,
// which are this package's.
//
// # Data
//
// In Config.Dir: appview.db (SQLite: sessions, copies of records, uploads and intents under way; replaced by Config.DB), auth/ (the key
// that signs tokens, its certificate, the key that encrypts sessions and grants), oauth/ (the OAuth client's keys),
// uploads/ (ends of uploads on their way to a hold), tmp/ (answers of other servers, removed at a start), did.txt and keys/ (the AppView's
// own identity). One process at a time has the folder.
//
// # Addresses
//
// With BaseURL set, every URL and token names it. Without, requests are answered whose Host is loopback or the address that is
// listened on, and any other Host gets 421.
//
// OAuth needs an address that people's servers send browsers back to: BaseURL by https, a loopback one by number (127.0.0.1, [::1]), or
// Config.Addr without BaseURL. By any other address people sign in by app password alone.
//
// # Identity
//
// With BaseURL set, the AppView is a did:web of its host with a P-256 key, whose document stands at /.well-known/did.json. By it
// the AppView asks where no user does: it tells holds of pulls without sign-in, and where a hold names it as its trusted AppView
// it may set the tiers of that hold's crew (Server.UpdateCrewTier), which gives it no other right there.
package appview
