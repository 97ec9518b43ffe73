// Package hold is a hold: the service that keeps the layers of container images for a captain and a crew. It has an AT Protocol
// repository of its own, whose records say who may do what and which layers are whose.
//
//	h, err := hold.New(ctx, hold.Config{
//		Dir:       "/var/lib/hold",
//		PublicURL: "https://hold.example.com",
//		OwnerDID:  "did:plc:…",
//		Public:    true,
//	})
//	if err != nil { … }
//	defer h.Close()                            // also ends Run
//	go h.Run(ctx)                              // what a hold does by itself
//	http.ListenAndServe(":8080", h.Handler())  // or mount it beside other routes
//
// # What it serves
//
// XRPC methods io.atcr.hold.* for layers, com.atproto.repo.* and com.atproto.sync.* for its records, its DID document under
// /.well-known, /blobs, where readers are sent for bytes, and /health. Errors are XRPC JSON {error, message}.
//
// # Authorization
//
// The captain (Config.OwnerDID) may do everything. Crew records give blob:read, blob:write (which implies reading) and crew:admin
// (which implies both, and managing crew, but neither the captain's record nor one's own). Everybody reads the layers of a public
// hold; nobody else reads those of a private one. Users show who they are by a service token that their PDS signs
// (com.atproto.server.getServiceAuth); an uploadId is by itself the right to the parts of its upload. One AppView can be trusted
// (Config.AppViewDID): by tokens of its own it sets the tiers of members, and may do nothing else.
//
// # Data
//
// The data folder has repo.db (the repository) and hold.db (uploads, leases, an index of layer records), both SQLite, and both
// replaced by Config.DB; blobs/ (layers, laid out as CNCF distribution does) unless Config.Storage is given; spool/ (parts that came
// early); tmp/ (answers of other servers, removed at a start); the signing key and did.txt of package identity; and link.key. One process
// at a time has the folder; a second is refused with [ErrLocked] and the first one's pid. Repository, storage, database, directory, clock
// and log can each be given; what is given is not closed.
//
// hold/datadir opens the folder without a server, from [Config.DataDir]; hold/backup backs it up and restores it, and a
// [BackupSchedule] has a running hold do so by itself.
//
// # Durability
//
// A blob is visible only after its bytes were hashed here, and is on disk when completeUpload returns. A part that was acknowledged
// survives a crash. Layer records are written from the manifest record at the owner's PDS, once for each (owner, repository,
// manifest, layer), however often the hold is told of it. After a crash a start needs no repair by hand.
package hold
