package httpx

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// start runs Serve and returns its address, a stop function, and Serve's result.
func start(t *testing.T, h http.Handler, opts ServerOptions) (addr string, stop func(), done <-chan error) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	res := make(chan error, 1)
	finished := make(chan struct{})
	go func() { defer close(finished); res <- Serve(ctx, ln, h, opts) }()
	t.Cleanup(func() { cancel(); <-finished })
	return ln.Addr().String(), cancel, res
}

func TestServeDrains(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	addr, stop, done := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(entered)
		<-leave
		if r.Context().Err() != nil {
			t.Error("the request's context ended while draining")
		}
		_, _ = io.WriteString(w, "finished")
	}), ServerOptions{})
	answer := make(chan string, 1)
	go func() {
		resp, err := http.Get("http://" + addr)
		if err != nil {
			answer <- err.Error()
			return
		}
		b, _ := ReadLimited(resp, 100)
		answer <- string(b)
	}()
	<-entered
	stop()
	for refused := false; !refused; { // the listener closes first
		c, err := net.Dial("tcp", addr)
		if refused = err != nil; !refused {
			c.Close()
		}
	}
	select {
	case err := <-done:
		t.Fatalf("Serve returned %v with a request running", err)
	default:
	}
	close(leave)
	if got := <-answer; got != "finished" {
		t.Errorf("the running request got %q", got)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestServeCutsAfterDrain(t *testing.T) {
	entered := make(chan struct{})
	addr, stop, done := start(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(entered)
		<-r.Context().Done()
	}), ServerOptions{Drain: 20 * time.Millisecond})
	go func() {
		if resp, err := http.Get("http://" + addr); err == nil {
			Drain(resp)
		}
	}()
	<-entered
	stop()
	if err := <-done; err == nil {
		t.Error("a request was cut without an error")
	}
}

func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	return c
}

func TestServeSlowHeaders(t *testing.T) {
	addr, _, _ := start(t, http.NotFoundHandler(), ServerOptions{ReadHeaderTimeout: 50 * time.Millisecond})
	c := dial(t, addr)
	_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\nX-")
	if b, err := io.ReadAll(c); err != nil || strings.Contains(string(b), "200") {
		t.Fatalf("%q %v: the connection was not closed", b, err)
	}
}

func TestServeIdle(t *testing.T) {
	addr, _, _ := start(t, http.NotFoundHandler(), ServerOptions{IdleTimeout: 50 * time.Millisecond})
	c := dial(t, addr)
	_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	if b, err := io.ReadAll(c); err != nil || !strings.Contains(string(b), "404") {
		t.Fatalf("%q %v", b, err)
	}
}

// A body that trickles is cut; one that comes at its rate lives longer than the grace; the context of a request whose body
// has ended does not end with a left-over deadline.
func TestServeBodyPace(t *testing.T) {
	got := make(chan string, 3)
	addr, _, _ := start(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		if r.URL.Path == "/wait" {
			select {
			case <-r.Context().Done():
				err = r.Context().Err()
			case <-time.After(200 * time.Millisecond):
			}
		}
		got <- fmt.Sprint(n, err == nil)
	}), ServerOptions{BodyGrace: 100 * time.Millisecond, BodyRate: 100})
	c := dial(t, addr)
	_, _ = io.WriteString(c, "PUT /stall HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nx")
	if s := <-got; s != "1 false" {
		t.Errorf("stalled body: %s", s)
	}
	c = dial(t, addr)
	_, _ = io.WriteString(c, "PUT /steady HTTP/1.1\r\nHost: x\r\nContent-Length: 120\r\n\r\n")
	for range 6 { // 20 bytes are worth 200 ms, and take 50
		_, _ = io.WriteString(c, strings.Repeat("x", 20))
		time.Sleep(50 * time.Millisecond)
	}
	if s := <-got; s != "120 true" {
		t.Errorf("steady body: %s", s)
	}
	c = dial(t, addr)
	_, _ = io.WriteString(c, "PUT /wait HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx")
	if s := <-got; s != "1 true" {
		t.Errorf("after the body: %s", s)
	}
}

// A full server in which every connection is at work closes the next one.
func TestServeMaxConns(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	addr, _, _ := start(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		entered <- struct{}{}
		<-leave
	}), ServerOptions{MaxConns: 2, Log: quiet()})
	defer close(leave)
	for range 2 {
		_, _ = io.WriteString(dial(t, addr), "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		<-entered
	}
	c := dial(t, addr)
	_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	if b, _ := io.ReadAll(c); len(b) != 0 {
		t.Fatalf("the third connection was answered: %q", b)
	}
}

// net/http's own lines are what clients do, and written at debug level; a panic is a fault of ours.
func TestServeLogsPanics(t *testing.T) {
	var mu sync.Mutex
	var out strings.Builder
	log := slog.New(slog.NewTextHandler(writerFunc(func(p []byte) (int, error) {
		mu.Lock()
		defer mu.Unlock()
		return out.Write(p)
	}), nil))
	addr, stop, done := start(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("of a test") }), ServerOptions{Log: log})
	c := dial(t, addr)
	_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	_, _ = io.ReadAll(c)
	c = dial(t, addr)
	_, _ = io.WriteString(c, "no HTTP\r\n\r\n")
	_, _ = io.ReadAll(c)
	stop()
	<-done
	mu.Lock()
	defer mu.Unlock()
	if got := out.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "level=ERROR") || !strings.Contains(got, "of a test") {
		t.Errorf("the log says %q", got)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func TestLimitBody(t *testing.T) {
	addr, _, _ := start(t, LimitBody(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.ReadAll(r.Body); err != nil {
			w.WriteHeader(http.StatusRequestEntityTooLarge)
		}
	}), 10), ServerOptions{})
	for n, want := range map[int]int{10: 200, 11: 413} {
		resp, err := http.Post("http://"+addr, "text/plain", strings.NewReader(strings.Repeat("x", n)))
		if err != nil {
			t.Fatal(err)
		}
		Drain(resp)
		if resp.StatusCode != want {
			t.Errorf("%d bytes: %d, want %d", n, resp.StatusCode, want)
		}
	}
}
