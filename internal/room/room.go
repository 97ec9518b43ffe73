// Package room keeps a disk from running full: a part of it is kept for databases, and when the rest runs out, something that can be
// done without goes first.
//
//	disk := room.New("/var/lib/registry", func(ctx context.Context, owner string) (int64, error) { … })
//	err := disk.Make(ctx, owner, 1<<20)          // a *room.FullError when there is no room for so many bytes
//	_, err = upload.ReadFrom(disk.Reader(ctx, owner, body))
package room

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"syscall"
	"time"
)

// step is how many bytes a [Reader] lets through between two looks at the disk.
const step = 1 << 20

// maxReserve bounds what is kept for databases: a sixteenth of the disk up to this.
const maxReserve = 256 << 20

// FullError says that a disk has no room. It is of kind [ErrFull].
type FullError struct {
	Free, Total int64 // bytes of the disk
	Reserve     int64 // bytes of it that are kept for databases
}

// ErrFull is the kind of a [FullError].
var ErrFull = errors.New("disk full")

func (e *FullError) Error() string {
	return fmt.Sprintf("%s of %s are free, of which %s are kept for the databases", size(e.Free), size(e.Total), size(e.Reserve))
}

// Is makes errors.Is(err, ErrFull) hold.
func (e *FullError) Is(target error) bool { return target == ErrFull }

// NoSpace reports whether an error is of a disk, or a quota, that has no room.
func NoSpace(err error) bool {
	return errors.Is(err, ErrFull) || errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

func size(n int64) string {
	switch {
	case n >= 10<<30:
		return fmt.Sprintf("%d GiB", n>>30)
	case n >= 10<<20:
		return fmt.Sprintf("%d MiB", n>>20)
	}
	return fmt.Sprintf("%d KiB", n>>10)
}

// Disk is the file system that a folder lies in. Make it with [New]; safe for concurrent use.
type Disk struct {
	path  string
	free  func(ctx context.Context, owner string) (freed int64, err error)
	space func(path string) (free, total int64, ok bool)

	mu sync.Mutex // one at a time frees
}

// New returns the disk of a folder. free is called when bytes are wanted that aren't there: it removes something that can be done
// without for an owner's sake (see [Order]), and returns how many bytes it had on this disk, 0 when there is nothing left to remove.
func New(path string, free func(ctx context.Context, owner string) (freed int64, err error)) *Disk {
	return &Disk{path: path, free: free, space: space}
}

// Make sees to it that n bytes of an owner can be written besides what is kept for databases. Where the system can't say what is free
// there is always room. It removes no more than was missing when it began, also where that frees nothing at once: a file system may
// give bytes back later, or somebody still reads them. Errors: [FullError]; what removing something failed with.
func (d *Disk) Make(ctx context.Context, owner string, n int64) error {
	if d.check(n) == nil {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	full := d.check(n) // somebody else may have made room
	if full == nil {
		return nil
	}
	for missing := n - (full.Free - full.Reserve); missing > 0; {
		freed, err := d.free(ctx, owner)
		if err != nil {
			return fmt.Errorf("make room on the disk: %w", err)
		}
		if freed == 0 {
			return full
		}
		missing -= freed
		if full = d.check(n); full == nil {
			return nil
		}
	}
	return full
}

// Full returns how full the disk is, for an error that the system gave: nil where the system can't say.
func (d *Disk) Full() *FullError { return d.check(1 << 62) }

func (d *Disk) check(n int64) *FullError {
	free, total, ok := d.space(d.path)
	if !ok {
		return nil
	}
	reserve := min(total/16, maxReserve)
	if free-reserve >= n {
		return nil
	}
	return &FullError{Free: free, Total: total, Reserve: reserve}
}

// Reader reads r, an owner's, as long as there is room for what comes: it looks at the disk before each mebibyte, and fails with what
// [Disk.Make] returned. Of a nil Disk it returns r.
func (d *Disk) Reader(ctx context.Context, owner string, r io.Reader) io.Reader {
	if d == nil {
		return r
	}
	return &reader{ctx: ctx, d: d, owner: owner, r: r}
}

type reader struct {
	ctx   context.Context // of the request: io.Reader has none
	d     *Disk
	owner string
	r     io.Reader
	left  int64
}

func (r *reader) Read(p []byte) (int, error) {
	if r.left <= 0 {
		if err := r.d.Make(r.ctx, r.owner, step); err != nil {
			return 0, err
		}
		r.left = step
	}
	n, err := r.r.Read(p)
	r.left -= int64(n)
	return n, err
}

// Thing is something that takes room.
type Thing struct {
	ID    string
	Owner string // whose it is; those of nobody known are one owner's
	Size  int64
	Since time.Time // of its last byte
}

// Rest is how long something has got no bytes before it may go: else an upload would go between two of its parts.
const Rest = time.Minute

// Order returns what is to go first when an owner wants room: that of who takes the most, then of the next, each one's oldest and
// largest (bytes times rest) first. Of owners who take less than the one who wants room nothing goes: who takes most is refused. What
// has no bytes is left out. besides is what owners take with what can't go; it may be nil.
func Order(all []Thing, besides map[string]int64, owner string, now time.Time) []Thing {
	takes := map[string]int64{}
	maps.Copy(takes, besides)
	for _, t := range all {
		takes[t.Owner] += t.Size
	}
	list := slices.DeleteFunc(slices.Clone(all), func(t Thing) bool {
		return t.Size == 0 || t.Owner != owner && takes[t.Owner] <= takes[owner]
	})
	weight := func(t Thing) float64 { return float64(t.Size) * max(now.Sub(t.Since), time.Second).Seconds() }
	slices.SortStableFunc(list, func(a, b Thing) int {
		return cmp.Or(cmp.Compare(takes[b.Owner], takes[a.Owner]), cmp.Compare(a.Owner, b.Owner), cmp.Compare(weight(b), weight(a)))
	})
	return list
}
