// Package backup backs up and restores a hold: identity, repository, metadata, configuration and, if wanted, layers, as sets in a
// folder or a bucket.
//
//	to, err := backup.OpenFolder("/mnt/backups")               // or hold/backup/s3target
//	cfg, err := holdConfig.DataDir()                           // of the hold.Config that the server has
//	c, err := datadir.Read(ctx, cfg)                           // of a stopped hold, or beside its running server
//	set, err := backup.Create(ctx, to, c, backup.Options{Recipients: recipients, Layers: true})
//	_, err = backup.Restore(ctx, to, "", cfg, backup.RestoreOptions{Keys: keys})  // into an empty data folder
//
// A running hold makes its own: [Options.Job] for hold.Config.Backup.
//
// # A set
//
//	sets/20261124T135323.000000Z/repo.car        the repository with the blobs of its records, as repo.VerifyCAR takes it
//	sets/20261124T135323.000000Z/identity.age    DID and keys, encrypted (package identity/backup)
//	sets/20261124T135323.000000Z/notes.jsonl     what the hold knows beyond its records
//	sets/20261124T135323.000000Z/layers.txt      the layers of the set, with layers
//	sets/20261124T135323.000000Z/config.yaml     the configuration without secrets, if given
//	sets/20261124T135323.000000Z/manifest.json   every file with size and sha256; DID, revision, event number, time
//	layers/docker/registry/v2/blobs/sha256/ab/abcd…/data   each layer once, whatever sets name it
//
// The manifest is written last: what has none is no set, and is removed by the next Create. The layers lie as CNCF distribution
// lays them out, so that a hold or a registry can be pointed at the folder as it is.
//
// # What is consistent
//
// The repository is one state of it, verified before it is written. Layers are copied after it was read, those that its records name:
// a layer is in the hold before a record names it, so pushes under way don't matter. When one has been deleted meanwhile, the
// repository is read again. A layer that the hold has lost while its records still name it is told, and stands in the manifest
// as missing: the rest is worth keeping.
//
// # What is not in it
//
// Uploads and leases, that is pushes that were under way; events; the key of links to layers, which live for a quarter of an hour; the
// replay cache. After a restore the hold refuses service tokens from before it for an hour, and its event numbers go on an hour
// above the clock and above the newest that the backup knew, with a #sync event, since followers have seen more than the backup has.
//
// # The identity
//
// It is encrypted by age to a recipient, so that a hold that makes its backups needs no secret to do so, and the target can't become the
// hold. Recipients are public, though: who may write to the target can replace a set by one with keys of his own, which a restore
// takes unless the configuration names another DID. Compare DID and signing key in the manifest with those known before, or encrypt to
// a passphrase. Without recipients Create refuses; [Options.NoIdentity] says that the identity is kept elsewhere (atcr-hold identity
// export), and must be imported before such a set is restored.
package backup
