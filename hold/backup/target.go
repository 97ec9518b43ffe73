package backup

import (
	"context"
	"io"
	"iter"
)

// Target is where sets lie: files by names like "a/b/c" of letters, digits, dots, dashes. One hold writes to a target, one process
// at a time, which [Create] sees to; reading is always allowed. Implementations: [Folder], hold/backup/s3target.
type Target interface {
	// Put writes a file, over one that is there: whole and durable when it returns nil, else the old one or none. It reads
	// exactly size bytes from r; an error of r, or fewer bytes, is an error.
	Put(ctx context.Context, name string, r io.Reader, size int64) error
	// Open reads a file. Errors: fs.ErrNotExist.
	Open(ctx context.Context, name string) (io.ReadCloser, error)
	// List iterates over the files below a folder ("sets/"), whole ones, in the order of their names. A folder that is not
	// there is empty. It ends after an error.
	List(ctx context.Context, folder string) iter.Seq2[Entry, error]
	// Delete removes a file; one that is not there is no error.
	Delete(ctx context.Context, name string) error
	// Clean removes what Puts that were broken off left behind.
	Clean(ctx context.Context) error
	// String names the target for people, without secrets.
	String() string
}

// Entry is a file at a target.
type Entry struct {
	Name string
	Size int64 // bytes
}
