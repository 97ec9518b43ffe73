package filestore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/atcr-dev/atcr/internal/durable"
	"github.com/atcr-dev/atcr/storage"
	"github.com/opencontainers/go-digest"
)

// ErrLocked: another process has the folder; the error's text names its pid.
var ErrLocked = durable.ErrLocked

// Options for [Open]. The zero value is useful.
type Options struct {
	// Prefix is a path inside the folder under which everything lies, as in a bucket.
	Prefix string
	// Log gets what was cleaned up and what could not be; nil is slog.Default().
	Log *slog.Logger
	// Clock returns the time; nil is time.Now.
	Clock func() time.Time
	// UploadLife is how long after a restart the id of an upload without bytes is still good. Default: 24 h.
	UploadLife time.Duration
}

// Store is a [storage.Store] over a folder. It is safe for concurrent use in one process.
type Store struct {
	layout
	log    *slog.Logger
	now    func() time.Time
	life   time.Duration
	lock   *durable.Lock
	ids    *signer
	table  table
	pool   buffers
	closed atomic.Bool
	disk   disk
}

var _ storage.Store = (*Store)(nil)

// Open takes the folder, makes what is missing in it, and removes what a crash left behind. The folder itself is made
// when its parent exists. Close the store when done. Errors: [ErrLocked].
func Open(dir string, opts *Options) (*Store, error) {
	var o Options
	if opts != nil {
		o = *opts
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.UploadLife == 0 {
		o.UploadLife = 24 * time.Hour
	}
	l, err := newLayout(dir, o.Prefix)
	if err != nil {
		return nil, err
	}
	s := &Store{layout: l, log: o.Log, now: o.Clock, life: o.UploadLife}
	s.table.init()
	if err := s.start(); err != nil {
		if s.lock != nil {
			s.lock.Close()
		}
		return nil, failed("open filestore", err)
	}
	return s, nil
}

func (s *Store) start() (err error) {
	if err := durable.MkdirAll(s.uploads, dirPerm); err != nil {
		return err
	}
	if s.lock, err = durable.LockDir(s.uploads); err != nil {
		return err
	}
	if err := s.make(); err != nil {
		return err
	}
	if err := durable.RemoveTemp(s.uploads); err != nil {
		return err
	}
	if s.ids, err = loadSigner(s.uploads); err != nil {
		return err
	}
	return s.removeOrphans()
}

// removeOrphans deletes hash states whose bytes are gone: a crash between the two steps of ending an upload.
func (s *Store) removeOrphans() error {
	entries, err := os.ReadDir(s.uploads)
	if err != nil {
		return err
	}
	there := make(map[string]bool, len(entries))
	for _, e := range entries {
		there[e.Name()] = true
	}
	for name := range there {
		id, isState := strings.CutSuffix(name, stateExt)
		if !isState || !isID(id) || there[id] {
			continue
		}
		if err := os.Remove(s.state(id)); err != nil {
			return err
		}
		s.log.Debug("filestore: removed the hash state of an ended upload", "file", name)
	}
	return nil
}

// Close makes resting uploads durable and releases the folder. End or Close open uploads first. Afterwards uploads
// can't be begun or resumed; readers that are open go on.
func (s *Store) Close() error {
	if s.closed.Load() {
		return nil
	}
	var errs []error
	for _, id := range s.table.resting() {
		if err := s.settle(id); err != nil && !errors.Is(err, storage.ErrUploadBusy) {
			errs = append(errs, err)
		}
	}
	if s.closed.Swap(true) {
		return nil
	}
	return errors.Join(append(errs, s.lock.Close())...)
}

func (s *Store) settle(id string) error {
	up, err := s.Resume(context.Background(), id)
	if err != nil {
		return err
	}
	return errors.Join(up.Flush(context.Background()), up.Close())
}

// Stat implements [storage.Store].
func (s *Store) Stat(_ context.Context, d digest.Digest) (storage.Info, error) {
	if err := storage.CheckDigest(d); err != nil {
		return storage.Info{}, err
	}
	st, err := os.Stat(s.blob(d))
	if err != nil {
		return storage.Info{}, missing(d, err)
	}
	return blobInfo(d, st)
}

// Open implements [storage.Store]; the reader is an [*os.File].
func (s *Store) Open(_ context.Context, d digest.Digest) (io.ReadSeekCloser, storage.Info, error) {
	if err := storage.CheckDigest(d); err != nil {
		return nil, storage.Info{}, err
	}
	f, err := os.Open(s.blob(d))
	if err != nil {
		return nil, storage.Info{}, missing(d, err)
	}
	st, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, storage.Info{}, missing(d, err)
	}
	info, err := blobInfo(d, st)
	if err != nil {
		f.Close()
		return nil, storage.Info{}, err
	}
	return f, info, nil
}

// Link implements [storage.Store]: a folder gives no links.
func (s *Store) Link(_ context.Context, d digest.Digest, _ time.Duration) (string, error) {
	if err := storage.CheckDigest(d); err != nil {
		return "", err
	}
	return "", storage.ErrNoLink
}

// Delete implements [storage.Store]. It is durable when it returns.
func (s *Store) Delete(_ context.Context, d digest.Digest) error {
	if err := storage.CheckDigest(d); err != nil {
		return err
	}
	if err := os.Remove(s.blob(d)); err != nil {
		return missing(d, err)
	}
	dir := s.blobDir(d)
	// The folder stays when someone else's file is in it, or when a Commit just put the blob there again.
	_ = os.Remove(dir)
	if err := s.disk.syncDir(dir); err == nil {
		return nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return failed("delete blob "+d.String(), err)
	}
	return failed("delete blob "+d.String(), s.disk.syncDir(filepath.Dir(dir)))
}

// missing makes an error of the file system that means "no such blob" ErrNotFound.
func missing(d digest.Digest, err error) error {
	if isMissing(err) {
		return fmt.Errorf("%w: %s", storage.ErrNotFound, d)
	}
	return failed("blob "+d.String(), err)
}

// blobInfo doesn't take for a blob what can't be one: a folder, or the empty file that a crash of another program left.
func blobInfo(d digest.Digest, st fs.FileInfo) (storage.Info, error) {
	if !st.Mode().IsRegular() || st.Size() == 0 && d != d.Algorithm().FromBytes(nil) {
		return storage.Info{}, fmt.Errorf("%w: %s", storage.ErrNotFound, d)
	}
	return storage.Info{Digest: d, Size: st.Size(), ModTime: st.ModTime()}, nil
}
