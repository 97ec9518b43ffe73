package upload

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"github.com/atcr-dev/atcr/internal/durable"
	"github.com/atcr-dev/atcr/storage"
)

// Shares of the spool: files cost more than their bytes.
const (
	spoolShare    = 4      // one account has at most the limit's quarter, in bytes
	maxSpoolParts = 1000   // of one account
	maxSpoolFiles = 50_000 // of all
)

// spool keeps parts that came before their turn: one folder an upload, one file a part. A file is whole, and durable,
// when it has its name. Each account has a share of it.
type spool struct {
	dir   string
	limit int64

	mu     sync.Mutex // also of what changes names and counts together
	used   amount
	byDID  map[string]amount
	owners map[string]string // of uploads that have a folder
}

// amount is of what lies in the spool, and of what is being written to it.
type amount struct {
	bytes int64
	files int
}

// openSpool counts what is there. ownerOf returns whose an upload is, empty if it isn't known any more.
func openSpool(dir string, limit int64, ownerOf func(upload string) (did string, err error)) (*spool, error) {
	if err := durable.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	sp := &spool{dir: dir, limit: limit, byDID: map[string]amount{}, owners: map[string]string{}}
	folders, err := sp.folders()
	if err != nil {
		return nil, err
	}
	for _, upload := range folders {
		did, err := ownerOf(upload)
		if err != nil {
			return nil, err
		}
		parts, err := os.ReadDir(filepath.Join(dir, upload))
		if err != nil {
			return nil, err
		}
		sp.owners[upload] = did
		for _, e := range parts {
			if strings.HasPrefix(e.Name(), durable.TempPrefix) {
				if err := os.Remove(filepath.Join(dir, upload, e.Name())); err != nil {
					return nil, err
				}
				continue
			}
			st, err := e.Info()
			if err != nil {
				return nil, err
			}
			sp.count(did, amount{st.Size(), 1})
		}
	}
	return sp, nil
}

func (sp *spool) path(upload string, n int) string {
	return filepath.Join(sp.dir, upload, strconv.Itoa(n))
}

// count is called with the lock held, or before others know of the spool.
func (sp *spool) count(did string, a amount) {
	sp.used = amount{sp.used.bytes + a.bytes, sp.used.files + a.files}
	one := amount{sp.byDID[did].bytes + a.bytes, sp.byDID[did].files + a.files}
	if sp.byDID[did] = one; one == (amount{}) {
		delete(sp.byDID, did)
	}
}

// take counts what is about to be written. Errors: [ErrSpoolShare]; storage.ErrNoSpace and [ErrSpoolFull] when others have filled
// the spool.
func (sp *spool) take(did string, a amount) error {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	own := sp.byDID[did]
	switch {
	case own.bytes+a.bytes > max(sp.limit/spoolShare, 1):
		return fail(ErrSpoolShare, "parts of %s that came before their turn take %d bytes, which is the limit; send parts in order", did,
			sp.limit/spoolShare)
	case own.files+a.files > maxSpoolParts:
		return fail(ErrSpoolShare, "%d parts of %s came before their turn, which is the limit; send parts in order", own.files, did)
	case sp.used.bytes+a.bytes > sp.limit || sp.used.files+a.files > maxSpoolFiles:
		return fmt.Errorf("%w: %w: %d bytes in %d files, which is the limit; send parts in order", storage.ErrNoSpace, ErrSpoolFull,
			sp.used.bytes, sp.used.files)
	}
	sp.count(did, a)
	return nil
}

func (sp *spool) giveBack(did string, a amount) {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	sp.count(did, amount{-a.bytes, -a.files})
}

// put keeps a part of an account's upload and returns its size and checksum. A part of that number that was there is replaced. Errors:
// those of take; [ErrBadPart] for an empty part, which would cost a file and nothing that counts.
func (sp *spool) put(did, upload string, n int, body io.Reader) (size int64, sum uint32, err error) {
	first := make([]byte, 1)
	if _, err := io.ReadFull(body, first); errors.Is(err, io.EOF) {
		return 0, 0, fail(ErrBadPart, "part %d is empty and came before its turn; send parts in order", n)
	} else if err != nil {
		return 0, 0, err
	}
	if err := sp.take(did, amount{files: 1}); err != nil {
		return 0, 0, err
	}
	w := &spoolWriter{sp: sp, did: did}
	defer func() {
		if err != nil {
			sp.giveBack(did, amount{w.n, 1})
			err = spoolError(err)
		}
	}()
	dir := filepath.Join(sp.dir, upload)
	if err := sp.folder(did, upload); err != nil {
		return 0, 0, err
	}
	if w.f, err = os.CreateTemp(dir, durable.TempPrefix+"*"); err != nil {
		return 0, 0, err
	}
	defer func() {
		if err != nil {
			_ = w.f.Close()
			_ = os.Remove(w.f.Name())
		}
	}()
	h := crc32.New(castagnoli())
	if _, err = io.Copy(io.MultiWriter(w, h), io.MultiReader(bytes.NewReader(first), body)); err != nil {
		return 0, 0, err
	}
	if err = w.f.Sync(); err != nil {
		return 0, 0, err
	}
	if err = w.f.Close(); err != nil {
		return 0, 0, err
	}
	sp.mu.Lock()
	defer sp.mu.Unlock()
	old, statErr := os.Stat(sp.path(upload, n))
	if rerr := durable.Rename(w.f.Name(), sp.path(upload, n)); rerr != nil {
		return 0, 0, rerr
	}
	if statErr == nil {
		sp.count(did, amount{-old.Size(), -1})
	}
	return w.n, h.Sum32(), nil
}

func (sp *spool) folder(did, upload string) error {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	sp.owners[upload] = did
	return durable.MkdirAll(filepath.Join(sp.dir, upload), 0o700)
}

// open gives a part that put kept.
func (sp *spool) open(upload string, n int) (*os.File, error) { return os.Open(sp.path(upload, n)) }

// drop forgets one part.
func (sp *spool) drop(upload string, n int) {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	path := sp.path(upload, n)
	if st, err := os.Stat(path); err == nil && os.Remove(path) == nil {
		sp.count(sp.owners[upload], amount{-st.Size(), -1})
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
	sp.mu.Lock()
	defer sp.mu.Unlock()
	_ = os.RemoveAll(filepath.Join(sp.dir, upload))
	delete(sp.owners, upload)
}

// folders are the uploads that have something in the spool.
func (sp *spool) folders() ([]string, error) {
	entries, err := os.ReadDir(sp.dir)
	var names []string
	for _, e := range entries {
		if e.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names, err
}

type spoolWriter struct {
	f   *os.File
	sp  *spool
	did string
	n   int64
}

func (w *spoolWriter) Write(p []byte) (int, error) {
	if err := w.sp.take(w.did, amount{bytes: int64(len(p))}); err != nil {
		return 0, err
	}
	w.n += int64(len(p))
	return w.f.Write(p)
}

func spoolError(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("%w: %w", storage.ErrNoSpace, err)
	}
	return err
}

// castagnoli is the polynomial that processors compute.
func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }
