package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"
)

// Progress shows people how far a verb is: done, of how much, how fast and how long it will take. It does when standard
// error is a terminal, and nothing otherwise. Its methods may be called by several goroutines.
type Progress struct {
	err io.Writer

	mu    sync.Mutex
	tty   *os.File // nil: nothing is shown
	what  string   // of the line that is shown; empty: there is none
	done  int64
	total int64
	unit  func(float64) string
	began time.Time
	drawn time.Time
}

// drawEvery is the shortest time between two looks.
const drawEvery = 100 * time.Millisecond

// Progress begins; call Done in the end, before anything else is printed.
func (std *IO) Progress() *Progress {
	p := &Progress{err: std.Err}
	if f, ok := std.Err.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		p.tty = f
	}
	return p
}

// Shown reports whether anything is: what costs time to find out, as a total, need not be known otherwise.
func (p *Progress) Shown() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.tty != nil
}

// clearLine goes to the line's begin and removes what is on it.
const clearLine = "\r\x1b[K"

// Write prints lines above those of the progress, and where nothing is shown to standard error.
func (p *Progress) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.what == "" {
		return p.err.Write(b)
	}
	p.print(clearLine)
	n, err := p.err.Write(b)
	p.draw(false)
	return n, err
}

// Bytes shows a number of bytes; a total of 0 or less is unknown. Another name begins another line.
func (p *Progress) Bytes(what string, done, total int64) { p.set(what, done, total, inBytes) }

// Count shows a number of things.
func (p *Progress) Count(what string, done, total int64) {
	p.set(what, done, total, func(n float64) string { return fmt.Sprintf("%.0f", n) })
}

func inBytes(n float64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	for n >= 1024 && len(units) > 1 {
		n, units = n/1024, units[1:]
	}
	return fmt.Sprintf("%.1f %s", n, units[0])
}

func (p *Progress) set(what string, done, total int64, unit func(float64) string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.tty == nil {
		return
	}
	if p.what != what {
		p.end(true)
		p.what, p.total, p.unit, p.began, p.drawn = what, max(total, 0), unit, time.Now(), time.Time{}
	}
	p.done = done
	if now := time.Now(); now.Sub(p.drawn) >= drawEvery || done == p.total {
		p.drawn = now
		p.draw(false)
	}
}

// draw puts the line where it was; it never takes two, since that would be drawn below the first the next time.
func (p *Progress) draw(whole bool) {
	width, _, err := term.GetSize(int(p.tty.Fd()))
	if err != nil || width <= 0 {
		width = 80
	}
	p.print(clearLine + p.line(time.Since(p.began), width-1, whole))
}

// The bar's widths: it shrinks before the name is shortened.
const minBar, maxBar = 10, 28

// line has at most width characters.
func (p *Progress) line(took time.Duration, width int, whole bool) string {
	after := " " + p.unit(float64(p.done))
	if p.total > 0 {
		after += " of " + p.unit(float64(p.total))
	}
	after += "  " + p.unit(float64(p.done)/max(took.Seconds(), 1e-3)) + "/s"
	switch {
	case p.total > 0 && (whole || p.done >= p.total):
		after += "  done"
	case p.total > 0 && p.done > 0:
		left := time.Duration(float64(took) * float64(p.total-p.done) / float64(p.done))
		after += "  " + left.Round(time.Second).String() + " left"
	}
	what := []rune(p.what)
	if p.total > 0 {
		room := min(max(width-len(what)-len(after)-3, minBar), maxBar)
		n := int(float64(room) * min(float64(p.done)/float64(p.total), 1))
		filled := strings.Repeat("=", n)
		if n < room {
			filled += ">" + strings.Repeat(" ", room-n-1)
		}
		after = "[" + filled + "]" + after
	}
	if over := len(what) + 1 + len(after) - width; over > 0 { // the verb and the end of a path say most
		head := slices.Index(what, ' ') + 1
		what = slices.Concat(what[:head], []rune("…"), what[min(head+over+1, len(what)):])
	}
	line := []rune(string(what) + " " + after)
	return string(line[:min(len(line), max(width, 0))])
}

// end leaves the line as it is. whole: what it shows is done.
func (p *Progress) end(whole bool) {
	if p.what == "" {
		return
	}
	if whole && p.total > 0 {
		p.done = p.total
	}
	p.draw(whole)
	p.print("\n")
	p.what = ""
}

// print goes without an error: a terminal that went away is nothing to the verb.
func (p *Progress) print(s string) { _, _ = io.WriteString(p.tty, s) }

// Done ends the last line. After an error it stays where it was.
func (p *Progress) Done(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.tty == nil {
		return
	}
	p.end(err == nil)
	p.tty = nil
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
