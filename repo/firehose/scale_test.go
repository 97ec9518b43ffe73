package firehose_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"iter"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/atcr-dev/atcr/repo"
	"github.com/atcr-dev/atcr/repo/firehose"
	"github.com/atcr-dev/atcr/repo/memstore"
)

// countingStore counts what is read of the event log.
type countingStore struct {
	repo.Store
	queries, events atomic.Int64
}

func (s *countingStore) Read(ctx context.Context) repo.Reader {
	return countingReader{s.Store.Read(ctx), s}
}

type countingReader struct {
	repo.Reader
	s *countingStore
}

func (r countingReader) Events(after int64, limit int) iter.Seq2[repo.Event, error] {
	return func(yield func(repo.Event, error) bool) {
		r.s.queries.Add(1)
		for e, err := range r.Reader.Events(after, limit) {
			r.s.events.Add(1)
			if !yield(e, err) {
				return
			}
		}
	}
}

// TestOneEncoder: however many consumers there are, each event is read from the log and framed once.
func TestOneEncoder(t *testing.T) {
	consumers, commits := 100, 200
	if os.Getenv("ATCR_LONG") != "" {
		consumers = 1000
	}
	s := &countingStore{Store: memstore.New()}
	f := newFixtureOn(t, s, repo.Options{}, firehose.Options{MaxPerClient: -1})
	head, err := f.Seq(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	conns := make([]*websocket.Conn, consumers)
	for i := range conns {
		conns[i] = f.dial(fmt.Sprintf("?cursor=%d", head))
	}
	first := f.put(1, 10)
	for _, c := range conns { // all are live now
		expect(t, c, first)
	}
	if n := f.fh.Consumers(); n != consumers {
		t.Fatalf("%d consumers, want %d", n, consumers)
	}
	s.queries.Store(0)
	s.events.Store(0)
	want := f.put(commits, 1000)
	mine := s.events.Load() // of put itself, and what the firehose has read meanwhile
	var wg sync.WaitGroup
	for i, c := range conns {
		wg.Go(func() {
			for k, e := range want {
				_, msg, err := c.Read(t.Context())
				if err != nil || !bytes.Equal(msg, e.Body) {
					t.Errorf("consumer %d, event %d: %v", i, k, err)
					return
				}
			}
		})
	}
	wg.Wait()
	// Once for the test and once for all consumers.
	if got := s.events.Load(); got != int64(2*commits) || mine < int64(commits) {
		t.Errorf("%d events were read from the log, want %d", got, 2*commits)
	}
	if got := s.queries.Load(); got > int64(2*commits+20) {
		t.Errorf("%d consumers asked the log %d times about %d commits", consumers, got, commits)
	}
}

// deafConn subscribes and never reads.
func deafConn(t *testing.T, url string, cursor int64) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(url, "ws://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	fmt.Fprintf(c, "GET /?cursor=%d HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n", cursor)
	head := make([]byte, 12)
	if _, err := io.ReadFull(c, head); err != nil || string(head) != "HTTP/1.1 101" {
		t.Fatalf("%q, %v", head, err)
	}
	return c
}

// TestDeafMemory: what is held does not grow while one consumer never reads and the others get everything, and the deaf
// one is closed.
func TestDeafMemory(t *testing.T) {
	f := newFixture(t, repo.Options{KeepEvents: 64}, firehose.Options{MaxLag: 1 << 20})
	head, err := f.Seq(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	deafConn(t, f.url, head)
	good := f.dial(fmt.Sprintf("?cursor=%d", head))
	pump := func(n int) (heap uint64) {
		for range n / 10 {
			expect(t, good, f.put(10, 20_000))
		}
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := pump(512) // 10 MB, ten times what may be kept
	after := pump(1536)
	t.Logf("%d KB held, %d KB after 30 MB more", before>>10, after>>10)
	if after > before+8<<20 { // what the log keeps itself swings by 5 MB between its prunings
		t.Errorf("%d bytes are held, and %d after 30 MB of events", before, after)
	}
	for deadline := time.Now().Add(time.Minute); f.fh.Consumers() != 1; {
		if time.Now().After(deadline) {
			t.Fatal("the deaf consumer was not closed")
		}
		expect(t, good, f.put(1, 10))
	}
	expect(t, good, f.put(3, 10))
}
