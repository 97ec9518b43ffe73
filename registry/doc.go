// Package registry serves OCI Distribution 1.1 over a [Backend]: it knows HTTP and OCI, and nothing of where things lie.
//
//	backend, err := local.Open(ctx, "data")                                      // or your own Backend
//	handler := registry.NewHandler(backend, nil)
//	http.ListenAndServe("127.0.0.1:5000", handler.WithFallback(mux))
//
// # Mounting
//
// A [Handler] serves every path that is /v2 or begins with /v2/, and that stands at the root of a host. There is no option for a
// base path, since no client could use one: the distribution specification fixes /v2/, and in the reference
// "example.com/registry/app" the "registry" is a part of the repository's name. Give each registry a host name or a port of
// its own. [Handler.WithFallback] puts it before other routes. On an http.ServeMux, mux.Handle("/v2/", handler) serves every
// client as well; but the mux cleans a path with "//" or ".." before it looks for a handler, and redirects where the handler
// would send 400.
//
// # Authorization
//
// [Options].Authorizer turns a request and the accesses it needs into an [Actor]; without one everybody may do
// everything. What only the backend can know (is this repository private?) it answers itself, by [ErrUnauthorized] or
// [ErrDenied].
//
// # Request flow
//
// Method and URL are parsed once; names, tags and digests that break the grammar end here. The authorizer is asked, then
// Backend.Repository, then exactly one method of [Repository], which for a pull is Manifest or Blob. A push of a manifest is
// parsed with limits before ([ParseManifest]), and PutManifest gets it with all its tags in one call. A method returns an
// error; what is sent for it is decided in one place.
//
// # Errors
//
// Every [Error] has its OCI code and status; return one of the kinds in this package, with a message by [Error.With] and a
// challenge by [Error.WithChallenge].
// An error of no kind here is a 500 whose cause is logged and not sent. All bodies of errors are OCI error JSON, but the 401
// of GET /v2/, which is {}.
//
// # Limits
//
// Manifests: 4 MiB. Lists: [Options].PageSize entries, then a Link. Bodies that stall or trickle are cut. Ranges in one
// request: 32. Tags in one push: 100. Header limits and idle connections are the http.Server's.
//
// # Untrusted input
//
// Anybody who may push chooses the bytes that a browser gets. Every response says nosniff, attachment and a sandbox policy, blobs are
// application/octet-stream, and a manifest whose media type is no JSON type is not served.
//
// # Implementing a backend
//
// A backend embeds [UnimplementedBackend] and [Unimplemented] and implements what it can; the rest is answered
// UNSUPPORTED. A list stops after its first error ([Fail] is such a list), and a method that returns nil returns an error with it.
// For pulls Backend.Repository, Manifest and Blob are enough; Tags and Referrers make them visible in lists. ErrUnsupported from
// Referrers is sent as 404, upon which clients look for a tag in place of the list (distribution specification, "Unavailable
// Referrers API").
// examples/own-backend is a whole one. registry/local keeps everything in a folder; registry/pds in AT Protocol repositories and holds.
package registry
