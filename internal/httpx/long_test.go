package httpx

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"testing"
	"time"
)

func answerOf(n int) *http.Response {
	return &http.Response{ContentLength: -1, Body: io.NopCloser(bytes.NewReader(make([]byte, n)))}
}

func TestLongAnswers(t *testing.T) {
	l := NewLongAnswers(2, 10*time.Millisecond)
	const limit = 3 << 20
	var releases []func()
	for range 2 {
		b, release, err := l.Read(t.Context(), answerOf(limit), limit)
		if err != nil || len(b) != limit {
			t.Fatal(len(b), err)
		}
		releases = append(releases, release)
	}
	if _, release, err := l.Read(t.Context(), answerOf(limit), limit); !errors.Is(err, ErrNoPlace) || release == nil {
		t.Errorf("a third long one: %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := NewLongAnswers(0, time.Hour).Read(ended, answerOf(limit), limit); !errors.Is(err, context.Canceled) {
		t.Errorf("its context ended: %v", err)
	}
	for _, n := range []int{0, 1, ShortAnswer - 1} {
		b, release, err := l.Read(t.Context(), answerOf(n), limit)
		if err != nil || len(b) != n {
			t.Errorf("%d bytes meanwhile: %d, %v", n, len(b), err)
		}
		release()
	}
	releases[0]()
	if _, _, err := l.Read(t.Context(), answerOf(limit+1), limit); !errors.Is(err, ErrTooLarge) {
		t.Errorf("too long: %v", err)
	}
	if b, _, err := l.Read(t.Context(), answerOf(ShortAnswer+1), limit); err != nil || len(b) != ShortAnswer+1 {
		t.Errorf("after one was released, and a failed one gave its place back: %d, %v", len(b), err)
	}
}
