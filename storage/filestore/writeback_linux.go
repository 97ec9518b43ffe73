package filestore

import (
	"os"

	"golang.org/x/sys/unix"
)

// beginWriteback asks the kernel to start writing a range to the disk. It is a hint: errors don't matter, and the
// fsync still comes.
func beginWriteback(f *os.File, off, n int64) {
	_ = unix.SyncFileRange(int(f.Fd()), off, n, unix.SYNC_FILE_RANGE_WRITE)
}
