package backup

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
)

// spool is a file of a set on this machine, on its way to or from the target.
type spool struct {
	*os.File
	sum  hash.Hash
	size int64
}

func newSpool(dir string) (*spool, error) {
	f, err := os.CreateTemp(dir, "set-*")
	if err != nil {
		return nil, err
	}
	return &spool{File: f, sum: sha256.New()}, nil
}

// Write appends and hashes.
func (s *spool) Write(b []byte) (int, error) {
	n, err := s.File.Write(b)
	s.sum.Write(b[:n])
	s.size += int64(n)
	return n, err
}

// ReadFrom hides the file's own, which would not hash.
func (s *spool) ReadFrom(r io.Reader) (int64, error) { return io.Copy(writerOnly{s}, r) }

type writerOnly struct{ io.Writer }

func (s *spool) file(name string) File {
	return File{Name: name, Size: s.size, SHA256: hex.EncodeToString(s.sum.Sum(nil))}
}

// again reads from the start.
func (s *spool) again() (io.Reader, error) {
	_, err := s.Seek(0, io.SeekStart)
	return s.File, err
}

// drop closes and removes it.
func (s *spool) drop() error { return errors.Join(s.Close(), os.Remove(s.Name())) }

// put sends what was written as a file of the set.
func (s *spool) put(ctx context.Context, t Target, m *Manifest, name string) error {
	r, err := s.again()
	if err != nil {
		return err
	}
	if err := t.Put(ctx, m.path(name), r, s.size); err != nil {
		return err
	}
	m.Files = append(m.Files, s.file(name))
	return nil
}

// putBytes sends a small file of the set.
func putBytes(ctx context.Context, t Target, m *Manifest, name string, b []byte) error {
	if err := t.Put(ctx, m.path(name), bytes.NewReader(b), int64(len(b))); err != nil {
		return err
	}
	sum := sha256.Sum256(b)
	m.Files = append(m.Files, File{Name: name, Size: int64(len(b)), SHA256: hex.EncodeToString(sum[:])})
	return nil
}

// maxConfig limits the configuration of a set, in bytes: what a hold takes as one.
const maxConfig = 1 << 20

// ReadConfig returns the configuration's text of a set, the newest one for an empty name; nil when it holds none. A set that nothing
// vouches for is read, too, unless its key is known to be another's: show the text to a person before it is used. Errors: [ErrNoSet];
// [ErrDamaged], naming the file; [ErrFormat]; [ErrUntrusted], [ErrUnsigned], [ErrOld] and [ErrSeq] as Trust says.
func ReadConfig(ctx context.Context, t Target, name string, trust Trust) (text []byte, set string, err error) {
	m, err := Find(ctx, t, name)
	if err != nil {
		return nil, "", err
	}
	if _, err := trust.check(ctx, t, m, false); err != nil {
		return nil, "", err
	}
	f := m.file(configFile)
	if f == nil {
		return nil, m.Name, nil
	}
	if f.Size > maxConfig { // it is read into memory, and who wrote the set may be anybody
		return nil, m.Name, fmt.Errorf("%w: %s of %s has %d bytes, the limit is %d", ErrDamaged, m.path(configFile), t, f.Size, maxConfig)
	}
	var out bytes.Buffer
	err = fetch(ctx, t, m, configFile, &out)
	return out.Bytes(), m.Name, err
}

// fetch copies a file of the set to w and checks that it is what the manifest says. Errors: [ErrDamaged].
func fetch(ctx context.Context, t Target, m *Manifest, name string, w io.Writer) error {
	f := m.file(name)
	if f == nil {
		return fmt.Errorf("%w: the set %s has no %s", ErrDamaged, m.Name, name)
	}
	sum := sha256.New()
	n, err := copyFile(ctx, t, m.path(name), io.MultiWriter(w, sum), f.Size)
	switch {
	case err != nil:
		return err
	case n != f.Size:
		return fmt.Errorf("%w: %s of %s has %d bytes or more, not %d", ErrDamaged, m.path(name), t, n, f.Size)
	case hex.EncodeToString(sum.Sum(nil)) != f.SHA256:
		return fmt.Errorf("%w: %s of %s is not what was written: its sha256 is another", ErrDamaged, m.path(name), t)
	}
	return nil
}

// copyFile copies a file of the target, at most one byte more than it should have.
func copyFile(ctx context.Context, t Target, name string, w io.Writer, size int64) (n int64, err error) {
	r, err := t.Open(ctx, name)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, fmt.Errorf("%w: %s of %s is gone", ErrDamaged, name, t)
	}
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	return io.Copy(w, io.LimitReader(contextReader{ctx, r}, size+1))
}
