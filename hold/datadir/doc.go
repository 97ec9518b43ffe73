// Package datadir reads, changes and restores the data folder of a hold without a server. hold/backup and the verbs of atcr-hold are
// made with it.
//
//	cfg, err := holdConfig.DataDir()           // of the hold.Config that the server has
//	o, err := datadir.ReadRepo(ctx, cfg)       // stopped, or beside the running server
//	if err != nil { … }
//	defer o.Close()
//	for rec, err := range o.Repo.List(ctx, atcr.NSIDCrew, "", false) { … }
//
// # The folder
//
//	repo.db        the repository: captain, crew, and which layers are whose (package repo/sqlstore)
//	hold.db        uploads and leases that are open, and what can be rebuilt from the repository
//	               (a Config.DB has the tables of both in their place)
//	blobs/         the layers, unless Config has a Storage or a StoragePath
//	keys/, did.txt the identity (package identity)
//
// # Who may open what
//
// [ReadRepo] and [Read] work at any time. [OpenRepo], [BeginRestore] and [AnnounceIdentity] change the hold: it must be stopped. The
// first two take the lock of the folder and return [ErrLocked] when another process has it; AnnounceIdentity is called by who has it.
// In a Config.DB of PostgreSQL the repository may be written beside the running server, which then follows.
//
// # Restoring
//
// [BeginRestore] takes an empty folder; the methods of [Restore] put the identity, repository, metadata and layers into it, and Done
// makes it a hold. Until then everything here and hold.New refuse the folder with [ErrRestoreInProgress].
package datadir
