// Package hold is a hold: the service that keeps the layers of container images for a captain and a crew, with an AT
// Protocol repository of its own in which stands who may do what and which layers are whose.
//
//	h, err := hold.New(ctx, hold.Config{
//		Dir:   "/var/lib/hold",
//		PublicURL: "https://hold.example.com",
//		OwnerDID:  "did:plc:…",
//		Public:    true,
//	})
//	if err != nil { … }
//	defer h.Close()
//	go h.Run(ctx)                              // expiry of uploads and leases
//	http.ListenAndServe(":8080", h.Handler())  // or mount it beside other routes
//
// # What it serves
//
// XRPC methods io.atcr.hold.* for layers, com.atproto.repo.* and com.atproto.sync.* for its records, its DID document
// under /.well-known, and /blobs, where readers are sent for bytes. Errors are XRPC JSON {error, message}.
//
// # Who may
//
// The captain (Config.OwnerDID) may do everything. Crew records give blob:read, blob:write (which implies reading) and
// crew:admin (which implies both, and managing crew, but neither the captain's record nor one's own). Everybody
// reads the layers of a public hold; nobody else reads those of a private one. Users show who they are by a service token that
// their PDS signs (com.atproto.server.getServiceAuth); an uploadId is by itself the right to the parts of its upload.
// One AppView can be trusted (Config.AppViewDID): by tokens of its own it sets the tiers of members, and may nothing else.
//
// # Data
//
// In the data folder: repo.db (the repository), hold.db (uploads, leases, and an index of layer records), both SQLite and both
// replaced by Config.DB; blobs/ (layers, laid out as CNCF
// distribution does), spool/ (parts that came too early), the signing key and did.txt of package identity, and link.key. One
// process at a time has the folder; a second is refused with the first one's pid. Each of repository, storage,
// directory, clock and log can be given instead.
//
// hold/datadir opens the folder without a server, from [Config.DataDir]; hold/backup backs it up and restores it, and a [BackupSchedule]
// has a running hold do so by itself.
//
// # What stays true
//
// An upload is visible only after its bytes were hashed here, and is on the disk when completeUpload answers. A part that was
// acknowledged survives a crash. Layer records are written from the manifest record at the owner's PDS, once for each
// (owner, repository, manifest, layer), however often the hold is told.
package hold
