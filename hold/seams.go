package hold

// Seams names the places where tests end the process, in the order of a push. Config.Seam, nil in production, is called with
// the name when the process stands there; what the comment says is then on the disk, and nothing later is.
//
//	upload-begun            the row of the upload; the uploadId has not been told
//	part-bytes-durable      the bytes of a part and their hash state; the part is not acknowledged and not in the row
//	part-recorded           the part and its row; the client has not been told
//	commit-intended         the row names the digest and the lease on it stands; the blob is not visible
//	blob-visible            the blob under its digest; the row still says the upload is open
//	upload-done             the row says done; the client has not been told
//	manifest-read           nothing new; the record at the owner's PDS was read and checked
//	layers-recorded         the layer records, in one commit; our index of them is behind
//	layers-indexed          records and index; leases still stand, the push is not counted
//	layers-removed          a deleted manifest's layer records are gone; our index of them is behind
//
// After each a restart needs no repair by hand: a part is sent again from the acknowledged offset, completeUpload and
// notifyManifest are repeated with the same outcome, and the index is made anew from the records when it is behind them.
func Seams() []string {
	return []string{
		seamUploadBegun, seamPartBytes, seamPartRecorded, seamCommitIntended, seamBlobVisible, seamUploadDone,
		seamManifestRead, seamLayersRecorded, seamLayersIndexed, seamLayersRemoved,
	}
}

const (
	seamUploadBegun    = "upload-begun"
	seamPartBytes      = "part-bytes-durable"
	seamPartRecorded   = "part-recorded"
	seamCommitIntended = "commit-intended"
	seamBlobVisible    = "blob-visible"
	seamUploadDone     = "upload-done"
	seamManifestRead   = "manifest-read"
	seamLayersRecorded = "layers-recorded"
	seamLayersIndexed  = "layers-indexed"
	seamLayersRemoved  = "layers-removed"
)

func (s *Server) seam(name string) {
	if s.cfg.Seam != nil {
		s.cfg.Seam(name)
	}
}
