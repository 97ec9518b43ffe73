package backup

import (
	"io"
	"sync"
)

// Progress is called now and then with how far something is: "records" counts them, "layers" counts their bytes. A total of 0 is
// unknown. It must be quick; calls come one after the other.
type Progress func(what string, done, total int64)

// meter counts the bytes of layers; nil counts nothing, as where there are none.
type meter struct {
	f     Progress
	total int64

	mu   sync.Mutex
	done int64
}

func newMeter(f Progress, total int64) *meter {
	if f == nil || total == 0 {
		return nil
	}
	m := &meter{f: f, total: total}
	m.add(0)
	return m
}

func (m *meter) add(n int64) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.done += n
	m.f("layers", m.done, m.total)
}

// through counts what is written to w.
func (m *meter) through(w io.Writer) io.Writer {
	if m == nil {
		return w
	}
	return &metered{w, m}
}

type metered struct {
	io.Writer
	m *meter
}

func (w *metered) Write(b []byte) (int, error) {
	n, err := w.Writer.Write(b)
	w.m.add(int64(n))
	return n, err
}

// from counts what is read from r.
func (m *meter) from(r io.Reader) io.Reader {
	if m == nil {
		return r
	}
	return io.TeeReader(r, m.through(io.Discard))
}
