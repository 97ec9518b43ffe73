package uploads

import (
	"io"
	"os"
	"time"
)

const (
	partSize  = 16 << 20
	chunkSize = 32 << 10 // what each upload that is being read has, besides its share of memory
	// minPart is what buckets ask of every part but the last.
	minPart = 5 << 20
)

// Memory of parts that are coming in, in bytes: of all, and of one account, one client, or those that go to one hold.
const (
	memoryOfAll = 48 << 20
	memoryOfOne = 24 << 20
)

// Memory is for those who send fast. Who pauses so long, or needs so long for what came plus a second for each slowRate bytes, gets
// the tail file in its place.
const (
	stallAfter = 2 * time.Second
	slowAfter  = 3 * time.Second
	slowRate   = 1 << 20
)

// part is what a hold has not acknowledged of an upload: first what lies in the tail file, then what is in memory. Once it was sent it
// is left as it is: an HTTP client may go on reading a body after it gave its answer.
type part struct {
	file   *os.File // nil while nothing is there
	onDisk int64
	chunks [][]byte // full ones
	last   []byte   // being filled; not counted
	waited time.Duration
}

func (p *part) size() int64 { return p.onDisk + int64(len(p.chunks))*chunkSize + int64(len(p.last)) }

// space is how much more the last chunk takes.
func (p *part) space() int {
	return int(min(int64(chunkSize-len(p.last)), partSize-p.size()))
}

// slow reports whether the sender has taken longer than memory is for.
func (p *part) slow() bool {
	return p.waited > slowAfter+time.Duration(p.size())*time.Second/slowRate
}

// reader reads the part from its start, and can be rewound.
func (p *part) reader() io.ReadSeeker { return io.NewSectionReader(p, 0, p.size()) }

// ReadAt makes a part an io.ReaderAt.
func (p *part) ReadAt(b []byte, off int64) (n int, err error) {
	if off < p.onDisk {
		n, err = p.file.ReadAt(b[:min(int64(len(b)), p.onDisk-off)], off)
		if err != nil || n == len(b) {
			return n, err
		}
		off += int64(n)
	}
	off -= p.onDisk
	for n < len(b) {
		i, at := int(off/chunkSize), int(off%chunkSize)
		chunk := p.last
		if i < len(p.chunks) {
			chunk = p.chunks[i]
		} else if i > len(p.chunks) {
			return n, io.EOF
		}
		if at >= len(chunk) {
			return n, io.EOF
		}
		c := copy(b[n:], chunk[at:])
		n, off = n+c, off+int64(c)
	}
	return n, nil
}
