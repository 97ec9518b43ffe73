package httpx_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/atcr-dev/atcr/internal/httpx"
)

// server answers /N with N bytes, and /stall/N with N bytes and nothing more. started is told of each that stalls.
func server(t *testing.T) (url string, started chan struct{}) {
	t.Helper()
	started = make(chan struct{}, 1000)
	done := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var n int
		stall, _ := fmt.Sscanf(r.URL.Path, "/stall/%d", &n)
		if stall == 0 {
			n, _ = strconv.Atoi(r.URL.Path[1:])
			w.Header().Set("Content-Length", strconv.Itoa(n))
		}
		_, _ = w.Write(bytes.Repeat([]byte("x"), n))
		if stall == 0 {
			return
		}
		w.(http.Flusher).Flush()
		started <- struct{}{}
		select {
		case <-done:
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(srv.Close)
	t.Cleanup(func() { close(done) })
	return srv.URL, started
}

func client(o httpx.AnswersOptions) (*httpx.Answers, *http.Client) {
	a := httpx.NewAnswers(o)
	return a, a.Client(httpx.NewClient(httpx.ClientOptions{Guard: httpx.Guard{Loopback: true}, MaxConnsPerHost: 1000}))
}

func get(ctx context.Context, c *http.Client, url string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	return c.Do(req)
}

func read(ctx context.Context, c *http.Client, url string, limit int64) ([]byte, error) {
	resp, err := get(ctx, c, url)
	if err != nil {
		return nil, err
	}
	return httpx.ReadLimited(resp, limit)
}

// Answers of every length are what was sent, in memory or by way of a file, and leave nothing taken and no file.
func TestAnswers(t *testing.T) {
	url, _ := server(t)
	dir := t.TempDir()
	for _, o := range []httpx.AnswersOptions{{Dir: dir}, {Dir: dir, Memory: 16 << 20}, {Dir: dir, Memory: 8 << 20, Files: 64 << 20}} {
		a, c := client(o)
		for _, n := range []int{0, 1, 4095, 4096, 4097, 64 << 10, 64<<10 + 1, 1 << 20, 1<<20 + 1, 2 << 20} {
			b, err := read(t.Context(), c, fmt.Sprint(url, "/", n), int64(n))
			if err != nil || len(b) != n || bytes.Count(b, []byte("x")) != n {
				t.Errorf("%+v: %d bytes of %d: %v", o, len(b), n, err)
			}
			if _, err := read(t.Context(), c, fmt.Sprint(url, "/", n+1), int64(n)); !errors.Is(err, httpx.ErrTooLarge) {
				t.Errorf("%d bytes, of at most %d: %v", n+1, n, err)
			}
		}
		if memory, files := a.Used(); memory != 0 || files != 0 {
			t.Errorf("%d and %d bytes are still taken", memory, files)
		}
		c.CloseIdleConnections()
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("files are left: %v, %v", left, err)
	}
}

// A long answer is read again and again from its file, and bytes of it may be had in memory.
func TestSpool(t *testing.T) {
	url, _ := server(t)
	a, c := client(httpx.AnswersOptions{Dir: t.TempDir()})
	defer c.CloseIdleConnections()
	resp, err := get(t.Context(), c, url+"/3000000")
	if err != nil {
		t.Fatal(err)
	}
	x, err := httpx.Spool(resp, 4<<20)
	if err != nil {
		t.Fatal(err)
	}
	if memory, files := a.Used(); memory != 0 || files != 3<<20 || x.Size() != 3_000_000 {
		t.Errorf("%d bytes in memory, %d in files", memory, files)
	}
	for range 2 {
		r, err := x.Reader()
		if err != nil {
			t.Fatal(err)
		}
		if n, err := io.Copy(io.Discard, r); n != 3_000_000 || err != nil {
			t.Errorf("%d, %v", n, err)
		}
	}
	if b, err := x.Bytes(); err != nil || len(b) != 3_000_000 {
		t.Errorf("%d, %v", len(b), err)
	}
	if memory, files := a.Used(); memory != 3_000_000 || files != 0 {
		t.Errorf("%d bytes in memory, %d in files", memory, files)
	}
	x.Close()
	x.Close()
	if memory, files := a.Used(); memory != 0 || files != 0 {
		t.Error("not given back")
	}
}

// Servers that stall after nearly a MiB take no more than the budget in memory, whoever waits for them, and others are read meanwhile.
func TestStalledAnswers(t *testing.T) {
	url, started := server(t)
	honest, _ := server(t)
	a, c := client(httpx.AnswersOptions{Dir: t.TempDir(), Window: time.Minute})
	defer c.CloseIdleConnections()
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	const many = 100
	ctx, leave := context.WithCancel(t.Context())
	ended := make(chan error, many)
	for i := range many {
		// Shares must not be what bounds them: each is for another owner, and has another address.
		go func() {
			_, err := read(httpx.WithShare(ctx, fmt.Sprint("owner", i)), c, fmt.Sprint(url, "/stall/", 1<<20-1024), 4<<20)
			ended <- err
		}()
	}
	for range many {
		<-started
	}
	memory, files := a.Used()
	runtime.GC()
	runtime.ReadMemStats(&after)
	if memory > 32<<20 || files == 0 {
		t.Errorf("%d MiB in memory, %d in files", memory>>20, files>>20)
	}
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 100<<20 {
		t.Errorf("the heap has grown by %d MiB", grown>>20)
	}
	for _, n := range []int{10, 5000, 3 << 20} {
		if b, err := read(t.Context(), c, fmt.Sprint(honest, "/", n), 4<<20); err != nil || len(b) != n {
			t.Errorf("an honest answer of %d bytes meanwhile: %d, %v", n, len(b), err)
		}
	}
	leave()
	for range many {
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("nobody waits: %v", err)
		}
	}
	if memory, files := a.Used(); memory != 0 || files != 0 {
		t.Errorf("%d and %d bytes are still taken", memory, files)
	}
}

// What comes too slowly is cut: from the first byte on, also when much came before, and when it is passed on.
func TestPace(t *testing.T) {
	url, _ := server(t)
	_, c := client(httpx.AnswersOptions{Window: 50 * time.Millisecond, Dir: t.TempDir()})
	defer c.CloseIdleConnections()
	for _, n := range []int{0, 1, 100_000, 3 << 20} {
		if _, err := read(t.Context(), c, fmt.Sprint(url, "/stall/", n), 4<<20); !errors.Is(err, httpx.ErrTooSlow) {
			t.Errorf("stalled after %d bytes: %v", n, err)
		}
	}
	trickle := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			_, _ = w.Write([]byte(" "))
			w.(http.Flusher).Flush()
			time.Sleep(time.Millisecond)
		}
	}))
	defer trickle.Close()
	if _, err := read(t.Context(), c, trickle.URL, 4<<20); !errors.Is(err, httpx.ErrTooSlow) {
		t.Errorf("a byte now and then: %v", err)
	}
	// Who passes bytes on slowly is not to blame on the server: only waiting for it counts.
	resp, err := get(t.Context(), c, url+"/1000000")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	time.Sleep(100 * time.Millisecond)
	if n, err := io.Copy(io.Discard, resp.Body); n != 1_000_000 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
}

// One owner, or client, takes a quarter of the files at most; who wants more waits, and others don't.
func TestAnswersShares(t *testing.T) {
	url, _ := server(t)
	a, c := client(httpx.AnswersOptions{Memory: 64 << 10, Files: 16 << 20, Wait: 20 * time.Millisecond, Dir: t.TempDir()})
	defer c.CloseIdleConnections()
	evil, leave := context.WithCancel(httpx.WithShare(t.Context(), "client 192.0.2.7"))
	defer leave()
	ended := make(chan error, 6)
	for i := range 6 { // each of another owner, and a MiB of files
		go func() {
			_, err := read(httpx.WithShare(evil, fmt.Sprint("owner", i)), c, url+"/stall/900000", 4<<20)
			ended <- err
		}()
	}
	for range 2 {
		if err := <-ended; !errors.Is(err, httpx.ErrNoPlace) {
			t.Errorf("beyond the share: %v", err)
		}
	}
	if _, files := a.Used(); files != 4<<20 {
		t.Errorf("%d bytes of files for one client", files)
	}
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(bytes.Repeat([]byte("x"), 3<<20))
	}))
	defer other.Close()
	resp, err := get(httpx.WithShare(t.Context(), "client 192.0.2.8"), c, other.URL)
	if err != nil {
		t.Fatal(err)
	}
	x, err := httpx.Spool(resp, 4<<20)
	if err != nil {
		t.Fatalf("another client, another server: %v", err)
	}
	x.Close()
}

// Work that others wait for is not the client's who asked first; and who has less time than Wait is told that there was no room, too.
func TestAnswersShared(t *testing.T) {
	url, _ := server(t)
	a, c := client(httpx.AnswersOptions{Memory: 64 << 10, Files: 4 << 20, Dir: t.TempDir()})
	defer c.CloseIdleConnections()
	var evil context.Context
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
	httpx.WithClient(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { evil = r.Context() }), httpx.VisitOptions{}).
		ServeHTTP(httptest.NewRecorder(), r)
	resp, err := get(evil, c, url+"/900000")
	if err != nil {
		t.Fatal(err)
	}
	x, err := httpx.Spool(resp, 4<<20) // all of the client's share, and of the server's
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	if _, files := a.Used(); files != 1<<20 {
		t.Fatalf("%d bytes of files", files)
	}
	other, _ := server(t)
	spool := func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		resp, err := get(ctx, c, other+"/900000")
		if err != nil {
			return err
		}
		x, err := httpx.Spool(resp, 4<<20)
		if err == nil {
			x.Close()
		}
		return err
	}
	if err := spool(evil); !errors.Is(err, httpx.ErrNoPlace) {
		t.Errorf("its own: %v", err)
	}
	if err := spool(httpx.Shared(evil)); err != nil {
		t.Errorf("shared: %v", err)
	}
}

// Long answers are worked on by turns: one of an owner at a time, two in all.
func TestTurn(t *testing.T) {
	url, _ := server(t)
	_, c := client(httpx.AnswersOptions{Dir: t.TempDir()})
	defer c.CloseIdleConnections()
	spool := func(owner string, n int) *httpx.Answer {
		resp, err := get(httpx.WithShare(t.Context(), owner), c, fmt.Sprint(url, "/", n))
		if err != nil {
			t.Fatal(err)
		}
		x, err := httpx.Spool(resp, 4<<20)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(x.Close)
		return x
	}
	turn := func(x *httpx.Answer, wait time.Duration) (func(), error) {
		ctx, cancel := context.WithTimeout(t.Context(), wait)
		defer cancel()
		return x.Turn(ctx, false)
	}
	first, err := turn(spool("a", 1<<20), time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := turn(spool("a", 1<<20), 10*time.Millisecond); !errors.Is(err, httpx.ErrNoPlace) {
		t.Errorf("the same owner's second: %v", err)
	}
	second, err := turn(spool("b", 1<<20), time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	defer second()
	if _, err := turn(spool("c", 1<<20), 10*time.Millisecond); !errors.Is(err, httpx.ErrNoPlace) {
		t.Errorf("a third: %v", err)
	}
	if release, err := turn(spool("a", 1000), 10*time.Millisecond); err != nil {
		t.Errorf("a short one: %v", err)
	} else {
		release()
	}
	first()
	third, err := turn(spool("c", 1<<20), time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	third()
}

// The head of a body may be looked at, the whole is read after it; a head that does not come is an error in time, and the rest of a body
// that does not end is not waited for.
func TestPeek(t *testing.T) {
	url, _ := server(t)
	_, c := client(httpx.AnswersOptions{Window: 50 * time.Millisecond})
	defer c.CloseIdleConnections()
	for _, n := range []int{0, 10, 100_000} {
		resp, err := get(t.Context(), c, fmt.Sprint(url, "/", n))
		if err != nil {
			t.Fatal(err)
		}
		head, err := httpx.Peek(resp, 1000)
		if err != nil || len(head) != min(n, 1000) {
			t.Errorf("%d bytes, %v", len(head), err)
		}
		if b, err := httpx.ReadLimited(resp, int64(n)); err != nil || len(b) != n {
			t.Errorf("%d bytes of %d, %v", len(b), n, err)
		}
	}
	resp, err := get(t.Context(), c, url+"/stall/10")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := httpx.Peek(resp, 1000); !errors.Is(err, httpx.ErrTooSlow) {
		t.Error(err)
	}
	if resp, err = get(t.Context(), c, url+"/stall/10"); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if httpx.Drain(resp); time.Since(began) > 20*time.Second {
		t.Errorf("drained for %s", time.Since(began))
	}
}

// Cut-off answers are errors, without a budget, too.
func TestCutAnswers(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		_, _ = w.Write([]byte("x"))
	}))
	defer srv.Close()
	_, within := client(httpx.AnswersOptions{})
	for _, c := range []*http.Client{within, srv.Client()} {
		if b, err := read(t.Context(), c, srv.URL, 1000); err == nil {
			t.Errorf("%q is believed to be whole", b)
		}
		c.CloseIdleConnections()
	}
}
