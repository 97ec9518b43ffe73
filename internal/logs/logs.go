// Package logs keeps a log readable and small whatever is asked of a server: lines that repeat are counted, not written, and each line of
// a request names the request's client.
package logs

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/atcr-dev/atcr/internal/httpx"
)

// How many lines of one message are written: a burst, then one each period. maxMessages is how many messages are told apart; further
// ones share what one has. An attribute's text is cut.
const (
	burst       = 20
	each        = 2 * time.Second
	sweepEvery  = time.Minute
	maxMessages = 500
	maxText     = 4 << 10 // bytes of one attribute
)

// New returns a logger that writes what log does, but that of one message (the text alone counts, not the attributes) it writes no more
// than 20 lines at once and then one in two seconds. The next line written, or one a minute later, tells in not_written how many
// were left out. Lines below slog.LevelInfo are all written: who asks for those wants them. Lines that were logged with a request's
// context have the attribute client, see [httpx.ClientAddr]. nil is slog.Default(). Safe for concurrent use.
func New(log *slog.Logger) *slog.Logger {
	if log == nil {
		log = slog.Default()
	}
	if _, ok := log.Handler().(*handler); ok {
		return log
	}
	return slog.New(&handler{next: log.Handler(), lines: &lines{by: map[message]*line{}, root: log.Handler()}})
}

type handler struct {
	next  slog.Handler
	lines *lines
}

func (h *handler) Enabled(ctx context.Context, l slog.Level) bool { return h.next.Enabled(ctx, l) }

func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &handler{h.next.WithAttrs(attrs), h.lines}
}

func (h *handler) WithGroup(name string) slog.Handler {
	return &handler{h.next.WithGroup(name), h.lines}
}

func (h *handler) Handle(ctx context.Context, r slog.Record) error {
	var left int64
	if r.Level >= slog.LevelInfo {
		var ok bool
		if left, ok = h.lines.take(ctx, message{r.Level, r.Message}, r.Time); !ok {
			return nil
		}
	}
	out := slog.NewRecord(r.Time, r.Level, r.Message, r.PC)
	r.Attrs(func(a slog.Attr) bool {
		a.Value = short(a.Value)
		out.AddAttrs(a)
		return true
	})
	if client := httpx.Client(ctx); client.IsValid() {
		out.AddAttrs(slog.String("client", client.String()))
	}
	if left > 0 {
		out.AddAttrs(slog.Int64("not_written", left))
	}
	return h.next.Handle(ctx, out)
}

// short cuts a text that may be of any length, since it quotes a client or another server.
func short(v slog.Value) slog.Value {
	text := ""
	switch v = v.Resolve(); v.Kind() {
	case slog.KindString:
		text = v.String()
	case slog.KindAny:
		if err, ok := v.Any().(error); ok {
			text = err.Error()
		}
	}
	if len(text) <= maxText {
		return v
	}
	return slog.StringValue(strings.ToValidUTF8(text[:maxText], "") + "…")
}

// message is what makes two lines alike. The empty text stands for all beyond maxMessages.
type message struct {
	level slog.Level
	text  string
}

// line is what became of a message.
type line struct {
	next time.Time // when all lines written would have been at their pace
	left int64     // not written since the last that was
}

type lines struct {
	root slog.Handler

	mu    sync.Mutex
	by    map[message]*line
	swept time.Time
}

// take reports whether a line is written, and how many like it were not since the last one.
func (l *lines) take(ctx context.Context, m message, now time.Time) (left int64, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now.Sub(l.swept) >= sweepEvery || now.Before(l.swept) {
		l.sweep(ctx, now)
	}
	at := l.by[m]
	if at == nil {
		if len(l.by) >= maxMessages {
			m.text = ""
			at = l.by[m]
		}
		if at == nil {
			at = &line{}
			l.by[m] = at
		}
	}
	switch most := now.Add(burst * each); {
	case at.next.Before(now):
		at.next = now
	case at.next.After(most): // the clock was set back
		at.next = most
	}
	if at.next.Sub(now) > (burst-1)*each {
		at.left++
		return 0, false
	}
	at.next = at.next.Add(each)
	left, at.left = at.left, 0
	return left, true
}

// sweep writes what was left out of messages that come no more, and forgets those that are quiet.
func (l *lines) sweep(ctx context.Context, now time.Time) {
	l.swept = now
	for m, at := range l.by {
		if at.next.After(now) {
			continue
		}
		if at.left > 0 {
			r := slog.NewRecord(now, m.level, "lines like these were not written", 0)
			r.AddAttrs(slog.String("like", m.text), slog.Int64("not_written", at.left))
			_ = l.root.Handle(ctx, r)
		}
		delete(l.by, m)
	}
}
