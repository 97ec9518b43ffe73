package filestore

// Seam names a moment at which a crash is interesting, by what is durable then.
type Seam string

// All seams. A recovery that is right at each of them is right.
const (
	SeamBytesWritten Seam = "bytes-written" // nothing durable; all bytes of a Commit are in the file
	SeamBytesSynced  Seam = "bytes-synced"  // the bytes, under the upload's name
	SeamStateSaved   Seam = "state-saved"   // bytes and hash state, perhaps not yet their names
	SeamBlobNamed    Seam = "blob-named"    // as bytes-synced; the blob is visible but a power cut may take it back
	SeamBlobDurable  Seam = "blob-durable"  // the blob; its hash state may still lie about
)

func (s *Store) at(p Seam) {
	if s.seam != nil {
		s.seam(p)
	}
}
