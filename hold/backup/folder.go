package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"strings"

	"github.com/atcr-dev/atcr/internal/durable"
)

// Folder is a [Target] in a folder. Files are 0600, folders 0700; each Put is fsynced.
type Folder struct{ root string }

var _ Target = (*Folder)(nil)

// OpenFolder takes a folder, and makes it when its parent exists: a disk that is not mounted is an error, not a new folder
// on another disk.
func OpenFolder(dir string) (*Folder, error) {
	root, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("backup folder: %w", err)
	}
	err = os.Mkdir(root, 0o700)
	if err == nil {
		err = durable.SyncDir(filepath.Dir(root))
	} else if errors.Is(err, fs.ErrExist) {
		var st fs.FileInfo
		if st, err = os.Stat(root); err == nil && !st.IsDir() {
			err = fmt.Errorf("%s is a file", root)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("backup folder: %w", err)
	}
	return &Folder{root}, nil
}

// String is the folder's path.
func (f *Folder) String() string { return f.root }

func (f *Folder) path(name string) (string, error) {
	if !filepath.IsLocal(filepath.FromSlash(name)) {
		return "", fmt.Errorf("backup folder: %q is no name in it", name)
	}
	return filepath.Join(f.root, filepath.FromSlash(name)), nil
}

// Put is [Target]'s.
func (f *Folder) Put(ctx context.Context, name string, r io.Reader, size int64) (err error) {
	path, err := f.path(name)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("write %s: %w", path, err)
		}
	}()
	if err := durable.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	// Temporary files lie in one place, so that Clean need not look everywhere.
	tmp, err := os.CreateTemp(f.root, durable.TempPrefix+"*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, tmp.Close(), os.Remove(tmp.Name()))
		}
	}()
	n, err := io.Copy(tmp, contextReader{ctx, r})
	if err != nil {
		return err
	}
	if n != size {
		return fmt.Errorf("%d bytes came, not %d: %w", n, size, io.ErrUnexpectedEOF)
	}
	if err := tmp.Sync(); err != nil {
		return err
	}
	if err := os.Rename(tmp.Name(), path); err != nil {
		return err
	}
	// From here on the file is there: an error says that it may not stay.
	return errors.Join(durable.SyncDir(filepath.Dir(path)), tmp.Close())
}

// Open is [Target]'s.
func (f *Folder) Open(_ context.Context, name string) (io.ReadCloser, error) {
	path, err := f.path(name)
	if err != nil {
		return nil, err
	}
	return os.Open(path)
}

// List is [Target]'s.
func (f *Folder) List(ctx context.Context, folder string) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		top, err := f.path(strings.TrimSuffix(folder, "/"))
		if err != nil {
			yield(Entry{}, err)
			return
		}
		err = filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
			if err == nil {
				err = ctx.Err()
			}
			if err != nil || d.IsDir() {
				if path == top && errors.Is(err, fs.ErrNotExist) {
					return nil
				}
				return err
			}
			info, err := d.Info()
			if err != nil || !info.Mode().IsRegular() {
				return err
			}
			name, err := filepath.Rel(f.root, path)
			if err != nil {
				return err
			}
			if !yield(Entry{filepath.ToSlash(name), info.Size()}, nil) {
				return errStop
			}
			return nil
		})
		if err != nil && !errors.Is(err, errStop) {
			yield(Entry{}, fmt.Errorf("list %s: %w", top, err))
		}
	}
}

var errStop = errors.New("stop")

// Delete is [Target]'s. Folders that it leaves empty go, too.
func (f *Folder) Delete(_ context.Context, name string) error {
	path, err := f.path(name)
	if err != nil {
		return err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for dir := filepath.Dir(path); dir != f.root; dir = filepath.Dir(dir) {
		if os.Remove(dir) != nil { // others are in it
			return ignoreMissing(durable.SyncDir(dir))
		}
	}
	return durable.SyncDir(f.root)
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// Clean is [Target]'s.
func (f *Folder) Clean(context.Context) error { return durable.RemoveTemp(f.root) }

// contextReader ends with its context.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c contextReader) Read(b []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(b)
}
