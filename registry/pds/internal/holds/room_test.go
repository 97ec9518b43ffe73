package holds

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/identity"

	"github.com/atcr-dev/atcr/internal/httpx"
	"github.com/atcr-dev/atcr/internal/realtest"
	"github.com/atcr-dev/atcr/registry"
)

func as(ctx context.Context, addr string) (out context.Context) {
	r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/", nil)
	r.RemoteAddr = addr + ":1"
	httpx.WithClient(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { out = r.Context() }), httpx.VisitOptions{}).
		ServeHTTP(httptest.NewRecorder(), r)
	return out
}

// TestNoRoomIsNoSilence: a question is not charged to the address of who asks first, whose share may be full; and one for whose answer
// there was no room here does not make the hold a silent one.
func TestNoRoomIsNoSilence(t *testing.T) {
	t.Parallel()
	const did = "did:web:hold.example.com"
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var n int
		if k, _ := fmt.Sscanf(r.URL.Path, "/stall/%d", &n); k == 1 {
			_, _ = w.Write(make([]byte, n))
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
			return
		}
		_, _ = io.WriteString(w, `{"uri":"at://`+did+`/io.atcr.hold.captain/self","cid":"x","value":{"$type":"io.atcr.hold.captain",`+
			`"owner":"did:plc:`+strings.Repeat("o", 24)+`","public":true,"deployedAt":"2026-01-01T00:00:00Z"}}`)
	})
	hold, other := httptest.NewServer(handler), httptest.NewServer(handler)
	defer hold.Close()
	defer other.Close()
	answers := httpx.NewAnswers(httpx.AnswersOptions{
		Memory: 64 << 10, Files: 4 << 20, Dir: t.TempDir(), Wait: 1200 * time.Millisecond, Window: time.Minute,
	})
	client := answers.Client(&http.Client{Transport: &http.Transport{}})
	defer client.CloseIdleConnections()
	now := time.Now()
	h := New(Options{
		Directory: directory{ident: &identity.Identity{DID: did, Services: map[string]identity.ServiceEndpoint{"atcr_hold": {URL: hold.URL}}}},
		HTTP:      client, Clock: func() time.Time { return now }, Log: slog.New(slog.DiscardHandler),
	})
	used := func(memory, files int64) {
		t.Helper()
		err := realtest.WaitFor(time.Minute, func() error {
			if m, f := answers.Used(); m != memory || f != files {
				return fmt.Errorf("%d bytes of memory and %d of files are taken", m, f)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	fill := func(ctx context.Context, url string) (free func()) {
		ctx, free = context.WithCancel(ctx)
		for i := range 5 {
			size := 3000 // in memory
			if i == 0 {
				size = 100_000 // in a file
			}
			go func() {
				req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprint(url, "/stall/", size), nil)
				if err != nil {
					return
				}
				if resp, err := client.Do(req); err == nil {
					_, _ = httpx.ReadLimited(resp, 4<<20)
				}
			}()
			if i == 0 {
				used(0, 1<<20)
			}
		}
		used(16<<10, 1<<20)
		return free
	}
	evil := as(t.Context(), "192.0.2.7")
	free := fill(evil, other.URL)
	if r, err := h.Rights(evil, did, ""); err != nil || !r.Public {
		t.Errorf("asked first by who has no room: %+v, %v", r, err)
	}
	free()
	used(0, 0)

	now = now.Add(2 * RightsFor)
	free = fill(t.Context(), hold.URL)
	if _, err := h.Rights(t.Context(), did, ""); !errors.Is(err, registry.ErrUnavailable) || !errors.Is(err, httpx.ErrNoPlace) {
		t.Errorf("without room: %v", err)
	}
	free()
	used(0, 0)
	if r, err := h.Rights(t.Context(), did, ""); err != nil || !r.Public {
		t.Errorf("with room again: %+v, %v", r, err)
	}
}

// TestQuestionsOfOneClient: who has begun many questions that are not over begins no more; others do.
func TestQuestionsOfOneClient(t *testing.T) {
	t.Parallel()
	begun, release := make(chan struct{}, perClient), make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		begun <- struct{}{}
		select {
		case <-release:
		case <-r.Context().Done():
		}
	}))
	defer srv.Close()
	defer close(release)
	h := New(Options{
		Directory: directory{ident: &identity.Identity{Services: map[string]identity.ServiceEndpoint{"atcr_hold": {URL: srv.URL}}}},
		HTTP:      srv.Client(), Clock: time.Now, Log: slog.New(slog.DiscardHandler),
	})
	ctx, leave := context.WithCancel(as(t.Context(), "192.0.2.7"))
	defer leave()
	for i := range perClient {
		go func() { _, _ = h.Rights(ctx, fmt.Sprint("did:plc:", i), "") }()
	}
	for range perClient {
		<-begun
	}
	if _, err := h.Rights(ctx, "did:plc:more", ""); !errors.Is(err, registry.ErrTooManyRequests) {
		t.Errorf("one more: %v", err)
	}
	short, cancel := context.WithTimeout(as(t.Context(), "192.0.2.8"), 100*time.Millisecond)
	defer cancel()
	if _, err := h.Rights(short, "did:plc:more", ""); errors.Is(err, registry.ErrTooManyRequests) {
		t.Errorf("another client: %v", err)
	}
}
