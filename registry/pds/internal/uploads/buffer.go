package uploads

import (
	"context"
	"io"
	"time"

	"golang.org/x/sync/semaphore"
)

const (
	partSize  = 16 << 20
	chunkSize = 512 << 10
	maxChunks = 96 // of all parts in memory, besides the first of each
	// minPart is what buckets ask of every part but the last. A part is only sent smaller when memory stays short for a while.
	minPart   = 5 << 20
	waitChunk = 5 * time.Second
)

// buffer is a part on its way: chunks, so that a slow sender holds no more memory than it has filled.
type buffer struct {
	pool   *semaphore.Weighted
	chunks [][]byte
	held   int64 // taken from pool
}

// fill reads up to one part. With an error, io.EOF too, the buffer has what came before it.
func fill(ctx context.Context, pool *semaphore.Weighted, r io.Reader) (*buffer, error) {
	buf := &buffer{pool: pool}
	for buf.size() < partSize {
		if len(buf.chunks) > 0 && !buf.more(ctx) {
			return buf, nil
		}
		chunk := make([]byte, chunkSize)
		n, err := 0, error(nil)
		for n < len(chunk) && err == nil { // not io.ReadFull, which gives a cut body and a whole one the same error
			var got int
			got, err = r.Read(chunk[n:])
			n += got
		}
		if n > 0 {
			buf.chunks = append(buf.chunks, chunk[:n])
		}
		if err != nil {
			return buf, err
		}
	}
	return buf, nil
}

// more takes memory for one more chunk; without it the part goes as it is.
func (b *buffer) more(ctx context.Context) bool {
	ok := b.pool.TryAcquire(1)
	if !ok && b.size() < minPart {
		wait, cancel := context.WithTimeout(ctx, waitChunk)
		defer cancel()
		ok = b.pool.Acquire(wait, 1) == nil
	}
	if ok {
		b.held++
	}
	return ok
}

func (b *buffer) free() {
	if b.held > 0 {
		b.pool.Release(b.held)
	}
	b.held, b.chunks = 0, nil
}

func (b *buffer) size() int64 {
	if len(b.chunks) == 0 {
		return 0
	}
	return int64(len(b.chunks)-1)*chunkSize + int64(len(b.chunks[len(b.chunks)-1]))
}

// reader reads the part from its start, and can be rewound.
func (b *buffer) reader() io.ReadSeeker { return io.NewSectionReader(b, 0, b.size()) }

// ReadAt makes a buffer an io.ReaderAt.
func (b *buffer) ReadAt(p []byte, off int64) (int, error) {
	n := 0
	for n < len(p) {
		i, at := int(off/chunkSize), int(off%chunkSize)
		if i >= len(b.chunks) || at >= len(b.chunks[i]) {
			return n, io.EOF
		}
		c := copy(p[n:], b.chunks[i][at:])
		n, off = n+c, off+int64(c)
	}
	return n, nil
}
