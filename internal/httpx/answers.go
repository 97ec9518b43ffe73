package httpx

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"github.com/atcr-dev/atcr/internal/budget"
)

// Errors of reading an answer within a budget.
var (
	// ErrNoPlace is wrapped when answers of untrusted servers take all the room that they may.
	ErrNoPlace = errors.New("too many answers are being read at once")
	// ErrTooSlow is wrapped when a server sent less than the least pace.
	ErrTooSlow = errors.New("the answer comes too slowly")
)

const (
	shortAnswer = 64 << 10 // bytes of an answer that are kept in memory as long as there is any
	longAnswer  = 1 << 20  // as long as half of the memory is free
	fileStep    = 1 << 20  // bytes of the files' budget that are taken at a time
	longTurns   = 2        // long answers that are worked on at once

	streamWindow = time.Minute // of a body that is passed on: it may wait for a disk, and a resumed transfer costs more
)

// AnswersOptions configures [NewAnswers]. The zero value has the documented limits.
type AnswersOptions struct {
	Memory int64         // bytes in memory; 0 is 64 MiB
	Files  int64         // bytes in temporary files; 0 is 1 GiB
	Dir    string        // of those files; empty is the system's
	Wait   time.Duration // for room in it; 0 is 10 s
	Pace   int64         // bytes that each Window of waiting must bring; 0 is 64 KiB
	Window time.Duration // 0 is 10 s
}

// Answers is the budget of all answers of servers that untrusted parties chose, from the first byte: a total in memory and one in
// temporary files, a quarter of each for one server, owner or client ([WithShare]), and a least pace, measured in each window and
// earned by nothing that came before. Clients that [Answers.Client] returns are within it when their bodies are read by [ReadLimited]
// or [Spool]. A body that is read in another way, which is for what is passed on and not kept, has a least pace alone, in windows
// of a minute. Safe for concurrent use.
type Answers struct {
	o             AnswersOptions
	memory, files *budget.Budget
	turns         *budget.Budget
}

// NewAnswers returns a budget. A process has one.
func NewAnswers(o AnswersOptions) *Answers {
	if o.Memory == 0 {
		o.Memory = 64 << 20
	}
	if o.Files == 0 {
		o.Files = 1 << 30
	}
	if o.Wait == 0 {
		o.Wait = 10 * time.Second
	}
	if o.Pace == 0 {
		o.Pace = 64 << 10
	}
	if o.Window == 0 {
		o.Window = 10 * time.Second
	}
	return &Answers{
		o: o, memory: budget.New(o.Memory, o.Memory/4), files: budget.New(o.Files, o.Files/4), turns: budget.New(longTurns, 1),
	}
}

// Used returns how many bytes are taken now.
func (a *Answers) Used() (memory, files int64) { return a.memory.Used(), a.files.Used() }

type shareKey struct{}

// WithShare says for whom the requests of ctx are made, as an owner's DID. What their answers take counts to the share of each, and of
// the client whose request ctx belongs to ([WithClient]), unless the work is [Shared].
func WithShare(ctx context.Context, key string) context.Context {
	had := sharesOf(ctx)
	if slices.Contains(had, key) {
		return ctx
	}
	return context.WithValue(ctx, shareKey{}, append(slices.Clip(had), key))
}

type sharedKey struct{}

// Shared returns a context for work whose result others wait for, too: what its answers take does not count to the share of the client
// who asked first, which may be full. Whoever begins such work bounds how much of it one client may begin.
func Shared(ctx context.Context) context.Context { return context.WithValue(ctx, sharedKey{}, true) }

func sharesOf(ctx context.Context) []string {
	keys, _ := ctx.Value(shareKey{}).([]string)
	return keys
}

// payersOf returns the keys of all whose share an answer counts to.
func payersOf(ctx context.Context) []string {
	keys := sharesOf(ctx)
	if addr := Client(ctx); addr.IsValid() && ctx.Value(sharedKey{}) == nil {
		keys = append(slices.Clip(keys), "client "+addr.String())
	}
	return keys
}

// Client returns a copy of c whose answers are within the budget; c itself when they are within one already.
func (a *Answers) Client(c *http.Client) *http.Client {
	if _, ok := c.Transport.(*answersTransport); ok {
		return c
	}
	out := *c
	next := c.Transport
	if next == nil {
		next = http.DefaultTransport
	}
	out.Transport = &answersTransport{next: next, a: a}
	return &out
}

type answersTransport struct {
	next http.RoundTripper
	a    *Answers
}

type answerKey struct{}

// RoundTrip gives the body its pace, and the request's context what [Spool] needs to know.
func (t *answersTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(r.Context())
	b := &answerBody{a: t.a, ctx: r.Context(), shares: payersOf(ctx), host: "host " + r.URL.Host, cancel: cancel}
	resp, err := t.next.RoundTrip(r.WithContext(context.WithValue(ctx, answerKey{}, b)))
	if err != nil {
		cancel(nil)
		return nil, err
	}
	b.ReadCloser = resp.Body
	b.window(streamWindow)
	b.timer = time.AfterFunc(time.Hour, b.late)
	b.timer.Stop()
	resp.Body = b
	return resp, nil
}

// CloseIdleConnections lets http.Client.CloseIdleConnections through.
func (t *answersTransport) CloseIdleConnections() { closeIdle(t.next) }

// answerBody is a body with a least pace.
type answerBody struct {
	io.ReadCloser
	a      *Answers
	ctx    context.Context // the caller's
	shares []string
	host   string
	cancel context.CancelCauseFunc // ends the request
	timer  *time.Timer             // of the read that goes on
	slow   atomic.Bool

	each time.Duration // of a window
	left time.Duration // of waiting in this window
	got  int64         // bytes in this window
}

func (b *answerBody) window(each time.Duration) { b.each, b.left = each, each }

func (b *answerBody) late() {
	b.slow.Store(true)
	b.cancel(ErrTooSlow)
}

func (b *answerBody) Read(p []byte) (int, error) {
	start := time.Now()
	b.timer.Reset(b.left)
	n, err := b.ReadCloser.Read(p)
	b.timer.Stop()
	b.left -= time.Since(start)
	if b.got += int64(n); b.got >= b.a.o.Pace {
		b.got, b.left = 0, b.each
	}
	switch {
	case errors.Is(err, io.EOF):
		b.cancel(nil)
	case b.slow.Load() || b.left <= 0 && err == nil:
		b.late()
		err = fmt.Errorf("%w: less than %d bytes in %s", ErrTooSlow, b.a.o.Pace, b.each)
	}
	return n, err
}

func (b *answerBody) Close() error {
	err := b.ReadCloser.Close()
	b.cancel(nil)
	return err
}

// Answer is a body that was read, in memory or in a temporary file. Close it when it is no longer needed.
type Answer struct {
	a        *Answers // nil: no budget
	ctx      context.Context
	keys     []string // shares of memory and files
	shares   []string // of turns
	buf      []byte   // all of it, unless there is a file
	reserved int64    // of the memory's budget
	file     *os.File
	steps    int64 // of the files' budget
	size     int64
}

// Spool reads a body of at most n bytes and closes it. Errors: one that wraps [ErrTooLarge], [ErrTooSlow] or [ErrNoPlace]; the context's.
func Spool(resp *http.Response, n int64) (*Answer, error) {
	defer resp.Body.Close()
	if resp.ContentLength > n {
		return nil, fmt.Errorf("%w: %d bytes, the limit is %d", ErrTooLarge, resp.ContentLength, n)
	}
	x := &Answer{ctx: context.Background()}
	if resp.Request != nil {
		x.ctx = resp.Request.Context()
	}
	if b := bodyOf(resp); b != nil {
		b.window(b.a.o.Window)
		x.a, x.ctx, x.shares, x.keys = b.a, b.ctx, b.shares, append(slices.Clip(b.shares), b.host)
	}
	if err := x.fill(resp.Body, n, resp.ContentLength); err != nil {
		x.Close()
		return nil, err
	}
	return x, nil
}

// bodyOf returns the body as it came from the transport; nil outside of a budget.
func bodyOf(resp *http.Response) *answerBody {
	if resp.Request == nil {
		return nil
	}
	b, _ := resp.Request.Context().Value(answerKey{}).(*answerBody)
	return b
}

// fill reads until the body ends.
func (x *Answer) fill(r io.Reader, limit, announced int64) error {
	first := int64(4 << 10)
	if announced >= 0 {
		first = min(announced+1, shortAnswer) // one more, to see the end
	}
	var scratch []byte
	for {
		if x.file == nil && len(x.buf) == cap(x.buf) && !x.grow(max(first, 2*int64(cap(x.buf)))) {
			if err := x.toFile(); err != nil {
				return err
			}
			scratch = make([]byte, 16<<10)
		}
		var n int
		var err error
		if x.file == nil {
			n, err = r.Read(x.buf[len(x.buf):cap(x.buf)])
			x.buf = x.buf[:len(x.buf)+n]
		} else {
			n, err = r.Read(scratch)
			if werr := x.write(scratch[:n]); werr != nil {
				return werr
			}
		}
		x.size += int64(n)
		switch {
		case x.size > limit:
			return fmt.Errorf("%w: the limit is %d bytes", ErrTooLarge, limit)
		case errors.Is(err, io.EOF) && x.size < announced:
			return fmt.Errorf("reading the answer: %w", io.ErrUnexpectedEOF)
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("reading the answer: %w", err)
		}
	}
}

// grow makes room in memory, unless the answer is to go on in a file.
func (x *Answer) grow(size int64) bool {
	if x.a != nil {
		ceiling := x.a.o.Memory / 2 // the rest is for answers that came whole
		crowded := x.a.memory.Used() > ceiling/2
		if size > longAnswer || size > shortAnswer && crowded || !x.a.memory.Try(size-x.reserved, ceiling, x.keys...) {
			return false
		}
	}
	x.reserved = size
	x.buf = append(make([]byte, 0, size), x.buf...)
	return true
}

// toFile goes on in a file, and gives the memory back.
func (x *Answer) toFile() (err error) {
	if x.file, err = os.CreateTemp(x.a.o.Dir, "answer-*"); err != nil {
		return fmt.Errorf("%w: %w", ErrNoPlace, err)
	}
	_ = os.Remove(x.file.Name()) // where that works nothing is left after a crash; else Close does it
	size := x.size
	x.size = 0
	if err := x.write(x.buf); err != nil {
		return err
	}
	x.size = size
	x.giveMemory()
	return nil
}

func (x *Answer) write(p []byte) error {
	for x.size+int64(len(p)) > x.steps*fileStep {
		ctx, cancel := context.WithTimeout(x.ctx, x.a.o.Wait)
		_, err := x.a.files.Take(ctx, fileStep, false, x.keys...)
		cancel()
		if err != nil {
			return x.noPlace(err)
		}
		x.steps++
	}
	if _, err := x.file.Write(p); err != nil {
		return fmt.Errorf("%w: %w", ErrNoPlace, err)
	}
	return nil
}

// noPlace is the error of a wait that ended.
func (x *Answer) noPlace(err error) error {
	if cause := x.ctx.Err(); cause != nil { // it may have had less time than Wait
		err = cause
	}
	return fmt.Errorf("%w: %w", ErrNoPlace, err)
}

// Size returns its length in bytes.
func (x *Answer) Size() int64 { return x.size }

// Reader returns its bytes from the start. One reader at a time.
func (x *Answer) Reader() (io.Reader, error) {
	if x.file == nil {
		return bytes.NewReader(x.buf), nil
	}
	_, err := x.file.Seek(0, io.SeekStart)
	return x.file, err
}

// Bytes returns all of it in memory, for which it may wait. They are to be used before Close. Errors: those of [Spool].
func (x *Answer) Bytes() ([]byte, error) {
	if x.file == nil {
		return x.buf, nil
	}
	// A client with a time limit ends its own context when the body has.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(x.ctx), x.a.o.Wait)
	defer cancel()
	if _, err := x.a.memory.Take(ctx, x.size, false, x.keys...); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoPlace, err)
	}
	x.reserved = x.size
	b := make([]byte, x.size)
	if _, err := x.file.ReadAt(b, 0); err != nil {
		return nil, fmt.Errorf("reading the answer: %w", err)
	}
	x.buf = b
	x.giveFile()
	return b, nil
}

// Turn waits until a long answer may be worked on: two are at once, one of an owner or client. Urgent ones go first. It takes
// nothing for a short one. release is to be called when the work is done. Errors: one that wraps [ErrNoPlace]; the context's.
func (x *Answer) Turn(ctx context.Context, urgent bool) (release func(), err error) {
	if x.a == nil || x.size <= shortAnswer {
		return func() {}, nil
	}
	release, err = x.a.turns.Take(ctx, 1, urgent, x.shares...)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoPlace, err)
	}
	return release, nil
}

// Close gives back what it takes.
func (x *Answer) Close() {
	x.giveMemory()
	x.giveFile()
}

func (x *Answer) giveMemory() {
	if x.a != nil && x.reserved > 0 {
		x.a.memory.Give(x.reserved, x.keys...)
	}
	x.buf, x.reserved = nil, 0
}

func (x *Answer) giveFile() {
	if x.file == nil {
		return
	}
	_ = x.file.Close()
	_ = os.Remove(x.file.Name())
	x.a.files.Give(x.steps*fileStep, x.keys...)
	x.file, x.steps = nil, 0
}
