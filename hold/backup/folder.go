package backup

import (
	"context"
	"crypto/rand"
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

// Folder is a [Target] in a folder. Files are 0600, folders 0700; each Put is fsynced. Symbolic links below it are not followed: one in the
// way of a file is an error, others are passed over. Mount or bind what is to lie elsewhere.
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

// in opens the folder, and looks at the way to a name: whoever may write there must not lead us elsewhere. A link that is put there after
// the look is followed within the folder at most.
func (f *Folder) in(name string) (root *os.Root, path string, err error) {
	path = filepath.FromSlash(name)
	if !filepath.IsLocal(path) {
		return nil, "", fmt.Errorf("backup folder: %q is no name in it", name)
	}
	if root, err = os.OpenRoot(f.root); err != nil {
		return nil, "", err
	}
	for i, r := range path {
		if r != filepath.Separator {
			continue
		}
		if err := f.real(root, path[:i], fs.ModeDir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, "", errors.Join(err, root.Close())
		}
	}
	return root, path, nil
}

// real refuses what is no file, or no folder.
func (f *Folder) real(root *os.Root, path string, kind fs.FileMode) error {
	st, err := root.Lstat(path)
	switch {
	case err != nil:
		return err
	case st.Mode().Type() == kind:
		return nil
	case st.Mode().Type() == fs.ModeSymlink:
		return fmt.Errorf("%s is a symbolic link: it is not followed", filepath.Join(f.root, path))
	case kind == fs.ModeDir:
		return fmt.Errorf("%s is no folder", filepath.Join(f.root, path))
	}
	return fmt.Errorf("%s is no file", filepath.Join(f.root, path))
}

// mkdirs makes a folder and its missing parents, and fsyncs each folder that got a new entry.
func (f *Folder) mkdirs(root *os.Root, dir string) error {
	if dir == "." {
		return nil
	}
	err := f.real(root, dir, fs.ModeDir)
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	parent := filepath.Dir(dir)
	if err := f.mkdirs(root, parent); err != nil {
		return err
	}
	if err := root.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return errors.Join(f.real(root, dir, fs.ModeDir), durable.SyncDir(filepath.Join(f.root, parent)))
}

// Put is [Target]'s.
func (f *Folder) Put(ctx context.Context, name string, r io.Reader, size int64) (err error) {
	root, path, err := f.in(name)
	if err != nil {
		return err
	}
	defer func() {
		if err = errors.Join(err, root.Close()); err != nil {
			err = fmt.Errorf("write %s: %w", filepath.Join(f.root, path), err)
		}
	}()
	if err := f.mkdirs(root, filepath.Dir(path)); err != nil {
		return err
	}
	// Temporary files lie in one place, so that Clean need not look everywhere.
	half := durable.TempPrefix + rand.Text()
	tmp, err := root.OpenFile(half, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, tmp.Close(), root.Remove(half))
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
	if err := root.Rename(half, path); err != nil {
		return err
	}
	// From here on the file is there: an error says that it may not stay.
	return errors.Join(durable.SyncDir(filepath.Join(f.root, filepath.Dir(path))), tmp.Close())
}

// Open is [Target]'s.
func (f *Folder) Open(_ context.Context, name string) (_ io.ReadCloser, err error) {
	root, path, err := f.in(name)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	if err := f.real(root, path, 0); err != nil {
		return nil, err
	}
	return root.Open(path)
}

// List is [Target]'s.
func (f *Folder) List(ctx context.Context, folder string) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		more := true
		err := f.list(ctx, folder, func(e Entry) bool { more = yield(e, nil); return more })
		if err != nil && more {
			yield(Entry{}, fmt.Errorf("list %s of %s: %w", folder, f.root, err))
		}
	}
}

func (f *Folder) list(ctx context.Context, folder string, yield func(Entry) bool) (err error) {
	root, top, err := f.in(strings.TrimSuffix(folder, "/"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	if err := f.real(root, top, fs.ModeDir); err != nil {
		return ignoreMissing(err)
	}
	err = fs.WalkDir(root.FS(), filepath.ToSlash(top), func(name string, d fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil || !info.Mode().IsRegular() {
			return err
		}
		if !yield(Entry{name, info.Size()}) {
			return fs.SkipAll
		}
		return nil
	})
	return err
}

// Delete is [Target]'s. Folders that it leaves empty go, too.
func (f *Folder) Delete(_ context.Context, name string) (err error) {
	root, path, err := f.in(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	if err := ignoreMissing(root.Remove(path)); err != nil {
		return err
	}
	for dir := filepath.Dir(path); dir != "."; dir = filepath.Dir(dir) {
		if root.Remove(dir) != nil { // others are in it
			return ignoreMissing(durable.SyncDir(filepath.Join(f.root, dir)))
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
