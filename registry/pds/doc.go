// Package pds is a registry.Backend whose manifests and tags are records in their owners' AT Protocol repositories
// (one PDS each, anywhere), and whose layers lie in holds.
//
//	backend, err := pds.New(ctx, pds.Options{DB: db, Directory: directory, Sessions: sessions, DefaultHold: "did:web:hold.example"})
//	go backend.Run(ctx) // settles what a crash or a silent server left open
//	http.Handle("/v2/", registry.NewHandler(backend, nil))
//
// # Names
//
// A name is IDENTITY/REPOSITORY; IDENTITY is a handle, a DID, or did-plc-<24 characters>. It is resolved at each use
// by the directory, whose cache bounds its age. Who writes must be the DID that the name resolves to.
//
// # The owner's copy
//
// The backend keeps, durably, what it needs of an owner's tag and manifest records: filled by listing once, stamped
// with the repository's rev, believed for 60 seconds, then confirmed by com.atproto.sync.getLatestCommit (one at a time, at
// most once a second per owner). Own writes change it in the same step. While the owner's PDS is silent the
// last known answer is given with a warning, up to Options.ServeStale. Manifest bytes are cached by digest.
//
// # Proofs
//
// A PDS is believed as far as [Verify] says: the records that lead to a manifest are proved by the owner's signed repository, once
// each. A list of tags is not: each is proved when it is pulled.
//
// # Two systems, one order
//
// A push ends in two places: a commit at the owner's PDS and layer records at the hold. PutManifest writes an intent first,
// durably, then the blob, then the records (all or nothing: applyWrites guarded by swapCommit), answers, tells the hold,
// clears the intent. Open intents are settled at start and on a timer by the function that the normal path ends in: it reads
// the record back; there, it tells the hold; not there, it drops the intent; a silent PDS, it waits. An applyWrites whose
// outcome is unknown is read back before anything is answered. Deletes go the same way.
//
// # Rights
//
// A manifest, tag, referrer or layer is answered to those who may read the hold that the record names: everyone when
// its captain record says public, else its captain and crew. Tokens of a puller go to a hold only after
// it answered 401 or 403 without one, since an untrusted record chose its address.
//
// # Counting
//
// A hold is told of each manifest that a client got, some seconds later and in the puller's name, or in the registry's own when nobody
// is signed in (Options.Self). What a crash loses, or a hold refuses, is not counted; Metrics tell how many.
//
// # Limits
//
// Package registry/appview, not this one, counts requests without sign-in by client, and keeps the answers of PDSes and holds within one
// budget. A program that joins the packages itself bounds both: the connections and requests of a client in front of its handler, the
// answers by Options.HTTP.
package pds
