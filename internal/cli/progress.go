package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/vbauerster/cupwriter"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
)

// Progress shows people how far a verb is: done, of how much, how fast and how long it will take. It does when standard
// error is a terminal, and nothing otherwise. Its methods may be called by several goroutines.
type Progress struct {
	err  io.Writer
	pool *mpb.Progress // nil: nothing is shown

	mu    sync.Mutex
	what  string
	done  int64
	total int64
	bar   *mpb.Bar
	drawn time.Time
}

// drawEvery is the shortest time between two looks.
const drawEvery = 100 * time.Millisecond

// Progress begins; call Done in the end, before anything else is printed.
func (std *IO) Progress() *Progress {
	p := &Progress{err: std.Err}
	if f, ok := std.Err.(*os.File); ok && terminal(f) {
		p.pool = mpb.New(mpb.WithOutput(f), mpb.WithWidth(30), mpb.WithRefreshRate(drawEvery))
	}
	return p
}

// terminal reports whether f is one; /dev/null, a character device as terminals are, is none.
func terminal(f *os.File) bool { return cupwriter.New(f, false).IsTerminal() }

// Shown reports whether anything is: what costs time to find out, as a total, need not be known otherwise.
func (p *Progress) Shown() bool { return p.pool != nil }

// Write prints lines above those of the progress, and where nothing is shown to standard error.
func (p *Progress) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pool == nil || p.bar == nil {
		return p.err.Write(b)
	}
	return p.pool.Write(b)
}

// Bytes shows a number of bytes; a total of 0 or less is unknown. Another name begins another line.
func (p *Progress) Bytes(what string, done, total int64) {
	p.set(what, done, total, func() decor.Decorator {
		if total > 0 {
			return decor.Counters(decor.SizeB1024(0), "% .1f of % .1f")
		}
		return decor.Current(decor.SizeB1024(0), "% .1f")
	}, func(v float64) string { return fmt.Sprintf("% .1f", decor.FmtAsSpeed(decor.SizeB1024(int64(v)))) })
}

// Count shows a number of things.
func (p *Progress) Count(what string, done, total int64) {
	p.set(what, done, total, func() decor.Decorator {
		if total > 0 {
			return decor.CountersNoUnit("%d of %d")
		}
		return decor.CurrentNoUnit("%d")
	}, func(v float64) string { return fmt.Sprintf("%.0f/s", v) })
}

func (p *Progress) set(what string, done, total int64, counter func() decor.Decorator, perSecond func(float64) string) {
	if p.pool == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bar == nil || p.what != what {
		p.end(true)
		p.what, p.total, p.drawn = what, total, time.Time{}
		after := []decor.Decorator{decor.Name(" "), counter(), decor.Name("  "), speed(perSecond)}
		if total > 0 {
			after = append(after, decor.Name("  "), decor.OnComplete(decor.AverageETA(decor.ET_STYLE_GO), "done"),
				decor.OnComplete(decor.Name(" left"), ""))
			p.bar = p.pool.New(total, mpb.BarStyle().Lbound("[").Filler("=").Tip(">").Padding(" ").Rbound("]"),
				mpb.PrependDecorators(decor.Name(what+" ")), mpb.AppendDecorators(after...))
		} else {
			p.bar = p.pool.New(0, mpb.NopStyle(), mpb.PrependDecorators(decor.Name(what)), mpb.AppendDecorators(after...))
		}
	}
	p.done = done
	if now := time.Now(); now.Sub(p.drawn) >= drawEvery || done == p.total {
		p.drawn = now
		p.bar.SetCurrent(done)
	}
}

// speed is the average so far.
func speed(text func(float64) string) decor.Decorator {
	began, last, final := time.Now(), "", false
	return decor.Any(func(s decor.Statistics) string {
		if !final {
			final = s.Completed
			last = text(float64(s.Current) / max(time.Since(began).Seconds(), 1e-3))
		}
		return last
	})
}

// end leaves the line as it is. whole: what it shows is done.
func (p *Progress) end(whole bool) {
	switch {
	case p.bar == nil:
	case whole && p.total > 0:
		p.bar.SetCurrent(p.total)
	case whole:
		p.bar.SetCurrent(p.done)
		p.bar.SetTotal(-1, true)
	default:
		p.bar.Abort(false)
	}
	p.bar = nil
}

// Done ends the last line. After an error it stays where it was.
func (p *Progress) Done(err error) {
	if p.pool == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.end(err == nil)
	p.pool.Wait()
	p.pool = nil
}

// File shows how far the reading of a file is; what can't be sought is counted without a total. The result seeks and reads at offsets where
// f does.
func (p *Progress) File(ctx context.Context, what string, f io.Reader) io.Reader {
	file, ok := f.(*os.File)
	if !ok {
		return &countedReader{ctx: ctx, p: p, what: what, r: f}
	}
	st, err := file.Stat()
	if err != nil || !st.Mode().IsRegular() {
		return &countedReader{ctx: ctx, p: p, what: what, r: untilDone(ctx, f)}
	}
	return &countedFile{countedReader{ctx: ctx, p: p, what: what, r: f, total: st.Size()}, file}
}

// untilDone reads r until ctx ends, also while r waits for what a terminal or another program does not send.
func untilDone(ctx context.Context, r io.Reader) io.Reader {
	out, in := io.Pipe()
	go func() {
		_, err := io.Copy(in, r)
		in.CloseWithError(err)
	}()
	context.AfterFunc(ctx, func() { in.CloseWithError(ctx.Err()) })
	return out
}

// countedReader ends with its context.
type countedReader struct {
	ctx   context.Context
	p     *Progress
	what  string
	r     io.Reader
	total int64

	mu   sync.Mutex
	done int64
}

func (c *countedReader) Read(b []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := c.r.Read(b)
	c.reached(c.done + int64(n))
	return n, err
}

// reached notes the farthest byte: what is read again does not count.
func (c *countedReader) reached(at int64) {
	c.mu.Lock()
	c.done = max(c.done, at)
	at = c.done
	c.mu.Unlock()
	c.p.Bytes(c.what, at, c.total)
}

type countedFile struct {
	countedReader
	f *os.File
}

func (c *countedFile) ReadAt(b []byte, off int64) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := c.f.ReadAt(b, off)
	if n > 0 && off+int64(n) > c.farthest() {
		c.reached(off + int64(n))
	}
	return n, err
}

func (c *countedReader) farthest() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.done
}

func (c *countedFile) Seek(offset int64, whence int) (int64, error) { return c.f.Seek(offset, whence) }
