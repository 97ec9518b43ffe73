package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// TempPrefix begins the name of every file that [WriteFile] has not finished.
const TempPrefix = ".tmp-"

// WriteFile makes path hold data with exactly the permissions perm, durably: it is the old content or the new, never a part.
// The folder must exist.
func WriteFile(path string, data []byte, perm fs.FileMode) (err error) {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, TempPrefix+"*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
			err = fmt.Errorf("write %s: %w", path, err)
		}
	}()
	if err := f.Chmod(perm); err != nil {
		return err
	}
	if _, err := f.Write(data); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return Rename(f.Name(), path)
}

// CreateFile is [WriteFile] for a file that must not exist yet; one that does is [fs.ErrExist] and is left alone.
// Of several callers at once one succeeds.
func CreateFile(path string, data []byte, perm fs.FileMode) error {
	tmp, err := os.MkdirTemp(filepath.Dir(path), TempPrefix+"*")
	if err != nil {
		return fmt.Errorf("create %s: %w", path, err)
	}
	defer os.RemoveAll(tmp)
	whole := filepath.Join(tmp, filepath.Base(path))
	if err := WriteFile(whole, data, perm); err != nil {
		return fmt.Errorf("create %s: %w", path, err)
	}
	// link, unlike rename, refuses a name that is taken.
	if err := os.Link(whole, path); err != nil {
		return fmt.Errorf("create %s: %w", path, err)
	}
	return SyncDir(filepath.Dir(path))
}

// Rename moves a file or folder and fsyncs the folder it went to. The folder it came from is not fsynced:
// after a power cut the old name may be there too.
func Rename(from, to string) error {
	if err := os.Rename(from, to); err != nil {
		return err
	}
	return SyncDir(filepath.Dir(to))
}

// Remove deletes a file or an empty folder and fsyncs the folder it was in.
func Remove(path string) error {
	if err := os.Remove(path); err != nil {
		return err
	}
	return SyncDir(filepath.Dir(path))
}

// MkdirAll makes a folder and its missing parents, and fsyncs each folder that got a new entry.
func MkdirAll(path string, perm fs.FileMode) error {
	path = filepath.Clean(path)
	if st, err := os.Stat(path); err == nil {
		if !st.IsDir() {
			return &fs.PathError{Op: "mkdir", Path: path, Err: syscall.ENOTDIR}
		}
		return nil
	}
	parent := filepath.Dir(path)
	if parent != path {
		if err := MkdirAll(parent, perm); err != nil {
			return err
		}
	}
	if err := os.Mkdir(path, perm); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return SyncDir(parent)
}

// RemoveTemp deletes what interrupted [WriteFile] and [CreateFile] calls left in dir. Call it only while holding
// the folder's lock: it can't tell a dead writer's file from a living one's.
func RemoveTemp(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), TempPrefix) {
			if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}
