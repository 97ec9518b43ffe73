package httpx

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// ShortAnswer is how many bytes of an answer [LongAnswers] reads without a place.
const ShortAnswer = 1 << 20

// ErrNoPlace is wrapped when too many long answers were being read at once.
var ErrNoPlace = errors.New("too many long answers at once")

// LongAnswers bounds what long answers of untrusted servers take of memory together. A short answer is read at once; one that turns
// out to be longer than [ShortAnswer] needs one of a few places for as long as its bytes are used, so that servers that
// answer at length, or never end, keep only each other waiting. Nil has room for all. Safe for concurrent use.
type LongAnswers struct {
	places chan struct{}
	wait   time.Duration
}

// NewLongAnswers returns one with n places. Who finds none waits for up to wait.
func NewLongAnswers(n int, wait time.Duration) *LongAnswers {
	return &LongAnswers{places: make(chan struct{}, n), wait: wait}
}

// Read is [ReadLimited]. release is to be called when the bytes, and what was decoded of them, are no longer needed; it is
// never nil. Errors: those of ReadLimited, one that wraps [ErrNoPlace], the context's.
func (l *LongAnswers) Read(ctx context.Context, resp *http.Response, n int64) (b []byte, release func(), err error) {
	release = func() {}
	if l == nil || n <= ShortAnswer || resp.ContentLength > n {
		b, err = ReadLimited(resp, n)
		return b, release, err
	}
	defer resp.Body.Close()
	short, ended, err := fill(resp.Body, nil, ShortAnswer)
	if ended || err != nil {
		return short, release, err
	}
	t := time.NewTimer(l.wait)
	defer t.Stop()
	select {
	case l.places <- struct{}{}:
	case <-t.C:
		return nil, release, fmt.Errorf("%w: an answer of more than %d bytes has to wait", ErrNoPlace, ShortAnswer)
	case <-ctx.Done():
		return nil, release, ctx.Err()
	}
	leave := func() { <-l.places }
	size := n
	if resp.ContentLength > 0 {
		size = resp.ContentLength
	}
	// One buffer of the full size: a growing one would leave several as garbage behind.
	all, _, err := fill(resp.Body, append(make([]byte, 0, size+1), short...), size+1)
	if err != nil {
		leave()
		return nil, release, err
	}
	if int64(len(all)) > n {
		leave()
		return nil, release, fmt.Errorf("%w: the limit is %d bytes", ErrTooLarge, n)
	}
	return all, leave, nil
}

// fill reads until b has n bytes or the body ends. It never holds more than n bytes and half as many while it grows.
func fill(r io.Reader, b []byte, n int64) (_ []byte, ended bool, err error) {
	for int64(len(b)) < n {
		if len(b) == cap(b) {
			b = append(make([]byte, 0, min(n, max(64<<10, 2*int64(cap(b))))), b...)
		}
		m, err := r.Read(b[len(b):min(int64(cap(b)), n)])
		b = b[:len(b)+m]
		if errors.Is(err, io.EOF) {
			return b, true, nil
		}
		if err != nil {
			return nil, false, fmt.Errorf("reading the answer: %w", err)
		}
	}
	return b, false, nil
}
