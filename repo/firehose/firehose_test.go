package firehose_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/atcr-dev/atcr/repo"
	"github.com/atcr-dev/atcr/repo/firehose"
	"github.com/atcr-dev/atcr/repo/memstore"
	"github.com/atcr-dev/atcr/repo/repotest"
)

type fixture struct {
	*repo.Repo
	t   *testing.T
	fh  *firehose.Server
	url string
	n   int // puts so far: each has another value
}

func newFixture(t *testing.T, ro repo.Options, o firehose.Options) *fixture {
	t.Helper()
	return newFixtureOn(t, memstore.New(), ro, o)
}

func newFixtureOn(t *testing.T, s repo.Store, ro repo.Options, o firehose.Options) *fixture {
	t.Helper()
	r := repotest.Open(t, s, ro)
	fh := firehose.New(r, &o)
	srv := httptest.NewServer(fh)
	t.Cleanup(func() {
		if err := fh.Close(); err != nil {
			t.Error(err)
		}
		srv.Close()
		if n := fh.Consumers(); n != 0 {
			t.Errorf("%d consumers left", n)
		}
	})
	return &fixture{Repo: r, t: t, fh: fh, url: "ws" + strings.TrimPrefix(srv.URL, "http")}
}

func (f *fixture) put(n, size int) []repo.Event {
	f.t.Helper()
	before, err := f.Seq(f.t.Context())
	if err != nil {
		f.t.Fatal(err)
	}
	for range n {
		f.n++
		v, err := repo.RecordFrom(map[string]string{"v": fmt.Sprint(f.n, strings.Repeat("x", size))})
		if err != nil {
			f.t.Fatal(err)
		}
		if _, err := f.Apply(f.t.Context(), []repo.Write{{Action: repo.Put, Collection: "io.atcr.tag", RKey: "k", Record: v}}); err != nil {
			f.t.Fatal(err)
		}
	}
	return f.events(before)
}

func (f *fixture) events(after int64) (out []repo.Event) {
	f.t.Helper()
	for e, err := range f.Events(f.t.Context(), after) {
		if err != nil {
			f.t.Fatal(err)
		}
		out = append(out, e)
	}
	return out
}

func (f *fixture) dial(query string) *websocket.Conn {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), time.Minute)
	defer cancel()
	c, _, err := websocket.Dial(ctx, f.url+query, nil)
	if err != nil {
		f.t.Fatal(err)
	}
	c.SetReadLimit(8 << 20)
	f.t.Cleanup(func() { c.CloseNow() })
	return c
}

func read(t testing.TB, c *websocket.Conn) []byte {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	kind, msg, err := c.Read(ctx)
	if err != nil || kind != websocket.MessageBinary {
		t.Fatalf("%v %v", kind, err)
	}
	return msg
}

func expect(t testing.TB, c *websocket.Conn, want []repo.Event) {
	t.Helper()
	for i, e := range want {
		if got := read(t, c); !bytes.Equal(got, e.Body) {
			t.Fatalf("message %d of %d is another: %q", i, len(want), got[:min(80, len(got))])
		}
	}
}

// closed reads an error message and then the close.
func closed(t testing.TB, c *websocket.Conn, name string) {
	t.Helper()
	want := append([]byte("\xa1\x62op\x20\xa2\x65error"), byte(0x60|len(name)))
	if got := read(t, c); !bytes.HasPrefix(got, append(want, name...)) {
		t.Fatalf("message %q, want %s", got, name)
	}
	if _, _, err := c.Read(t.Context()); websocket.CloseStatus(err) != websocket.StatusPolicyViolation {
		t.Fatalf("closed with %v", err)
	}
}

func TestCursors(t *testing.T) {
	f := newFixture(t, repo.Options{}, firehose.Options{})
	f.put(10, 10)
	all := f.events(0)
	for name, c := range map[string]struct {
		cursor int64
		want   []repo.Event
	}{
		"from the start":    {0, all},
		"from the middle":   {all[4].Seq, all[5:]},
		"between two":       {all[4].Seq - 1, all[4:]},
		"from the last one": {all[10].Seq, nil},
	} {
		t.Run(name, func(t *testing.T) { expect(t, f.dial(fmt.Sprintf("?cursor=%d", c.cursor)), c.want) })
	}
	next := f.dial(fmt.Sprintf("?cursor=%d", all[10].Seq))
	more := f.put(3, 10)
	expect(t, next, more)
	closed(t, f.dial(fmt.Sprintf("?cursor=%d", more[2].Seq+1)), "FutureCursor")
	for _, bad := range []string{"?cursor=x", "?cursor=-1", "?cursor=", "?cursor=1&cursor=2", "?cursor=99999999999999999999"} {
		_, resp, err := websocket.Dial(t.Context(), f.url+bad, nil)
		if err == nil || resp.StatusCode != http.StatusBadRequest {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

func TestLive(t *testing.T) {
	f := newFixture(t, repo.Options{}, firehose.Options{})
	c := f.dial("")
	first := f.put(1, 1)
	// The subscription begins somewhere around the first event: all after the first one seen must come.
	for {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		_, msg, err := c.Read(ctx)
		cancel()
		if err == nil {
			if !bytes.Equal(msg, first[len(first)-1].Body) {
				t.Fatal("another message")
			}
			break
		}
		c = f.dial("")
		first = f.put(1, 1)
	}
	expect(t, c, f.put(20, 100))
}

func TestOutdated(t *testing.T) {
	f := newFixture(t, repo.Options{KeepEvents: 300}, firehose.Options{})
	old := f.events(0)
	f.put(600, 1)
	kept := f.events(0)
	if kept[0].Seq <= old[0].Seq {
		t.Fatal("nothing was pruned")
	}
	c := f.dial(fmt.Sprintf("?cursor=%d", old[0].Seq))
	if msg := read(t, c); !bytes.Contains(msg, []byte("#info")) || !bytes.Contains(msg, []byte("OutdatedCursor")) {
		t.Fatalf("%q", msg)
	}
	expect(t, c, kept)
	expect(t, c, f.put(2, 1))
}

func TestSeqJump(t *testing.T) {
	f := newFixture(t, repo.Options{}, firehose.Options{})
	first := f.put(1, 1)
	c := f.dial(fmt.Sprintf("?cursor=%d", first[0].Seq))
	far := first[0].Seq * 2
	if err := f.JumpSeq(t.Context(), far); err != nil {
		t.Fatal(err)
	}
	if err := f.JumpSeq(t.Context(), 5); err != nil {
		t.Fatal(err)
	}
	for _, over := range []int64{repo.MaxSeq + 1, 1 << 53, 1<<63 - 1} {
		if err := f.JumpSeq(t.Context(), over); !errors.Is(err, repo.ErrSeq) {
			t.Errorf("a jump to %d: %v", over, err)
		}
		if _, err := f.Resync(t.Context(), over); !errors.Is(err, repo.ErrSeq) {
			t.Errorf("a restore to %d: %v", over, err)
		}
	}
	next := f.put(1, 1)
	if next[0].Seq != far+1 {
		t.Fatalf("next is %d after a jump to %d", next[0].Seq, far)
	}
	expect(t, c, next)
}

// TestTooSlow: a consumer that does not read is closed, with the error if it reads on in time; others get everything.
func TestTooSlow(t *testing.T) {
	f := newFixture(t, repo.Options{}, firehose.Options{MaxLag: 1 << 20})
	head, err := f.Seq(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	q := fmt.Sprintf("?cursor=%d", head)
	slow, good := f.dial(q), f.dial(q)
	one := f.put(1, 1)
	expect(t, slow, one)
	expect(t, good, one)
	for range 100 {
		expect(t, good, f.put(1, 400_000))
		if f.fh.Consumers() == 1 {
			break
		}
	}
	for n := 0; ; n++ {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		_, msg, err := slow.Read(ctx)
		cancel()
		if err != nil {
			if errors.Is(err, context.DeadlineExceeded) {
				t.Fatal("the slow one was not closed")
			}
			t.Logf("cut after %d events: %v", n, err)
			break
		}
		if bytes.Contains(msg[:min(60, len(msg))], []byte("ConsumerTooSlow")) {
			break
		}
		if n > 200 {
			t.Fatal("the slow one got everything")
		}
	}
	expect(t, good, f.put(3, 1))
}

// TestManyConsumers: all get the same, some by replay; one that never reads disturbs nobody.
func TestManyConsumers(t *testing.T) {
	f := newFixture(t, repo.Options{}, firehose.Options{MaxLag: 8 << 20, MaxPerClient: -1})
	f.put(200, 2000)
	start := f.events(0)
	deafConn(t, f.url, 0)
	var wg sync.WaitGroup
	conns := make([]*websocket.Conn, 50)
	for i := range conns {
		conns[i] = f.dial(fmt.Sprintf("?cursor=%d", start[i].Seq))
	}
	more := f.put(100, 2000)
	for i, c := range conns {
		wg.Go(func() {
			for _, want := range [][]repo.Event{start[i+1:], more} {
				for _, e := range want {
					_, msg, err := c.Read(t.Context())
					if err != nil || !bytes.Equal(msg, e.Body) {
						t.Errorf("consumer %d: %v", i, err)
						return
					}
				}
			}
		})
	}
	wg.Wait()
}

func TestLimitAndClose(t *testing.T) {
	f := newFixture(t, repo.Options{}, firehose.Options{MaxConsumers: 1})
	c := f.dial("?cursor=0")
	expect(t, c, f.events(0))
	_, resp, err := websocket.Dial(t.Context(), f.url, nil)
	if err == nil || resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("over the limit: %v", err)
	}
	done := make(chan error)
	go func() { done <- f.fh.Close() }()
	if _, _, err := c.Read(t.Context()); websocket.CloseStatus(err) != websocket.StatusGoingAway {
		t.Errorf("closed with %v", err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if resp, err := http.Get("http" + strings.TrimPrefix(f.url, "ws")); err != nil || resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("after Close: %v", err)
	}
}

// One client has so many subscriptions and takes nobody else's places (A9); one that ends makes room.
func TestLimitOfClient(t *testing.T) {
	f := newFixture(t, repo.Options{}, firehose.Options{MaxPerClient: 2, Client: func(r *http.Request) string { return r.Header.Get("X-Test") }})
	dial := func(client string) (*websocket.Conn, int) {
		t.Helper()
		c, resp, err := websocket.Dial(t.Context(), f.url+"?cursor=0", &websocket.DialOptions{HTTPHeader: http.Header{"X-Test": {client}}})
		if err != nil {
			return nil, resp.StatusCode
		}
		t.Cleanup(func() { c.CloseNow() })
		return c, http.StatusSwitchingProtocols
	}
	var first *websocket.Conn
	for range 2 {
		c, status := dial("a")
		if c == nil {
			t.Fatal(status)
		}
		first = c
	}
	for range 20 {
		if _, status := dial("a"); status != http.StatusTooManyRequests {
			t.Fatalf("a third subscription: %d", status)
		}
	}
	if c, status := dial("b"); c == nil {
		t.Errorf("another client: %d", status)
	}
	first.CloseNow()
	for deadline := time.Now().Add(time.Minute); ; {
		c, status := dial("a")
		if c != nil {
			break
		}
		if status != http.StatusTooManyRequests || time.Now().After(deadline) {
			t.Fatalf("after one has ended: %d", status)
		}
	}
	// By default it is the address that counts, 16 for each.
	f = newFixture(t, repo.Options{}, firehose.Options{})
	for range 16 {
		f.dial("?cursor=0")
	}
	if _, resp, err := websocket.Dial(t.Context(), f.url, nil); err == nil || resp.StatusCode != http.StatusTooManyRequests {
		t.Errorf("the 17th: %v", err)
	}
}
