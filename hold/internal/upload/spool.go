package upload

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/atcr-dev/atcr/internal/durable"
	"github.com/atcr-dev/atcr/storage"
)

// spool keeps parts that came before their turn: one folder an upload, one file a part. A file is whole, and durable,
// when it has its name.
type spool struct {
	dir   string
	limit int64
	used  atomic.Int64
	mu    sync.Mutex // of what changes names and used together
}

func openSpool(dir string, limit int64) (*spool, error) {
	if err := durable.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	sp := &spool{dir: dir, limit: limit}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		if strings.HasPrefix(e.Name(), durable.TempPrefix) {
			return os.Remove(path)
		}
		st, err := e.Info()
		if err == nil {
			sp.used.Add(st.Size())
		}
		return err
	})
	return sp, err
}

func (sp *spool) path(upload string, n int) string {
	return filepath.Join(sp.dir, upload, strconv.Itoa(n))
}

// put keeps a part and returns its size and checksum. A part of that number that was there is replaced.
func (sp *spool) put(upload string, n int, body io.Reader) (size int64, sum uint32, err error) {
	dir := filepath.Join(sp.dir, upload)
	if err := durable.MkdirAll(dir, 0o700); err != nil {
		return 0, 0, spoolError(err)
	}
	f, err := os.CreateTemp(dir, durable.TempPrefix+"*")
	if err != nil {
		return 0, 0, spoolError(err)
	}
	w := &spoolWriter{f: f, sp: sp}
	defer func() {
		if err != nil {
			sp.used.Add(-w.n)
			_ = f.Close()
			_ = os.Remove(f.Name())
			err = spoolError(err)
		}
	}()
	h := crc32.New(castagnoli())
	if _, err = io.Copy(io.MultiWriter(w, h), body); err != nil {
		return 0, 0, err
	}
	if err = f.Sync(); err != nil {
		return 0, 0, err
	}
	if err = f.Close(); err != nil {
		return 0, 0, err
	}
	sp.mu.Lock()
	defer sp.mu.Unlock()
	old, statErr := os.Stat(sp.path(upload, n))
	if err = durable.Rename(f.Name(), sp.path(upload, n)); err != nil {
		return 0, 0, err
	}
	if statErr == nil {
		sp.used.Add(-old.Size())
	}
	return w.n, h.Sum32(), nil
}

// open gives a part that put kept.
func (sp *spool) open(upload string, n int) (*os.File, error) { return os.Open(sp.path(upload, n)) }

// drop forgets one part.
func (sp *spool) drop(upload string, n int) {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	path := sp.path(upload, n)
	if st, err := os.Stat(path); err == nil && os.Remove(path) == nil {
		sp.used.Add(-st.Size())
	}
}

// dropAll forgets all parts of an upload.
func (sp *spool) dropAll(upload string) {
	entries, err := os.ReadDir(filepath.Join(sp.dir, upload))
	if err != nil {
		return
	}
	for _, e := range entries {
		if n, err := strconv.Atoi(e.Name()); err == nil {
			sp.drop(upload, n)
		}
	}
	_ = os.RemoveAll(filepath.Join(sp.dir, upload))
}

// folders are the uploads that have something in the spool.
func (sp *spool) folders() ([]string, error) {
	entries, err := os.ReadDir(sp.dir)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, err
}

type spoolWriter struct {
	f  *os.File
	sp *spool
	n  int64
}

func (w *spoolWriter) Write(p []byte) (int, error) {
	if w.sp.used.Add(int64(len(p))) > w.sp.limit {
		w.sp.used.Add(-int64(len(p)))
		return 0, fmt.Errorf("%w: parts that came before their turn take %d bytes, which is the limit; send parts in order",
			storage.ErrNoSpace, w.sp.limit)
	}
	n, err := w.f.Write(p)
	w.sp.used.Add(int64(n - len(p)))
	w.n += int64(n)
	return n, err
}

func spoolError(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("%w: %w", storage.ErrNoSpace, err)
	}
	return err
}

// castagnoli is the polynomial that processors compute.
func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }
