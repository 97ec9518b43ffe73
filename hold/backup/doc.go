// Package backup backs up and restores a hold: identity, repository, metadata, configuration and, if wanted, layers, as sets in a
// folder or a bucket.
//
//	to, err := backup.OpenFolder("/mnt/backups")               // or hold/backup/s3target
//	cfg, err := holdConfig.DataDir()                           // of the hold.Config that the server has
//	c, err := datadir.Read(ctx, cfg)                           // of a stopped hold, or beside its running server
//	set, err := backup.Create(ctx, to, c, backup.Options{Recipients: recipients, Layers: true})
//	_, err = backup.Restore(ctx, to, "", cfg, backup.RestoreOptions{Keys: keys, Trust: trust})  // into an empty data folder
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
//	sets/20261124T135323.000000Z/manifest.json   every file with size and sha256; DID, key, commit, event number, time
//	sets/20261124T135323.000000Z/manifest.sig    its signature
//	layers/docker/registry/v2/blobs/sha256/ab/abcd…/data   each layer once, whatever sets name it
//
// The manifest is written last: what has none is no set, and is removed by the next Create. The layers lie as CNCF distribution
// lays them out, so that a hold or a registry can be pointed at the folder as it is.
//
// # What is consistent
//
// The repository is one state of it, verified before it is written. Layers are copied after it was read, those that its records name:
// a layer is in the hold before a record names it, so pushes under way don't matter. When one has been deleted meanwhile, the
// repository is read again. A layer that the hold has lost while its records still name it is logged, and stands in the manifest
// as missing: the rest is worth keeping.
//
// # What is not in it
//
// Uploads and leases, that is pushes that were under way; events; the key of links to layers, which live for a quarter of an hour; the
// replay cache. After a restore the hold refuses service tokens from before it for an hour, and its event numbers go on an hour
// above the clock and above the newest that the backup knew, with a #sync event, since followers have seen more than the backup has.
//
// # Whose set it is
//
// manifest.sig is the signature of the hold's signing key, in base64 (URL, without padding), over "atcr-backup-2\n" and the bytes of
// manifest.json: so no commit or token, which the key signs, too, can be taken for one. The manifest names that key, and by their digests
// all other files; layers have theirs in their names. A signature alone says little: who can write to the target can make a hold of the
// same DID with a key and a crew of his own, and back that up. So [Verify], [ReadConfig] and [Restore] take a [Trust]: keys that the reader
// knows from elsewhere, or a question for the DID document. A restore that nothing vouches for asks RestoreOptions.Confirm, with [Claims]
// that name key, captain and crew.
//
// An old set is somebody's, too, who had rights then. Trust refuses sets over an age, and one beside which the target has a newer one. Who
// can delete can make the second rule void, so the first should be tight. Event numbers are held against the time of the set.
//
// Sets of before have format atcr-backup-1, a sum in place of the signature, and count with Trust.Unsigned and Confirm alone.
//
// # The identity
//
// It is encrypted by age to a recipient, so that a hold that makes its backups needs no secret to do so, and the target can't become the
// hold. Without recipients Create refuses; [Options.NoIdentity] says that the identity is kept elsewhere (atcr-hold identity
// export), and must be imported before such a set is restored.
package backup
