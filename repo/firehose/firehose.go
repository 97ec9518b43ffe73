package firehose

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sort"
	"strconv"
	"sync"
	"time"

	"github.com/coder/websocket"

	"github.com/atcr-dev/atcr/internal/limit"
	"github.com/atcr-dev/atcr/repo"
)

// Options tune a Server; nil works.
type Options struct {
	// MaxLag is how far a consumer may be behind, in bytes of events; 0 is 16 MiB. It is also what is kept in memory, once.
	MaxLag int
	// MaxConsumers limits connections; 0 is 2000. More get 503.
	MaxConsumers int
	// MaxPerClient limits those of one client; 0 is 16, less than 0 no limit. More get 429.
	MaxPerClient int
	// Client says whose connection a request is, for MaxPerClient and the log; nil is the connection's address. A server behind a proxy
	// returns here what its proxy says.
	Client func(*http.Request) string
	// WriteTimeout is how long a consumer may take to accept a batch; 0 is 30 s.
	WriteTimeout time.Duration
	// PingEvery is how often a consumer is asked for a sign of life; 0 is 30 s.
	PingEvery time.Duration
	// Log hears of consumers that come and go, at level debug; nil is slog.Default().
	Log *slog.Logger
}

// Server is an http.Handler for subscribeRepos. Safe for concurrent use.
type Server struct {
	repo *repo.Repo
	o    Options
	log  *slog.Logger
	done chan struct{}
	wait sync.WaitGroup

	mu        sync.RWMutex
	closed    bool
	consumers map[*consumer]bool
	clients   *limit.Places // nil: no limit
	left      uint64
	ring      []frame         // newest events, ready to send
	size      int             // bytes in ring
	floor     int64           // all events above it are in ring
	last      int64           // newest in ring
	filled    <-chan struct{} // nil, or the repository's Changed when the ring was filled last
}

type frame struct {
	seq  int64
	data []byte
}

// New serves a repository's events. Close it before the repository.
func New(r *repo.Repo, o *Options) *Server {
	s := &Server{repo: r, consumers: map[*consumer]bool{}, done: make(chan struct{})}
	if o != nil {
		s.o = *o
	}
	if s.o.MaxLag <= 0 {
		s.o.MaxLag = 16 << 20
	}
	if s.o.MaxConsumers <= 0 {
		s.o.MaxConsumers = 2000
	}
	if s.o.MaxPerClient == 0 {
		s.o.MaxPerClient = 16
	}
	if s.o.MaxPerClient > 0 {
		s.clients = limit.NewPlaces(s.o.MaxPerClient)
	}
	if s.o.Client == nil {
		s.o.Client = connectionOf
	}
	if s.o.WriteTimeout <= 0 {
		s.o.WriteTimeout = 30 * time.Second
	}
	if s.o.PingEvery <= 0 {
		s.o.PingEvery = 30 * time.Second
	}
	if s.log = s.o.Log; s.log == nil {
		s.log = slog.Default()
	}
	return s
}

// Consumers is how many are connected.
func (s *Server) Consumers() int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return len(s.consumers)
}

// Left is how many consumers have come and gone.
func (s *Server) Left() uint64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.left
}

// Close ends all connections and waits for them. New ones are refused.
func (s *Server) Close() error {
	s.mu.Lock()
	if !s.closed {
		s.closed = true
		close(s.done)
	}
	s.mu.Unlock()
	s.wait.Wait()
	return nil
}

// ServeHTTP serves one subscription; it returns when the connection has ended.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	cursor, live, err := parseCursor(r)
	if err != nil {
		refuse(w, http.StatusBadRequest, "InvalidRequest", err.Error())
		return
	}
	from := s.o.Client(r)
	if s.clients != nil {
		if !s.clients.Enter(from) {
			w.Header().Set("Retry-After", "30")
			refuse(w, http.StatusTooManyRequests, "RateLimitExceeded", "there are too many subscriptions of this client: it may have "+
				strconv.Itoa(s.o.MaxPerClient))
			return
		}
		defer s.clients.Leave(from)
	}
	c := &consumer{s: s}
	if !s.join(c) {
		w.Header().Set("Retry-After", "30")
		refuse(w, http.StatusServiceUnavailable, "NotEnoughResources", "there are too many subscribers, or the server is stopping")
		return
	}
	defer s.leave(c)
	hw := &hijacked{ResponseWriter: w}
	c.ws, err = websocket.Accept(hw, r, &websocket.AcceptOptions{InsecureSkipVerify: true, CompressionMode: websocket.CompressionDisabled})
	if err != nil {
		return // it has answered
	}
	c.conn = hw.conn
	defer c.ws.CloseNow() //nolint:errcheck // it may be closed
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ctx = c.ws.CloseRead(ctx)
	s.log.Debug("a firehose consumer came", "from", from, "cursor", r.URL.Query().Get("cursor"))
	err = c.run(ctx, cursor, live)
	s.log.Debug("a firehose consumer left", "from", from, "error", err)
}

// connectionOf is the address of a connection, without the port.
func connectionOf(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

func parseCursor(r *http.Request) (cursor int64, live bool, err error) {
	q := r.URL.Query()
	if !q.Has("cursor") {
		return 0, true, nil
	}
	cursor, err = strconv.ParseInt(q.Get("cursor"), 10, 64)
	if err != nil || cursor < 0 || len(q["cursor"]) > 1 {
		return 0, false, errors.New("cursor must be one number, 0 or more")
	}
	return cursor, false, nil
}

func refuse(w http.ResponseWriter, status int, name, message string) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(map[string]string{"error": name, "message": message}) //nolint:errcheck // the client is gone
}

func (s *Server) join(c *consumer) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || len(s.consumers) >= s.o.MaxConsumers {
		return false
	}
	s.consumers[c] = true
	s.wait.Add(1)
	return true
}

func (s *Server) leave(c *consumer) {
	s.mu.Lock()
	delete(s.consumers, c)
	s.left++
	s.mu.Unlock()
	s.wait.Done()
}

// fill takes new events into the ring. Whichever consumer wakes first does it for all.
func (s *Server) fill(ctx context.Context) error {
	s.mu.RLock()
	nothing := s.filled == s.repo.Changed()
	s.mu.RUnlock()
	if nothing {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	changed := s.repo.Changed()
	if s.filled == changed {
		return nil
	}
	if s.filled == nil {
		seq, err := s.repo.Seq(ctx)
		if err != nil {
			return err
		}
		s.floor, s.last = seq, seq
	}
	for e, err := range s.repo.Events(ctx, s.last) {
		if err != nil {
			return err
		}
		f := frame{e.Seq, wsFrame(e.Body)}
		s.ring = append(s.ring, f)
		s.size += len(f.data)
		s.last = e.Seq
	}
	s.filled = changed
	s.trim()
	return nil
}

// trim drops what is too old to be kept in memory, and marks the consumers that still wait for it.
func (s *Server) trim() {
	drop := 0
	for ; s.size > s.o.MaxLag && drop < len(s.ring)-1; drop++ {
		s.size -= len(s.ring[drop].data)
		s.floor = s.ring[drop].seq
		s.ring[drop] = frame{} // the array stays until it is full
	}
	if drop == 0 {
		return
	}
	s.ring = s.ring[drop:]
	for c := range s.consumers {
		if c.live.Load() && c.seen.Load() < s.floor {
			c.tooSlow()
		}
	}
}

// ready returns frames after an event, at most some size of them, and the last one's number; ok is false when they are
// no longer in memory.
func (s *Server) ready(after int64, most int) (out [][]byte, last int64, ok bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if after < s.floor {
		return nil, 0, false
	}
	i := sort.Search(len(s.ring), func(i int) bool { return s.ring[i].seq > after })
	for size := 0; i < len(s.ring) && (len(out) == 0 || size+len(s.ring[i].data) <= most); i++ {
		out, last = append(out, s.ring[i].data), s.ring[i].seq
		size += len(s.ring[i].data)
	}
	return out, last, true
}

// wsFrame is a server's binary WebSocket message in one frame, the same for every consumer since servers do not mask:
// RFC 6455, section 5.2.
func wsFrame(body []byte) []byte {
	b := make([]byte, 0, len(body)+10)
	b = append(b, 0x82)
	switch n := len(body); {
	case n < 126:
		b = append(b, byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 127), uint64(n))
	}
	return append(b, body...)
}
