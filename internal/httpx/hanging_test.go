package httpx

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// stopped is a server that can be stopped and let go on, and a client that is as patient as a test.
type stopped struct {
	*httptest.Server
	hang   atomic.Bool
	asked  atomic.Int64
	client *http.Client
	gate   *hanging
}

func newStopped(t *testing.T) *stopped {
	t.Helper()
	s := &stopped{}
	done := make(chan struct{})
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.asked.Add(1)
		if s.hang.Load() && r.URL.Path != "/lively" {
			select {
			case <-done:
			case <-r.Context().Done():
			}
		}
	}))
	t.Cleanup(s.Close)
	t.Cleanup(func() { close(done) })
	s.gate = newHanging(http.DefaultTransport)
	s.gate.after, s.gate.pause, s.gate.try = 50*time.Millisecond, time.Hour, time.Hour
	s.client = &http.Client{Transport: s.gate}
	return s
}

func (s *stopped) get(t *testing.T, path string, within time.Duration) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	return s.ask(ctx, t, path)
}

func (s *stopped) ask(ctx context.Context, t *testing.T, path string) error {
	t.Helper()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.URL+path, strings.NewReader("body"))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := s.client.Do(r)
	if err == nil {
		Drain(resp)
	}
	return err
}

// begin runs ask beside the test, and returns once that has reached the server.
func (s *stopped) begin(t *testing.T, ask func() error) (done chan error) {
	t.Helper()
	before := s.asked.Load()
	done = make(chan error, 1)
	go func() { done <- ask() }()
	for s.asked.Load() == before {
		select {
		case err := <-done:
			t.Fatalf("it ended without asking the server: %v", err)
		case <-time.After(time.Millisecond):
		}
	}
	return done
}

// due lets the next try be made.
func (s *stopped) due() {
	s.gate.mu.Lock()
	defer s.gate.mu.Unlock()
	for _, h := range s.gate.hosts {
		h.next = time.Time{}
	}
}

func TestHangingServer(t *testing.T) {
	t.Parallel()
	s := newStopped(t)
	if err := s.get(t, "/", time.Minute); err != nil {
		t.Fatal(err)
	}
	s.hang.Store(true)
	if err := s.get(t, "/", 200*time.Millisecond); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("the first to wait: %v", err)
	}
	asked := s.asked.Load()
	for range 10 {
		if err := s.get(t, "/", time.Minute); !errors.Is(err, ErrHanging) || !strings.Contains(err.Error(), s.URL) {
			t.Fatalf("the others: %v", err)
		}
	}
	if n := s.asked.Load(); n != asked {
		t.Errorf("the server was asked %d times more", n-asked)
	}
	// One tries it, and nobody beside.
	s.due()
	tried := s.begin(t, func() error { return s.get(t, "/", 300*time.Millisecond) })
	if err := s.get(t, "/", time.Minute); !errors.Is(err, ErrHanging) {
		t.Errorf("beside the one that tries: %v", err)
	}
	if err := <-tried; !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the one that tries: %v", err)
	}
	if err := s.get(t, "/", time.Minute); !errors.Is(err, ErrHanging) {
		t.Errorf("after a try in vain: %v", err)
	}
	// The first response ends it.
	s.hang.Store(false)
	s.due()
	for range 3 {
		if err := s.get(t, "/", time.Minute); err != nil {
			t.Errorf("it answers again: %v", err)
		}
	}
	if n := len(s.gate.hosts); n != 0 {
		t.Errorf("%d servers are remembered", n)
	}
}

// A server that answers others is slow with one thing only, and who gives up soon says nothing of it.
func TestHangingIsNotSlow(t *testing.T) {
	t.Parallel()
	s := newStopped(t)
	s.hang.Store(true)
	done := make(chan error)
	go func() { done <- s.get(t, "/", 300*time.Millisecond) }()
	for s.asked.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	if err := s.get(t, "/lively", time.Minute); err != nil {
		t.Fatal(err)
	}
	if err := <-done; !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	s.gate.after = time.Hour
	if err := s.get(t, "/", 20*time.Millisecond); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	if err := s.get(t, "/lively", time.Minute); err != nil {
		t.Errorf("after those: %v", err)
	}
}

// One that refuses connections costs no time, so that it is asked by all.
func TestHangingThenRefusing(t *testing.T) {
	t.Parallel()
	s := newStopped(t)
	s.hang.Store(true)
	_ = s.get(t, "/", 200*time.Millisecond)
	s.due()
	s.CloseClientConnections()
	s.Listener.Close()
	for range 3 {
		if err := s.get(t, "/", time.Minute); err == nil || errors.Is(err, ErrHanging) {
			t.Errorf("of a server that is gone: %v", err)
		}
	}
}

// Whoever hangs up has not waited until a time was over, however long they did, and whatever says that they have gone: a client could make
// a slow server a hanging one for all.
func TestHangingIsNotLeaving(t *testing.T) {
	t.Parallel()
	gone := errors.New("the client has gone")
	for name, begin := range map[string]func(context.Context) (context.Context, func()){
		"cancelled": func(ctx context.Context) (context.Context, func()) { return context.WithCancel(ctx) },
		"cancelled, of a deadline": func(ctx context.Context) (context.Context, func()) {
			ctx, leave := context.WithCancel(ctx)
			ctx, cancel := context.WithTimeout(ctx, time.Hour)
			return ctx, func() { leave(); cancel() }
		},
		"cancelled with a cause": func(ctx context.Context) (context.Context, func()) {
			ctx, leave := context.WithCancelCause(ctx)
			return ctx, func() { leave(gone) }
		},
		"cancelled as by a timeout": func(ctx context.Context) (context.Context, func()) {
			ctx, leave := context.WithCancelCause(ctx)
			return ctx, func() { leave(context.DeadlineExceeded) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStopped(t)
			s.hang.Store(true)
			s.client.Timeout = time.Hour
			ctx, leave := begin(t.Context())
			defer leave()
			done := s.begin(t, func() error { return s.ask(ctx, t, "/") })
			time.Sleep(2 * s.gate.after) // a wait is what is looked at
			leave()
			if err := <-done; err == nil {
				t.Fatal("a server that hangs has answered")
			}
			s.hang.Store(false)
			if err := s.get(t, "/", time.Minute); err != nil {
				t.Errorf("another, of a server that is well: %v", err)
			}
		})
	}
}

// Who tries a server that hangs and hangs up leaves it as it was, and the next may try at once.
func TestHangingIsTriedByTheNext(t *testing.T) {
	t.Parallel()
	s := newStopped(t)
	s.hang.Store(true)
	_ = s.get(t, "/", 200*time.Millisecond)
	s.due()
	for range 3 {
		ctx, leave := context.WithCancel(t.Context())
		done := s.begin(t, func() error { return s.ask(ctx, t, "/") })
		if err := s.get(t, "/", time.Minute); !errors.Is(err, ErrHanging) {
			t.Errorf("beside the one that tries: %v", err)
		}
		time.Sleep(2 * s.gate.after)
		leave()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
	}
}

// Times of the client and of the transport are our own: they count as those of a context do.
func TestHangingByOtherTimes(t *testing.T) {
	t.Parallel()
	for name, limit := range map[string]func(*stopped){
		"the client's": func(s *stopped) { s.client.Timeout = 200 * time.Millisecond },
		"the transport's": func(s *stopped) {
			tr := http.DefaultTransport.(*http.Transport).Clone()
			tr.ResponseHeaderTimeout = 200 * time.Millisecond
			t.Cleanup(tr.CloseIdleConnections)
			s.gate.RoundTripper = tr
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStopped(t)
			s.hang.Store(true)
			limit(s)
			if err := s.ask(t.Context(), t, "/"); err == nil || errors.Is(err, ErrHanging) {
				t.Fatalf("the first: %v", err)
			}
			if err := s.ask(t.Context(), t, "/"); !errors.Is(err, ErrHanging) {
				t.Errorf("the second: %v", err)
			}
		})
	}
}
