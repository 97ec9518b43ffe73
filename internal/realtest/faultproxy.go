package realtest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// A FaultKind is what happens to a request that a Fault chose.
type FaultKind int

const (
	// Fail answers Status without asking the server: it failed.
	Fail FaultKind = iota + 1
	// FailDone lets the server do it, and answers Status in its place: failed,
	// but done.
	FailDone
	// Drop closes the connection without asking the server.
	Drop
	// DropDone lets the server do it and closes the connection without an answer.
	DropDone
	// CutRequest forwards After bytes of the request's body, then breaks both
	// connections.
	CutRequest
	// CutResponse passes After bytes of the answer's body on, then breaks the
	// connection.
	CutResponse
	// Delay waits Wait, then forwards.
	Delay
	// Hang holds the request until the client leaves or the test ends.
	Hang
	// Rewrite lets the server do it and gives its answer with another body: a
	// server that lies.
	Rewrite
)

// A Fault chooses requests and says what happens to them.
type Fault struct {
	Kind FaultKind

	Method string                   // empty: any
	Path   string                   // part of the path; empty: any
	Match  func(*http.Request) bool // also has to agree; nil: does

	Nth   int // the first matching request that fails, from 1; 0 is 1
	Times int // how many fail from there on; 0 is 1, negative: all

	Status     int           // for Fail and FailDone; 0 is 500
	RetryAfter time.Duration // sent as Retry-After when positive; 429 then is Status's default
	Body       string        // of the made-up answer
	Header     http.Header   // of the made-up answer, beside what it has anyway
	After      int64         // bytes, for CutRequest and CutResponse
	Wait       time.Duration // for Delay
	Rewrite    func(body []byte) []byte

	// Optional says that the test passes even when the fault never fires.
	Optional bool
}

// An Injected counts what one Fault did.
type Injected struct {
	fault Fault

	mu          sync.Mutex
	seen, fired int
}

// Fired is how many requests it has failed.
func (i *Injected) Fired() int { i.mu.Lock(); defer i.mu.Unlock(); return i.fired }

// takes reports whether the fault fires for r, and counts.
func (i *Injected) takes(r *http.Request) bool {
	f := i.fault
	if f.Method != "" && f.Method != r.Method || !strings.Contains(r.URL.Path, f.Path) || f.Match != nil && !f.Match(r) {
		return false
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.seen++
	first := max(f.Nth, 1)
	if i.seen < first || f.Times >= 0 && i.seen >= first+max(f.Times, 1) {
		return false
	}
	i.fired++
	return true
}

// A FaultProxy is a reverse proxy on loopback that fails chosen requests. Host
// headers, WebSockets and streaming pass through. It is safe for concurrent use.
type FaultProxy struct {
	URL string // http://localhost:PORT

	server *httptest.Server
	end    chan struct{}

	mu       sync.Mutex
	target   *url.URL
	faults   []*Injected
	requests []string
	watches  []watch
}

type watch struct {
	path string
	f    func(Exchange)
}

// An Exchange is a request that reached the server, and what that answered.
type Exchange struct {
	Request *http.Request // its body has been read
	Body    []byte
	Status  int
	Header  http.Header
	Answer  []byte
}

// NewFaultProxy starts a proxy before target, a base URL; see also SetTarget.
func NewFaultProxy(t testing.TB, target string) *FaultProxy {
	t.Helper()
	p := &FaultProxy{end: make(chan struct{})}
	p.server = httptest.NewServer(p)
	p.URL = "http://localhost:" + strconv.Itoa(p.Port())
	if target != "" {
		p.SetTarget(target)
	}
	t.Cleanup(func() {
		close(p.end)
		p.server.CloseClientConnections()
		p.server.Close()
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, i := range p.faults {
			if i.Fired() == 0 && !i.fault.Optional {
				t.Errorf("realtest: fault %+v never fired; requests seen:\n%s", i.fault, strings.Join(p.requests, "\n"))
			}
		}
	})
	return p
}

// Port is the proxy's.
func (p *FaultProxy) Port() int { return p.server.Listener.Addr().(*net.TCPAddr).Port }

// SetTarget names the server that requests go to; without one they get 502.
func (p *FaultProxy) SetTarget(target string) {
	u, err := url.Parse(target)
	if err != nil {
		u = nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target = u
}

// Inject adds a fault; several may stand at once, the oldest that takes a
// request decides. When the test ends each must have fired.
func (p *FaultProxy) Inject(f Fault) *Injected {
	i := &Injected{fault: f}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults = append(p.faults, i)
	return i
}

// Clear takes all faults away that have fired, and leaves the others to be
// complained about.
func (p *FaultProxy) Clear() {
	p.mu.Lock()
	defer p.mu.Unlock()
	var left []*Injected
	for _, i := range p.faults {
		if i.Fired() == 0 && !i.fault.Optional {
			left = append(left, i)
		}
	}
	p.faults = left
}

// Requests lists all requests so far as "METHOD /path?query", and forgets them.
func (p *FaultProxy) Requests() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	r := p.requests
	p.requests = nil
	return r
}

// Watch calls f with each exchange with the server whose path has that part, once it is over; f may be called by several goroutines. It
// is for small bodies. What a fault kept from the server is not seen, what it kept from the client is.
func (p *FaultProxy) Watch(path string, f func(Exchange)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.watches = append(p.watches, watch{path, f})
}

// watched returns who wants to see exchanges of that path.
func (p *FaultProxy) watched(path string) (all []func(Exchange)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, w := range p.watches {
		if strings.Contains(path, w.path) {
			all = append(all, w.f)
		}
	}
	return all
}

// ServeHTTP is the proxy itself.
func (p *FaultProxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	p.requests = append(p.requests, r.Method+" "+r.URL.RequestURI())
	target := p.target
	var fault *Fault
	for _, i := range p.faults {
		if i.takes(r) {
			fault = &i.fault
			break
		}
	}
	p.mu.Unlock()
	if fault == nil {
		p.forward(w, r, target)
		return
	}
	p.apply(fault, w, r, target)
}

func (p *FaultProxy) apply(f *Fault, w http.ResponseWriter, r *http.Request, target *url.URL) {
	switch f.Kind {
	case Fail:
		_, _ = io.Copy(io.Discard, io.LimitReader(r.Body, 1<<30))
		f.answer(w)
	case FailDone:
		p.forward(httptest.NewRecorder(), r, target)
		f.answer(w)
	case Drop:
		panic(http.ErrAbortHandler)
	case DropDone:
		p.forward(httptest.NewRecorder(), r, target)
		panic(http.ErrAbortHandler)
	case CutRequest:
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		r = r.WithContext(ctx)
		r.Body = &cutReader{r.Body, f.After}
		p.forward(httptest.NewRecorder(), r, target)
		panic(http.ErrAbortHandler)
	case CutResponse:
		p.forward(&cutWriter{w, f.After}, r, target)
	case Delay:
		select {
		case <-time.After(f.Wait):
			p.forward(w, r, target)
		case <-p.end:
		case <-r.Context().Done():
		}
	case Rewrite:
		f.lie(w, r, func(w http.ResponseWriter, r *http.Request) { p.forward(w, r, target) })
	case Hang:
		select {
		case <-p.end:
		case <-r.Context().Done():
		}
		panic(http.ErrAbortHandler)
	}
}

// lie passes an answer on with another body.
func (f *Fault) lie(w http.ResponseWriter, r *http.Request, forward http.HandlerFunc) {
	r.Header.Del("Accept-Encoding") // to see what is rewritten
	rec := httptest.NewRecorder()
	forward(rec, r)
	for k, v := range rec.Header() {
		if k != "Content-Length" {
			w.Header()[k] = v
		}
	}
	w.WriteHeader(rec.Code)
	_, _ = w.Write(f.Rewrite(rec.Body.Bytes()))
}

func (f *Fault) answer(w http.ResponseWriter) {
	status := f.Status
	if f.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int((f.RetryAfter+time.Second-1)/time.Second)))
		if status == 0 {
			status = http.StatusTooManyRequests
		}
	}
	if status == 0 {
		status = http.StatusInternalServerError
	}
	w.Header().Set("Content-Type", "application/json")
	maps.Copy(w.Header(), f.Header)
	w.WriteHeader(status)
	body := f.Body
	if body == "" {
		body = `{"error":"InternalServerError","message":"fault injected by a test"}`
	}
	_, _ = io.WriteString(w, body)
}

func (p *FaultProxy) forward(w http.ResponseWriter, r *http.Request, target *url.URL) {
	if target == nil {
		http.Error(w, "no target", http.StatusBadGateway)
		return
	}
	if watches := p.watched(r.URL.Path); len(watches) > 0 {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		r.Header.Del("Accept-Encoding") // to see what is answered
		answer := httptest.NewRecorder()
		client := w
		w = answer
		defer func() {
			for _, f := range watches {
				f(Exchange{Request: r, Body: body, Status: answer.Code, Header: answer.Header(), Answer: answer.Body.Bytes()})
			}
			maps.Copy(client.Header(), answer.Header())
			client.WriteHeader(answer.Code)
			_, _ = client.Write(answer.Body.Bytes())
		}()
	}
	(&httputil.ReverseProxy{
		Rewrite: func(pr *httputil.ProxyRequest) {
			pr.SetURL(target)
			pr.Out.Host = pr.In.Host
		},
		FlushInterval: -1,
		ErrorLog:      log.New(io.Discard, "", 0),
		// A server that is down looks to the client like one: no answer at all.
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	}).ServeHTTP(w, r)
}

// cutReader fails after n bytes.
type cutReader struct {
	io.ReadCloser
	n int64
}

var errCut = errors.New("cut by a fault")

func (c *cutReader) Read(b []byte) (int, error) {
	if c.n <= 0 {
		return 0, errCut
	}
	n, err := c.ReadCloser.Read(b[:min(int64(len(b)), c.n)])
	c.n -= int64(n)
	return n, err
}

// cutWriter breaks the connection after n bytes of body.
type cutWriter struct {
	http.ResponseWriter
	n int64
}

func (c *cutWriter) Write(b []byte) (int, error) {
	if int64(len(b)) > c.n {
		_, _ = c.ResponseWriter.Write(b[:c.n])
		c.Flush()
		panic(http.ErrAbortHandler)
	}
	c.n -= int64(len(b))
	return c.ResponseWriter.Write(b)
}

func (c *cutWriter) Flush() { _ = http.NewResponseController(c.ResponseWriter).Flush() }

func (c *cutWriter) Unwrap() http.ResponseWriter { return c.ResponseWriter }
