package uploads

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/atcr-dev/atcr/internal/budget"
	"github.com/atcr-dev/atcr/internal/durable"
	"github.com/atcr-dev/atcr/internal/room"
	"github.com/atcr-dev/atcr/registry"
)

// Bytes of tails: of all uploads, and of those of one account or one client.
const (
	tailsOfAll = 1 << 30
	tailsOfOne = tailsOfAll / 4
)

// tails are the files with the ends of uploads that no hold has yet, at most a part for each: bytes in a folder, how many of them
// count in the upload's row.
type tails struct {
	dir    string
	shares *budget.Budget
	disk   *room.Disk
}

func (t *tails) path(id string) string { return filepath.Join(t.dir, id) }

// open opens the tail of an upload, which has size bytes of it. One that has fewer is lost.
func (t *tails) open(id string, size int64) (*os.File, error) {
	f, err := os.OpenFile(t.path(id), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, t.noSpace("open the tail of an upload", err)
	}
	st, err := f.Stat()
	if err == nil && st.Size() < size {
		err = fmt.Errorf("it has %d of %d bytes", st.Size(), size)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open the tail of an upload: %w", err), f.Close())
	}
	return f, nil
}

// has reports whether the bytes of a tail are there.
func (t *tails) has(id string, size int64) bool {
	st, err := os.Stat(t.path(id))
	return err == nil && st.Size() >= size
}

func (t *tails) remove(id string) error {
	err := os.Remove(t.path(id))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// write puts what is in memory of a part into its file, up to the chunk that is being filled, or with it. It is durable when sync
// returned.
func (t *tails) write(ctx context.Context, account string, p *part, withLast bool) error {
	parts := p.chunks
	if withLast && len(p.last) > 0 {
		parts = append(parts[:len(parts):len(parts)], p.last)
	}
	if err := t.disk.Make(ctx, account, int64(len(parts))*chunkSize); err != nil {
		return t.noSpace("keep the tail of an upload", err)
	}
	at := p.onDisk
	for _, b := range parts {
		if _, err := p.file.WriteAt(b, at); err != nil {
			return t.noSpace("keep the tail of an upload", err)
		}
		at += int64(len(b))
	}
	p.onDisk = at
	return nil
}

// sync makes a tail durable, its name too when fresh.
func (t *tails) sync(p *part, fresh bool) error {
	err := p.file.Sync()
	if err == nil && fresh {
		err = durable.SyncDir(t.dir)
	}
	return t.noSpace("keep the tail of an upload", err)
}

// noSpace gives a full disk its kind, and says who can help.
func (t *tails) noSpace(doing string, err error) error {
	if err == nil {
		return nil
	}
	var full *room.FullError
	if !errors.As(err, &full) {
		if !room.NoSpace(err) {
			return fmt.Errorf("%s: %w", doing, err)
		}
		full = t.disk.Full()
	}
	return noSpace(full, fmt.Errorf("%s: %w", doing, err))
}

func noSpace(full *room.FullError, err error) error {
	how := ""
	if full != nil {
		how = ": " + full.Error()
	}
	e := registry.ErrNoSpace.With("the registry's own disk is full%s; who runs the registry can help", how).Wrap(err)
	e.RetryAfter = time.Minute
	return e
}

// sweep removes files that nothing was written to since, except those of uploads that are known.
func (t *tails) sweep(before time.Time, known func(id string) bool) error {
	entries, err := os.ReadDir(t.dir)
	if err != nil {
		return fmt.Errorf("tails of uploads: %w", err)
	}
	var errs []error
	for _, e := range entries {
		st, err := e.Info()
		if err != nil || !st.Mode().IsRegular() || !st.ModTime().Before(before) || known(e.Name()) {
			continue
		}
		errs = append(errs, t.remove(e.Name()))
	}
	return errors.Join(errs...)
}
