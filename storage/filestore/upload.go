package filestore

import (
	"context"
	"errors"
	"hash"
	"io/fs"
	"net/http"
	"os"

	"github.com/atcr-dev/atcr/storage"
	"github.com/opencontainers/go-digest"
)

const (
	unsynced = -1      // upload.synced: not even the file's length is durable
	restSize = 1 << 20 // smaller uploads rest in memory when closed
)

// upload is one upload that is open. Its fields belong to the caller's goroutine, and during ReadFrom those that say so
// to the goroutine that hashes.
type upload struct {
	s   *Store
	id  string
	e   *entry
	f   *os.File // nil until the first byte
	alg digest.Algorithm
	h   hash.Hash // the hashing goroutine's

	size   int64
	begun  int64 // writing to the disk was begun up to here
	synced int64 // bytes that are durable under the upload's name, or unsynced
	torn   bool  // the file may be longer than size
	err    error // of an fsync: nothing is known of the bytes any more
	over   bool  // ended or closed

	// The hashing goroutine's, and of the goroutine that saves until saving is closed.
	saving  chan struct{}
	result  saveResult
	seq     uint64 // of the newest slot
	saved   int64  // offset of the newest state
	named   bool   // the names of file and state are durable
	planned int64  // offset of the last save that was started
	found   bool   // taken up from disk, where a spoilt state may lie too
}

// again is a handle on what a closed one left in memory.
func (u *upload) again() *upload {
	n := *u
	n.over, n.f, n.saving = false, nil, nil
	return &n
}

func (u *upload) ID() string  { return u.id }
func (u *upload) Size() int64 { return u.size }

// PartLink: a folder takes no parts from clients.
func (u *upload) PartLink(context.Context, int, int64) (*http.Request, error) {
	if u.over {
		return nil, storage.ErrUploadUnknown
	}
	return nil, storage.ErrNoLink
}

func (u *upload) usable() error {
	if u.over {
		return storage.ErrUploadUnknown
	}
	return u.err
}

// create makes the file on the first byte.
func (u *upload) create() error {
	if u.f != nil {
		return nil
	}
	f, err := os.OpenFile(u.s.upload(u.id), os.O_RDWR|os.O_CREATE, filePerm)
	if err != nil {
		return failed("begin upload", err)
	}
	u.f, u.synced = f, unsynced
	return nil
}

// cut removes what a failed write left past the end.
func (u *upload) cut() error {
	if !u.torn {
		return nil
	}
	if err := u.f.Truncate(u.size); err != nil {
		return failed("cut upload", err)
	}
	u.torn, u.synced = false, unsynced
	return nil
}

// Flush implements [storage.Upload].
func (u *upload) Flush(ctx context.Context) error {
	u.settle()
	if err := u.usable(); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return u.flush()
}

func (u *upload) flush() error {
	// An empty upload lives by its signed id.
	if u.size == 0 || u.saved == u.size && u.synced == u.size && u.named {
		return nil
	}
	if err := u.cut(); err != nil {
		return err
	}
	st, err := u.state()
	if err != nil {
		return err
	}
	u.result = u.save(st)
	return u.take()
}

// Cancel implements [storage.Upload].
func (u *upload) Cancel(context.Context) error {
	if u.over {
		return storage.ErrUploadUnknown
	}
	u.settle()
	if u.f != nil {
		if err := os.Remove(u.f.Name()); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return failed("cancel upload", err)
		}
	}
	return u.end()
}

// end tidies up once the upload's file is gone or was renamed.
func (u *upload) end() error {
	u.over = true
	var err error
	if u.f != nil {
		err = u.f.Close()
	}
	if u.seq > 0 || u.found {
		if rerr := os.Remove(u.s.state(u.id)); rerr != nil && !errors.Is(rerr, fs.ErrNotExist) {
			// The next Open removes it.
			u.s.log.Warn("filestore: hash state of an ended upload stays", "err", rerr)
		}
	}
	v, ok := u.s.ids.read(u.id)
	u.s.table.end(u.id, ok && v.thisRun)
	return failed("close upload", err)
}

// Close implements [storage.Upload].
func (u *upload) Close() error {
	if u.over {
		return nil
	}
	u.settle()
	u.over = true
	keep, err := u.rest()
	if u.f != nil {
		err = errors.Join(err, failed("close upload", u.f.Close()))
		u.f = nil
	}
	// From here on another goroutine may have it.
	if keep {
		u.s.table.keep(u)
	} else {
		u.s.table.release(u.id)
	}
	return err
}

// rest says whether memory must keep the upload because the disk doesn't say all of it.
func (u *upload) rest() (keep bool, err error) {
	switch {
	case u.err != nil:
		return false, u.err
	case u.size < restSize && (u.size == 0 || u.saved != u.size) && !u.s.table.full():
		return true, nil
	case u.size == 0:
		return false, u.create()
	}
	err = u.flush()
	// Without a failed fsync the bytes are there, only their state could not be made durable.
	return err != nil && u.err == nil, err
}
