package logs

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/atcr-dev/atcr/internal/httpx"
)

// at logs as if it were that time.
func at(log *slog.Logger, now time.Time, level slog.Level, text string, attrs ...slog.Attr) {
	r := slog.NewRecord(now, level, text, 0)
	r.AddAttrs(attrs...)
	if log.Enabled(context.Background(), level) {
		_ = log.Handler().Handle(context.Background(), r)
	}
}

// A flood of one message is some lines and a count, whatever its attributes say; other messages are written beside it.
func TestFlood(t *testing.T) {
	var out strings.Builder
	log := New(slog.New(slog.NewTextHandler(&out, nil)))
	now := time.Unix(1_700_000_000, 0)
	const lines = 100_000
	for i := range lines { // a minute of them
		at(log.With("part", i%3), now.Add(time.Duration(i)*time.Minute/lines), slog.LevelWarn, "a request failed", slog.Int("n", i))
		if i%(lines/10) == 0 {
			at(log, now.Add(time.Duration(i)*time.Minute/lines), slog.LevelError, "something else", slog.Int("n", i))
		}
	}
	written := strings.Count(out.String(), "a request failed")
	if written < 40 || written > 60 {
		t.Errorf("%d lines were written of %d", written, lines)
	}
	if n := strings.Count(out.String(), "something else"); n != 10 {
		t.Errorf("%d of 10 other lines", n)
	}
	// All were written or counted, also those of a flood that has ended.
	at(log, now.Add(5*time.Minute), slog.LevelInfo, "the next line of any kind")
	counted := 0
	for _, l := range strings.Split(out.String(), "\n") {
		if _, n, ok := strings.Cut(l, "not_written="); ok {
			var k int
			if _, err := fmt.Sscan(n, &k); err != nil {
				t.Fatal(err)
			}
			counted += k
		}
	}
	if written+counted != lines {
		t.Errorf("%d written and %d counted of %d", written, counted, lines)
	}
	if !strings.Contains(out.String(), `like="a request failed"`) {
		t.Error("the end of the flood is not told")
	}
	if New(log) != log {
		t.Error("it is wrapped twice")
	}
}

// What is kept does not grow with the messages, nor do those beyond what is kept flood the log.
func TestManyMessages(t *testing.T) {
	var out strings.Builder
	log := New(slog.New(slog.NewTextHandler(&out, nil)))
	now := time.Unix(1_700_000_000, 0)
	for i := range 10 * maxMessages {
		at(log, now, slog.LevelWarn, fmt.Sprint("message ", i))
	}
	h := log.Handler().(*handler)
	if n := len(h.lines.by); n > maxMessages+4 {
		t.Errorf("%d messages are kept", n)
	}
	if n := strings.Count(out.String(), "\n"); n > maxMessages+burst {
		t.Errorf("%d lines", n)
	}
	at(log, now.Add(time.Hour), slog.LevelWarn, "later")
	if n := len(h.lines.by); n != 1 {
		t.Errorf("%d messages are kept an hour later", n)
	}
}

// Below info all is written; what the handler would not take costs nothing and is not counted.
func TestDebugIsWhole(t *testing.T) {
	var out strings.Builder
	log := New(slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug})))
	for range 100 {
		log.Debug("detail")
	}
	if n := strings.Count(out.String(), "\n"); n != 100 {
		t.Errorf("%d of 100", n)
	}
	if New(nil) == nil || New(slog.New(slog.DiscardHandler)).Enabled(t.Context(), slog.LevelError) {
		t.Error("the handler's level does not count")
	}
}

func TestClient(t *testing.T) {
	var out strings.Builder
	log := New(slog.New(slog.NewTextHandler(&out, nil)))
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.RemoteAddr = "[2001:db8:1:2:3::4]:5"
	httpx.WithClient(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		log.WarnContext(r.Context(), "it failed")
	}), httpx.VisitOptions{Log: log}).ServeHTTP(httptest.NewRecorder(), r)
	if !strings.Contains(out.String(), "client=2001:db8:1:2::") {
		t.Error(out.String())
	}
}

func TestAtOnce(t *testing.T) {
	log := New(slog.New(slog.NewTextHandler(io.Discard, nil)))
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for k := range 500 {
				log.Warn(fmt.Sprint("message ", k%7), "n", i)
			}
		})
	}
	wg.Wait()
}

// What untrusted parties send is as long as they like.
func TestLongText(t *testing.T) {
	var out strings.Builder
	log := New(slog.New(slog.NewTextHandler(&out, nil)))
	long := strings.Repeat("ä", 50_000)
	log.Warn("it failed", "name", long, "err", fmt.Errorf("said %s", long), "n", 7)
	if n := out.Len(); n > 3*maxText || !strings.Contains(out.String(), "n=7") {
		t.Errorf("the line has %d bytes", n)
	}
}
