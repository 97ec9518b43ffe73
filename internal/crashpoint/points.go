package crashpoint

// Points of registry/pds, in the order of a push.
const (
	// TailKept: the end of what came of an upload is in its tail file and the upload's row says so; the client has not been told.
	TailKept = "tail-kept"
	// PartAcknowledged: the hold has the part and the upload's row says so.
	PartAcknowledged = "part-acknowledged"
	// UploadCompleted: the hold has the blob; the client has not been told.
	UploadCompleted = "upload-completed"
	// IntentWritten: the intent is in the database, nothing at the PDS. Settling drops it.
	IntentWritten = "intent-written"
	// BlobUploaded: the PDS holds the manifest's bytes, no record names them. Settling drops the intent.
	BlobUploaded = "blob-uploaded"
	// RecordCommitted: the records are in the owner's repository; local copy and hold do not know. Settling tells the hold.
	RecordCommitted = "record-committed"
	// CopyUpdated: the local copy knows too, the client may have been told. Settling tells the hold.
	CopyUpdated = "copy-updated"
	// HoldTold: the hold has its layer records; the intent still stands. Settling tells the hold again, which changes nothing.
	HoldTold = "hold-told"
)

// OfPDS returns the points of registry/pds.
func OfPDS() []string {
	return []string{IntentWritten, BlobUploaded, RecordCommitted, CopyUpdated, HoldTold, TailKept, PartAcknowledged, UploadCompleted}
}

// Points of a hold, in the order of a push. After each a restart needs no repair by hand: a part is sent again from the acknowledged
// offset, completeUpload and notifyManifest are repeated with the same outcome, and the index is rebuilt from the records when it
// is behind them.
const (
	// UploadBegun: the row of the upload; the uploadId has not been told.
	UploadBegun = "upload-begun"
	// PartBytesDurable: the bytes of a part and their hash state; the part is not acknowledged and not in the row.
	PartBytesDurable = "part-bytes-durable"
	// PartRecorded: the part and its row; the client has not been told.
	PartRecorded = "part-recorded"
	// CommitIntended: the row names the digest and the lease on it stands; the blob is not visible.
	CommitIntended = "commit-intended"
	// BlobVisible: the blob under its digest; the row still says the upload is open.
	BlobVisible = "blob-visible"
	// UploadDone: the row says done; the client has not been told.
	UploadDone = "upload-done"
	// ManifestRead: nothing new; the record at the owner's PDS was read and checked.
	ManifestRead = "manifest-read"
	// LayersRecorded: the layer records, in one commit; the index of them is behind.
	LayersRecorded = "layers-recorded"
	// LayersIndexed: records and index; leases still stand, the push is not counted.
	LayersIndexed = "layers-indexed"
	// LayersRemoved: a deleted manifest's layer records are gone; the index of them is behind.
	LayersRemoved = "layers-removed"
)

// OfHold returns the points of a hold.
func OfHold() []string {
	return []string{
		UploadBegun, PartBytesDurable, PartRecorded, CommitIntended, BlobVisible, UploadDone,
		ManifestRead, LayersRecorded, LayersIndexed, LayersRemoved,
	}
}

// Points of hold/backup's Create, in order.
const (
	// RepositoryExported: the repository lies in the work folder, not verified; the target has nothing of it.
	RepositoryExported = "repository-exported"
	// RepositoryRead: and is verified.
	RepositoryRead = "repository-read"
	// LayersCopied: the layers are at the target; nothing names them.
	LayersCopied = "layers-copied"
	// FilesWritten: all files of the set but the manifest are at the target.
	FilesWritten = "files-written"
	// SetWhole: the manifest is there; older sets have not been removed.
	SetWhole = "set-whole"
)

// OfBackup returns the points of hold/backup's Create.
func OfBackup() []string {
	return []string{RepositoryExported, RepositoryRead, LayersCopied, FilesWritten, SetWhole}
}

// Points of hold/backup's Restore, in order.
const (
	// RestoreBegun: the folder is marked as being restored; nothing else is in it.
	RestoreBegun = "restore-begun"
	// LayersRestored: the layers are in the hold's storage.
	LayersRestored = "layers-restored"
	// IdentityRestored: keys and did.txt are in the folder.
	IdentityRestored = "identity-restored"
	// RepositoryRestored: the repository is there, with the commit that followers are told of; the folder is still marked.
	RepositoryRestored = "repository-restored"
)

// OfRestore returns the points of hold/backup's Restore.
func OfRestore() []string {
	return []string{RestoreBegun, LayersRestored, IdentityRestored, RepositoryRestored}
}

// Points of identity and identity/plc. After each a start finds one DID and every key that the directory may name.
const (
	// SigningKeyDurable: the signing key of a new did:plc.
	SigningKeyDurable = "signing-key-durable"
	// RotationKeyDurable: and its rotation key.
	RotationKeyDurable = "rotation-key-durable"
	// GenesisDurable: and genesis.json; there is no did.txt.
	GenesisDurable = "genesis-durable"
	// DIDDurable: and did.txt; the operation has not been submitted.
	DIDDurable = "did-durable"
	// GenesisSubmitted: the directory was asked to take it.
	GenesisSubmitted = "genesis-submitted"
	// UpdateSigned: nothing; an operation is signed and in memory alone.
	UpdateSigned = "update-signed"
	// UpdateSubmitted: the directory has answered; the log kept in the data folder is behind.
	UpdateSubmitted = "update-submitted"
	// NextKeyDurable: a rotation's new key, beside the old one; the directory names the old one.
	NextKeyDurable = "next-key-durable"
	// NextKeyConfirmed: the directory names the new key; the file under the key's own name is still the old one.
	NextKeyConfirmed = "next-key-confirmed"
	// NextKeyPromoted: the new key has the name; the old one lies beside it.
	NextKeyPromoted = "next-key-promoted"
)

// Points of identity/oauth, in the order of a refresh. After the first two the answer counts as lost.
const (
	// RefreshMarked: the grant's row says that it is being refreshed; the server has not been asked.
	RefreshMarked = "refresh-marked"
	// RefreshAnswered: the server has answered, so the old refresh token is spent; the new one is in memory alone.
	RefreshAnswered = "refresh-answered"
	// RefreshSaved: the new tokens are in the row; nobody has used them.
	RefreshSaved = "refresh-saved"
)

// OfOAuth returns the points of identity/oauth.
func OfOAuth() []string { return []string{RefreshMarked, RefreshAnswered, RefreshSaved} }

// RowsCopied: the rows of the SQLite files of a service are in the database that it is given from now on; a file has its old name still.
// The next start gives it the new one. It is reached once for each file.
const RowsCopied = "rows-copied"

// OfMove returns the points of moving SQLite files into a database.
func OfMove() []string { return []string{RowsCopied} }
