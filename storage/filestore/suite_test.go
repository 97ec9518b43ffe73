package filestore

import (
	"fmt"
	"io/fs"
	"path/filepath"
	"testing"

	"github.com/atcr-dev/atcr/storage"
	"github.com/atcr-dev/atcr/storage/storagetest"
)

func TestSuite(t *testing.T) {
	storagetest.Run(t, suiteConfig(t))
}

// TestSuiteOnSmallDisk is the suite's case on a full disk.
func TestSuiteOnSmallDisk(t *testing.T) {
	smallDisk(t, "size=64k") // skips when there can't be one
	cfg := suiteConfig(t)
	cfg.Small = func(limit int64) (storage.Store, error) {
		return Open(smallDisk(t, fmt.Sprintf("size=%d", limit+64<<10)), nil)
	}
	cfg.Leftovers, cfg.Only = nil, []string{"NoSpace"}
	storagetest.Run(t, cfg)
}

func suiteConfig(t *testing.T) storagetest.Config {
	roots := map[storage.Store]string{}
	open := func(dir string) (storage.Store, error) {
		s, err := Open(dir, nil)
		if err != nil {
			return nil, err
		}
		roots[s] = dir
		return s, nil
	}
	return storagetest.Config{
		Open: func() (storage.Store, error) { return open(t.TempDir()) },
		Crash: func(s storage.Store) (storage.Store, error) {
			crash(s.(*Store))
			return open(roots[s])
		},
		Leftovers: func(s storage.Store) ([]string, error) { return leftovers(roots[s]) },
	}
}

// crash lets go of the folder as the end of a process does, and of nothing else.
func crash(s *Store) { s.lock.Close() }

// leftovers are all files but the two that every store has, and folders deeper than the shards.
func leftovers(dir string) (left []string, err error) {
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		rel, _ := filepath.Rel(dir, path)
		known := filepath.Base(path) == ".lock" || filepath.Base(path) == keyName
		deep, _ := filepath.Match("docker/registry/v2/blobs/*/*/*", filepath.ToSlash(rel))
		if err == nil && (!d.IsDir() && !known || deep) {
			left = append(left, rel)
		}
		return err
	})
	return left, err
}
