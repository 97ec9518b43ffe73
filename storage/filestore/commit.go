package filestore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/atcr-dev/atcr/storage"
	"github.com/opencontainers/go-digest"
)

// Commit implements [storage.Upload].
func (u *upload) Commit(ctx context.Context, d digest.Digest) (storage.Info, error) {
	if u.over {
		return storage.Info{}, storage.ErrUploadUnknown
	}
	if err := storage.CheckDigest(d); err != nil {
		return storage.Info{}, err
	}
	u.settle()
	if u.err != nil {
		return storage.Info{}, u.err
	}
	if err := u.verify(ctx, d); err != nil {
		return storage.Info{}, err
	}
	if err := u.publish(d); err != nil {
		return storage.Info{}, err
	}
	info, err := u.s.Stat(ctx, d)
	if errors.Is(err, storage.ErrNotFound) {
		// Deleted at the same moment: it was there.
		info, err = storage.Info{Digest: d, Size: u.size, ModTime: u.s.now()}, nil
	}
	// The blob is there: what can fail now is tidying up.
	if eerr := u.end(); eerr != nil {
		u.s.log.Warn("filestore: ending a committed upload", "err", eerr)
	}
	return info, err
}

// verify compares the bytes with d.
func (u *upload) verify(ctx context.Context, d digest.Digest) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	h := u.h
	if d.Algorithm() != u.alg {
		var err error
		if h, err = storage.NewHash(d.Algorithm()); err != nil {
			return err
		}
		if u.f != nil {
			r := &ctxReader{ctx: ctx, r: io.NewSectionReader(u.f, 0, u.size)}
			if _, err := io.Copy(h, r); err != nil {
				return failed("read upload back", err)
			}
		}
	}
	if got := digest.NewDigest(d.Algorithm(), h); got != d {
		return fmt.Errorf("%w: the bytes hash to %s, not to %s", storage.ErrDigestMismatch, got, d)
	}
	return nil
}

// publish makes the verified bytes visible and durable.
func (u *upload) publish(d digest.Digest) error {
	dir, path := u.s.blobDir(d), u.s.blob(d)
	u.s.disk.at(pointBytesWritten)
	if st, err := os.Stat(path); err == nil && st.Mode().IsRegular() && st.Size() == u.size {
		// Someone was first. Their folder may not be durable yet, and this answer promises that it is.
		if err := u.s.disk.syncBlob(dir); err == nil {
			u.discard()
			return nil
		} else if !errors.Is(err, fs.ErrNotExist) {
			return failed("commit blob "+d.String(), err)
		}
	}
	if err := u.create(); err != nil {
		return err
	}
	if err := u.cut(); err != nil {
		return err
	}
	if u.synced != u.size {
		if err := u.s.disk.sync(u.f); err != nil {
			u.err = failed("fsync upload", errors.Join(errSync, err))
			return u.err
		}
		u.synced = u.size
	}
	u.s.disk.at(pointBytesSynced)
	if err := u.rename(dir, path); err != nil {
		return failed("commit blob "+d.String(), err)
	}
	u.s.disk.at(pointBlobNamed)
	if err := u.s.disk.syncBlob(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return failed("commit blob "+d.String(), err)
	}
	u.s.disk.at(pointBlobDurable)
	return nil
}

// rename moves the file to its place. A Delete at the same moment may take the folder away, hence the loop.
func (u *upload) rename(dir, path string) error {
	for try := 0; ; try++ {
		err := u.s.disk.mkdir(dir)
		if errors.Is(err, fs.ErrNotExist) {
			err = u.s.disk.makeShard(dir)
		}
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		err = u.s.disk.rename(u.f.Name(), path)
		if err == nil || try == 10 || !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if _, serr := os.Stat(u.f.Name()); serr != nil {
			return err
		}
	}
}

// discard removes bytes that turned out to be there already.
func (u *upload) discard() {
	if u.f == nil {
		return
	}
	if err := os.Remove(u.f.Name()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		u.s.log.Warn("filestore: bytes of an ended upload stay", "err", err)
	}
}

// ctxReader ends a long read when the context does.
type ctxReader struct {
	ctx context.Context
	r   io.Reader
}

func (c *ctxReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}
