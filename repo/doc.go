// Package repo keeps one signed AT Protocol repository: records by collection and key, a Merkle search tree over them,
// a signed commit for each change, the events that tell others, and the small blobs that records name.
//
//	store, err := sqlstore.Open(ctx, "data/repo.db")   // or memstore.New()
//	defer store.Close()                                // after the Repo
//	r, err := repo.Open(ctx, store, repo.Options{DID: did, Key: key}) // of identity.LoadOrCreateDID: id.DID.String() and id.Key
//	defer r.Close()
//	value, err := repo.RecordFromJSON([]byte(`{"$type":"io.atcr.tag","tag":"v1"}`))
//	commit, err := r.Apply(ctx, []repo.Write{{Action: repo.Put, Collection: "io.atcr.tag", RKey: "app_v1", Record: value}})
//
// # Writing
//
// [Repo.Apply] is the only way to change records. A batch is one commit, all or nothing, on the disk before Apply
// returns, and exactly one event. Applies that wait at the same time share one database transaction; each still is its
// own commit, and one whose [Guard] or swap fails does not disturb the others. An Apply whose context ends while it waits
// has no effect; once the writer has taken it, Apply waits for the outcome, so that an error always means "not done".
// (Only an error of the database itself at its COMMIT leaves that open; it is of kind [ErrCorrupt] or unclassified.)
//
// # Reading
//
// [Repo.Get], [Repo.List], [Repo.Prove], [Repo.GetBlob] and [ExportCAR] read from the store, do not wait for writers,
// and each see one state. Lists are iterators with a start-after; they end with the error they met.
//
// # The tree
//
// A node of the tree is stored by its place, not by its hash: the record before it (its fence) and its height. So a
// commit rewrites rows where they lie, the nodes of a path are neighbours on the disk, and the two tables read in order
// are the repository in the specification's streaming order. A write loads the nodes on its path and no others.
//
// # Proofs
//
// [Repo.Prove] gives a CAR with the commit, the path of nodes and the record; [VerifyProof] checks one from anywhere
// against a DID and its signing key, without any store.
//
// # CARs
//
// [ExportCAR] streams the repository, or what is newer than a revision. [VerifyCAR] checks a whole repository from
// anywhere and returns the first error with its offset; [OpenCAR] also reads its records. [ImportCAR] brings the records of
// any number of CARs into a repository, in one signed commit; [MirrorCAR] restores one as it was into an empty store.
// They read CARv1; package repo/carv2 takes one out of a CARv2.
//
// # Events
//
// Each commit leaves one event, ready to be sent: [Repo.Events] reads them, [Repo.Changed] reports when there are more, package
// repo/firehose serves them. A bulk import is a #sync; [Repo.Announce] and [Repo.AnnounceAccount] tell of the account. Numbers only rise,
// also over a restored backup: the clock is their floor, [Repo.JumpSeq] raises them further.
//
// Specification: https://atproto.com/specs/repository, version 3.
package repo
