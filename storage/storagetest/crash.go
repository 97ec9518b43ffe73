package storagetest

import (
	"errors"

	"github.com/atcr-dev/atcr/storage"
	"github.com/opencontainers/go-digest"
)

func testCrashEmpty(e *env) {
	for _, alg := range []digest.Algorithm{digest.SHA256, digest.SHA512} {
		b := e.bytesOf(1000)
		d := alg.FromBytes(b)
		open := e.create(storage.Hint{Digest: d})
		closed := e.create(storage.Hint{Digest: d})
		e.must("close", closed.Close())
		e.crash()
		for _, id := range []string{open.ID(), closed.ID()} {
			up := e.resume(id)
			if up.Size() != 0 {
				e.errorf("an upload without bytes resumes at %d", up.Size())
			}
			e.write(up, b)
			e.commit(up, d, b)
			e.holds(d, b)
			_, err := e.s.Resume(e.ctx, id)
			e.want("resume after commit", err, storage.ErrUploadUnknown)
		}
	}
}

func testCrashFlushed(e *env) {
	for _, alg := range []digest.Algorithm{digest.SHA256, digest.SHA512} {
		for _, more := range []int{0, 1, 100_000, 2 << 20} {
			b := e.bytesOf(70_000 + more + 1000)
			d := alg.FromBytes(b)
			up := e.create(storage.Hint{Digest: d})
			e.write(up, b[:30_000])
			e.must("flush", up.Flush(e.ctx))
			e.write(up, b[30_000:70_000])
			e.must("flush", up.Flush(e.ctx))
			e.write(up, b[70_000:70_000+more])
			e.crash()
			e.lacks(d)
			up = e.resumeBetween(up.ID(), 70_000, 70_000+more)
			e.write(up, b[up.Size():])
			e.commit(up, d, b)
			e.holds(d, b)
		}
	}
}

// resumeBetween resumes and checks the offset.
func (e *env) resumeBetween(id string, least, most int) storage.Upload {
	up := e.resume(id)
	if n := up.Size(); n < int64(least) || n > int64(most) {
		e.fatalf("resumed at %d, want %d to %d", n, least, most)
	}
	return up
}

func testCrashUnflushed(e *env) {
	for _, n := range []int{1, 100_000, 3 << 20} {
		for _, closed := range []bool{false, true} {
			b := e.bytesOf(n + 10)
			d := digest.FromBytes(b)
			up := e.create(storage.Hint{Digest: d})
			e.write(up, b[:n])
			least := 0
			if closed {
				e.must("close", up.Close())
				if n >= 1<<20 {
					least = n
				}
			}
			e.crash()
			up = e.resumeBetween(up.ID(), least, n)
			e.write(up, b[up.Size():])
			e.commit(up, d, b)
			e.holds(d, b)
		}
	}
}

func testCrashCommitted(e *env) {
	var blobs [][]byte
	for _, n := range []int{0, 1, 5000, 2 << 20} {
		b := e.bytesOf(n)
		e.put(b)
		blobs = append(blobs, b)
	}
	gone := e.put([]byte("deleted"))
	e.must("delete", e.s.Delete(e.ctx, gone))
	cancelled := e.create(storage.Hint{})
	e.write(cancelled, e.bytesOf(2<<20))
	e.must("flush", cancelled.Flush(e.ctx))
	e.must("cancel", cancelled.Cancel(e.ctx))
	e.crash()
	for _, b := range blobs {
		e.holds(digest.FromBytes(b), b)
	}
	e.lacks(gone)
	if ids := e.uploads(""); len(ids) != 0 {
		e.errorf("uploads after everything was committed or cancelled: %v", ids)
	}
	// An id of the time before the crash may come back empty, never with bytes.
	up, err := e.s.Resume(e.ctx, cancelled.ID())
	if err == nil {
		if up.Size() != 0 {
			e.errorf("a cancelled upload came back with %d bytes", up.Size())
		}
		e.must("cancel", up.Cancel(e.ctx))
	} else if !errors.Is(err, storage.ErrUploadUnknown) {
		e.errorf("resume of a cancelled upload: %w", err)
	}
}
