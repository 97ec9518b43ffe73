package pds_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/atcr-dev/atcr/hold"
	"github.com/atcr-dev/atcr/internal/httpx"
	"github.com/atcr-dev/atcr/internal/realtest"
	"github.com/atcr-dev/atcr/registry"
	"github.com/atcr-dev/atcr/registry/pds"
)

// stalling gives bytes, then waits until it may give the rest.
type stalling struct {
	first, rest io.Reader
	reached     chan struct{} // closed when the first bytes are gone
	proceed     chan struct{}
	once        sync.Once
}

func newStalling(data []byte, at int) *stalling {
	return &stalling{
		first: bytes.NewReader(data[:at]), rest: bytes.NewReader(data[at:]), reached: make(chan struct{}), proceed: make(chan struct{}),
	}
}

func (s *stalling) Read(p []byte) (int, error) {
	if n, err := s.first.Read(p); n > 0 || !errors.Is(err, io.EOF) {
		return n, err
	}
	s.once.Do(func() { close(s.reached) })
	<-s.proceed
	return s.rest.Read(p)
}

// parts counts what is sent to the hold as a part.
func (w *world) parts() *realtest.Injected {
	return w.holdProxy.Inject(realtest.Fault{Kind: realtest.Delay, Path: "uploadPart", Times: -1, Optional: true})
}

// pulls fails the test unless the blob is there.
func (w *world) pulls(r registry.Repository, d digest.Digest) {
	w.t.Helper()
	b, err := r.Blob(w.t.Context(), d)
	must(w.t, err)
	body, err := b.Open(w.t.Context(), registry.Range{})
	must(w.t, err)
	defer body.Close()
	if got, err := digest.FromReader(body); err != nil || got != d {
		w.t.Errorf("pulled %s %v, want %s", got, err, d)
	}
}

// TestStalledSenders has clients of two accounts send nearly a part each and then nothing. Their memory is given up within seconds, what
// they sent is kept durably, others are not held up, and when they go on their blobs are whole.
func TestStalledSenders(t *testing.T) {
	t.Parallel()
	w := newWorld(t, devnetPDS)
	const n = 6 // would fill all memory there is for parts, and more
	type sender struct {
		body *stalling
		data []byte
		repo registry.Repository
		id   string
		done chan error
	}
	var senders []sender
	for i := range n {
		who := []string{"alice", "bob"}[i%2]
		data := randomBytes(17<<20, uint64(i))
		s := sender{newStalling(data, 16<<20-1), data, w.repo(who, who, "app"), "", make(chan error, 1)}
		s.id = begin(t, s.repo)
		up := open_(t, s.repo, s.id)
		go func() {
			_, err := up.ReadFrom(s.body)
			s.done <- errors.Join(err, up.Close())
		}()
		senders = append(senders, s)
	}
	for _, s := range senders {
		<-s.body.reached
	}
	must(t, upload(t.Context(), w.repo("alice", "alice", "other"), randomBytes(8<<20, 99)))
	must(t, realtest.WaitFor(time.Minute, func() error {
		if memory, tails := w.backend.Held(); memory > 0 || tails == 0 {
			return fmt.Errorf("%d bytes in memory, %d in tails", memory, tails)
		}
		return nil
	}))
	var lie int64
	for _, s := range senders {
		if st, err := os.Stat(filepath.Join(w.tails(), s.id)); err == nil {
			lie += st.Size()
		}
	}
	if _, tails := w.backend.Held(); lie != tails {
		t.Errorf("%d bytes lie in tails, %d are counted", lie, tails)
	}
	for _, s := range senders {
		close(s.body.proceed)
		must(t, <-s.done)
		up := open_(t, s.repo, s.id)
		_, err := up.Commit(t.Context(), digest.FromBytes(s.data))
		must(t, err)
		must(t, up.Close())
		w.pulls(s.repo, digest.FromBytes(s.data))
	}
	if memory, tails := w.backend.Held(); memory != 0 || tails != 0 {
		t.Errorf("at last %d bytes in memory, %d in tails", memory, tails)
	}
	if left, err := os.ReadDir(w.tails()); err != nil || len(left) != 0 {
		t.Errorf("left in the folder: %v %v", left, err)
	}
}

// TestSmallPieces sends a blob in very many requests: the hold gets parts of 5 MiB and more, however small the pieces are.
func TestSmallPieces(t *testing.T) {
	t.Parallel()
	w := newWorld(t, devnetPDS)
	for _, test := range []struct{ size, piece, most int }{
		{12 << 20, 64 << 10, 3},
		{3 << 20, 100_001, 1},
		{300, 1, 1},
		{12 << 20, 5<<20 + 1, 3},
		{40 << 20, 3 << 20, 8},
	} {
		r := w.repo("alice", "alice", "app")
		sent := w.parts()
		data := randomBytes(test.size, uint64(test.piece))
		id := begin(t, r)
		for at := 0; at < len(data); at += test.piece {
			up := open_(t, r, id)
			if up.Size() != int64(at) {
				t.Fatalf("%+v: %d bytes are there, want %d", test, up.Size(), at)
			}
			must1(up.ReadFrom(bytes.NewReader(data[at:min(at+test.piece, len(data))])))
			must(t, up.Close())
			if at == len(data)/test.piece/2*test.piece {
				w.restart()
				r = w.repo("alice", "alice", "app")
			}
		}
		up := open_(t, r, id)
		_, err := up.Commit(t.Context(), digest.FromBytes(data))
		must(t, err)
		must(t, up.Close())
		w.pulls(r, digest.FromBytes(data))
		if sent.Fired() > test.most {
			t.Errorf("%+v: the hold was sent %d parts, want at most %d", test, sent.Fired(), test.most)
		}
		w.holdProxy.Clear()
	}
}

// TestTailLost: with its tail gone an upload is told to be as long as the hold has it, and goes on from there.
func TestTailLost(t *testing.T) {
	t.Parallel()
	w := newWorld(t, devnetPDS)
	data := randomBytes(17<<20, 3)
	r := w.repo("alice", "alice", "app")
	id := begin(t, r)
	up := open_(t, r, id)
	must1(up.ReadFrom(bytes.NewReader(data)))
	must(t, up.Close())
	if up.Size() != int64(len(data)) {
		t.Fatalf("%d are there", up.Size())
	}
	w.stop()
	must(t, os.Remove(filepath.Join(w.tails(), id)))
	w.start()
	r = w.repo("alice", "alice", "app")
	up = open_(t, r, id)
	at := up.Size()
	if at != 16<<20 {
		t.Fatalf("%d are there without the tail", at)
	}
	must1(up.ReadFrom(bytes.NewReader(data[at:])))
	_, err := up.Commit(t.Context(), digest.FromBytes(data))
	must(t, err)
	must(t, up.Close())
	w.pulls(r, digest.FromBytes(data))
}

// TestTailsAreShared: what one account leaves in tails is bounded; another's pushes go on, and its own when it has finished some.
func TestTailsAreShared(t *testing.T) {
	t.Parallel()
	w := newWorld(t, devnetPDS)
	r := w.repo("alice", "alice", "app")
	piece := randomBytes(5<<20-1, 4) // too short for a part
	var ids []string
	var refused *registry.Error
	for refused == nil {
		if len(ids) > 60 {
			t.Fatalf("%d uploads wait with %d bytes each", len(ids), len(piece))
		}
		id := begin(t, r)
		up := open_(t, r, id)
		_, err := up.ReadFrom(bytes.NewReader(piece))
		err = errors.Join(err, up.Close())
		if err == nil {
			ids = append(ids, id)
			continue
		}
		refused = wantKind(t, err, registry.ErrTooManyRequests)
	}
	if len(ids) < 40 || refused.RetryAfter == 0 || !contains(refused.Message, "finish") {
		t.Errorf("after %d: %v", len(ids), refused)
	}
	must(t, upload(t.Context(), w.repo("bob", "bob", "app"), piece))
	must(t, upload(t.Context(), r, randomBytes(100, 5)))
	up := open_(t, r, ids[0])
	must(t, up.Cancel(t.Context()))
	must(t, upload(t.Context(), r, piece))
	// What is taken outlives a restart, and nothing more is.
	_, before := w.backend.Held()
	w.restart()
	if _, after := w.backend.Held(); after != before {
		t.Errorf("%d bytes in tails, after a restart %d", before, after)
	}
}

// fromClient is a repository as requests from an address use it.
type fromClient struct {
	registry.Repository
	addr string
}

func (r fromClient) StartUpload(ctx context.Context, hint registry.UploadHint) (up registry.Upload, err error) {
	req := httptest.NewRequestWithContext(ctx, http.MethodPost, "/", nil)
	req.RemoteAddr = r.addr + ":1"
	httpx.WithClient(http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) {
		up, err = r.Repository.StartUpload(req.Context(), hint)
	}), httpx.VisitOptions{}).ServeHTTP(httptest.NewRecorder(), req)
	return up, err
}

// TestOpenUploadsAreBounded: a thousand for an account and for a client; all go after a day, however many, with their tails.
func TestOpenUploadsAreBounded(t *testing.T) {
	t.Parallel()
	w := newWorld(t, devnetPDS)
	from := func(name, client string) registry.Repository {
		return fromClient{w.repo(name, name, "app"), client}
	}
	r := from("alice", "192.0.2.1")
	first := begin(t, r)
	up := open_(t, r, first)
	must1(up.ReadFrom(bytes.NewReader([]byte("tail"))))
	must(t, up.Close())
	for range 999 {
		begin(t, r)
	}
	refused := func(r registry.Repository, whose string) {
		t.Helper()
		_, err := r.StartUpload(t.Context(), registry.UploadHint{})
		if e := wantKind(t, err, registry.ErrTooManyRequests); !contains(e.Message, "1000 uploads of "+whose) || e.RetryAfter == 0 {
			t.Errorf("%v", err)
		}
	}
	refused(from("alice", "192.0.2.2"), w.accounts["alice"].did)
	refused(from("bob", "192.0.2.1"), "your address")
	begin(t, from("bob", "192.0.2.2"))
	up = open_(t, r, first)
	must(t, up.Cancel(t.Context()))
	begin(t, r)

	for range 300 {
		begin(t, from("bob", "192.0.2.3"))
	}
	second := begin(t, from("bob", "192.0.2.3"))
	up = open_(t, from("bob", "192.0.2.3"), second)
	must1(up.ReadFrom(bytes.NewReader([]byte("tail"))))
	must(t, up.Close())
	w.clock.advance(25 * time.Hour)
	w.backend.KeepHouse(t.Context())
	if n, err := w.backend.Uploads(t.Context()); n != 0 || err != nil {
		t.Errorf("%d uploads are left after a day: %v", n, err)
	}
	if left, err := os.ReadDir(w.tails()); err != nil || len(left) != 0 {
		t.Errorf("tails left: %v %v", left, err)
	}
	begin(t, from("alice", "192.0.2.1"))
}

// TestUploadOfAnother: an upload goes on under the name that it was begun under alone, also for the same account.
func TestUploadOfAnother(t *testing.T) {
	t.Parallel()
	w := newWorld(t, devnetPDS)
	id := begin(t, w.repo("alice", "alice", "app"))
	for _, r := range []registry.Repository{
		w.repo("alice", "bob", "app"), w.repo("alice", "alice", "other"), w.repo("bob", "alice", "app"), w.repo("", "alice", "app"),
	} {
		_, err := r.Upload(t.Context(), id)
		wantKind(t, err, registry.ErrUploadUnknown)
	}
	up := open_(t, w.repo("alice", "alice", "app"), id)
	must(t, up.Close())
}

// TestTailsOnAFullDisk: the AppView's disk runs full of tails. The largest account's go first, a small push of another succeeds, and an
// upload whose tail went is told so.
func TestTailsOnAFullDisk(t *testing.T) {
	t.Parallel()
	disk := realtest.NewSmallDisk(t, 32<<20)
	w := newWorld(t, devnetPDS, func(w *world) {
		w.options = func(o *pds.Options) { o.Dir = filepath.Join(disk.Dir, "uploads") }
	})
	piece := randomBytes(5<<20-1, 6)
	r := w.repo("alice", "alice", "app")
	var ids []string
	for range 8 { // 40 MB: the account's own oldest make room for the next
		id := begin(t, r)
		up := open_(t, r, id)
		must1(up.ReadFrom(bytes.NewReader(piece)))
		must(t, up.Close())
		ids = append(ids, id)
	}
	must(t, upload(t.Context(), w.repo("bob", "bob", "app"), randomBytes(3<<20, 7)))
	lost := 0
	for _, id := range ids {
		up := open_(t, r, id)
		if up.Size() == 0 {
			lost++
		}
		must(t, up.Close())
	}
	if lost == 0 || lost == len(ids) {
		t.Errorf("%d of %d tails went", lost, len(ids))
	}
	disk.Fill(0) // by somebody else, and nothing of ours to remove that would do
	for _, id := range ids {
		up := open_(t, r, id)
		must(t, up.Cancel(t.Context()))
	}
	disk.Fill(0)
	up := open_(t, r, begin(t, r))
	_, err := up.ReadFrom(bytes.NewReader(piece))
	if err = errors.Join(err, up.Close()); !errors.Is(err, registry.ErrNoSpace) || !contains(err.Error(), "of 32 MiB are free") ||
		!contains(err.Error(), "who runs the registry can help") {
		t.Errorf("on a full disk: %v", err)
	}
}

// TestHoldAsksToSlowDown: a hold and a PDS that answer 429 to writes are waited for; the client sees no 429.
func TestHoldAsksToSlowDown(t *testing.T) {
	t.Parallel()
	w := newWorld(t, devnetPDS)
	for _, step := range []struct{ server, method string }{
		{"hold", "io.atcr.hold.initiateUpload"}, {"hold", "io.atcr.hold.completeUpload"}, {"hold", "io.atcr.hold.checkBlobs"},
		{"hold", "io.atcr.hold.getQuota"}, {"pds", "com.atproto.server.getServiceAuth"},
	} {
		t.Run(step.method, func(t *testing.T) {
			defer w.in(t)()
			w.clock.advance(2 * time.Minute)
			proxy := w.pdsProxy
			fault := realtest.Fault{
				Kind: realtest.Fail, Status: 429, Path: "/xrpc/" + step.method, Match: signed(step.server, step.method), Times: 2,
			}
			if step.server == "hold" {
				proxy = w.holdProxy
				fault.RetryAfter, fault.Body = time.Second, `{"error":"RateLimitExceeded","message":"slower"}`
			}
			injected := proxy.Inject(fault)
			img := newImage(t, step.method, nil)
			must(t, push(t.Context(), w.repo("alice", "alice", "app"), img, "v1"))
			if injected.Fired() == 0 {
				t.Fatal("the fault never fired")
			}
			proxy.Clear()
			w.settled()
		})
	}
}

// TestManySmallBlobs pushes 6 000 blobs of 12 bytes by one account on four connections to a private hold, which takes 5 000 tokens of one
// account in three minutes: all end well, and pulls of the account go on meanwhile.
func TestManySmallBlobs(t *testing.T) {
	if os.Getenv("ATCR_LONG") == "" {
		t.Skip("takes some ten minutes: run with ATCR_LONG=1")
	}
	t.Parallel()
	w := newWorld(t, devnetPDS, func(w *world) { w.holdConfig = func(c *hold.Config) { c.Public = false } })
	pulled := []byte("what is pulled")
	must(t, upload(t.Context(), w.repo("alice", "alice", "pulled"), pulled))
	var next, done atomic.Int64
	var group sync.WaitGroup
	var longest atomic.Int64
	began := time.Now()
	for range 4 {
		group.Go(func() {
			r := w.repo("alice", "alice", "many")
			for i := next.Add(1); i <= 6000 && !t.Failed(); i = next.Add(1) {
				start := time.Now()
				if err := upload(t.Context(), r, fmt.Appendf(nil, "blob %07d", i)); err != nil {
					t.Errorf("blob %d: %v", i, err)
					return
				}
				for took := int64(time.Since(start)); ; {
					if was := longest.Load(); took <= was || longest.CompareAndSwap(was, took) {
						break
					}
				}
				done.Add(1)
			}
		})
	}
	ctx, stop := context.WithCancel(t.Context())
	pulls, slowest := 0, time.Duration(0)
	over := make(chan struct{})
	go func() {
		defer close(over)
		for ctx.Err() == nil {
			start := time.Now()
			w.pulls(w.repo("alice", "alice", "pulled"), digest.FromBytes(pulled))
			slowest = max(slowest, time.Since(start))
			pulls++
			t := time.NewTimer(time.Second + time.Duration(rand.IntN(1000))*time.Millisecond)
			select {
			case <-t.C:
			case <-ctx.Done():
			}
		}
	}()
	group.Wait()
	stop()
	<-over
	t.Logf("%d blobs in %s, the slowest %s; meanwhile %d pulls, the slowest %s", done.Load(), time.Since(began).Round(time.Second),
		time.Duration(longest.Load()).Round(time.Millisecond), pulls, slowest.Round(time.Millisecond))
	if done.Load() != 6000 || pulls == 0 {
		t.Errorf("%d blobs, %d pulls", done.Load(), pulls)
	}
}
