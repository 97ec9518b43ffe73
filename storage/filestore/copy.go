package filestore

import (
	"io"
	"sync"
	"sync/atomic"
)

const (
	smallBuffer    = 64 << 10
	largeBuffer    = 1 << 20
	writebackEvery = 8 << 20
	saveEvery      = 64 << 20
	// maxPipelines bounds the memory of uploads under way, three large buffers each.
	maxPipelines = 8
)

// buffers lends buffers. The zero value is ready.
type buffers struct {
	small, large sync.Pool // of *[]byte
	pipelines    atomic.Int32
}

func (b *buffers) get(p *sync.Pool, size int) *[]byte {
	if v, ok := p.Get().(*[]byte); ok {
		return v
	}
	v := make([]byte, size)
	return &v
}

// enter reports whether another pipeline may run; leave ends one.
func (b *buffers) enter() bool {
	if b.pipelines.Add(1) > maxPipelines {
		b.pipelines.Add(-1)
		return false
	}
	return true
}

func (b *buffers) leave() { b.pipelines.Add(-1) }

// fill reads until buf is full. Unlike io.ReadFull it passes on a reader's own io.ErrUnexpectedEOF, which is what
// net/http says of a body that was cut off.
func fill(r io.Reader, buf []byte) (n int, err error) {
	for idle := 0; n < len(buf) && err == nil; {
		var m int
		m, err = r.Read(buf[n:])
		n += m
		if m > 0 {
			idle = 0
		} else if idle++; idle > 100 && err == nil {
			err = io.ErrNoProgress
		}
	}
	return n, err
}

// Write implements [storage.Upload].
func (u *upload) Write(p []byte) (int, error) {
	if err := u.usable(); err != nil {
		return 0, err
	}
	return u.append(p)
}

// append writes and hashes in the caller's goroutine.
func (u *upload) append(p []byte) (int, error) {
	n, err := u.write(p)
	u.hash(p[:n], u.size)
	return n, err
}

// ReadFrom implements [storage.Upload].
func (u *upload) ReadFrom(r io.Reader) (total int64, err error) {
	if err := u.usable(); err != nil {
		return 0, err
	}
	buf := u.s.pool.get(&u.s.pool.small, smallBuffer)
	defer u.s.pool.small.Put(buf)
	for first := true; ; first = false {
		n, rerr := fill(r, *buf)
		w, werr := u.append((*buf)[:n])
		total += int64(w)
		if werr != nil || rerr != nil {
			return total, outcome(werr, rerr)
		}
		// A full buffer: more is likely to come.
		if first && u.s.pool.enter() {
			n, err := u.pipeline(r)
			u.s.pool.leave()
			return total + n, err
		}
	}
}

// outcome is the error of a copy; the writer's goes first.
func outcome(werr, rerr error) error {
	if werr != nil {
		return werr
	}
	if rerr == io.EOF {
		return nil
	}
	return rerr
}

// chunk is written and waits to be hashed.
type chunk struct {
	buf *[]byte
	n   int
	end int64 // offset behind it
}

// pipeline reads and writes here and hashes in another goroutine. A chunk is hashed after it was written, so that
// the hash never stands past the bytes that the file took.
func (u *upload) pipeline(r io.Reader) (total int64, err error) {
	const depth = 3
	free, full := make(chan *[]byte, depth), make(chan chunk, depth)
	for range depth {
		free <- u.s.pool.get(&u.s.pool.large, largeBuffer)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for c := range full {
			u.hash((*c.buf)[:c.n], c.end)
			free <- c.buf
		}
	}()
	defer func() {
		close(full)
		<-done
		for range len(free) {
			u.s.pool.large.Put(<-free)
		}
	}()
	for {
		buf := <-free
		n, rerr := fill(r, *buf)
		w, werr := u.write((*buf)[:n])
		total += int64(w)
		full <- chunk{buf: buf, n: w, end: u.size}
		if werr != nil || rerr != nil {
			return total, outcome(werr, rerr)
		}
	}
}

// write appends to the file and has the disk begin.
func (u *upload) write(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if err := u.create(); err != nil {
		return 0, err
	}
	n, err := u.s.disk.writeAt(u.f, p, u.size)
	u.size += int64(n)
	u.e.size.Store(u.size)
	u.e.touched.Store(u.s.now().UnixNano())
	if err != nil {
		u.torn = true
		return n, failed("write upload", err)
	}
	if u.size-u.begun >= writebackEvery {
		beginWriteback(u.f, u.begun, u.size-u.begun)
		u.begun = u.size
	}
	return n, nil
}

// hash takes bytes that were written, up to offset end, and has the state saved now and then.
func (u *upload) hash(p []byte, end int64) {
	u.h.Write(p)
	if end-u.planned < saveEvery {
		return
	}
	u.startSave(end)
}
