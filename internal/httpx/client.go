package httpx

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Limits of a client whose options don't say otherwise.
const (
	DefaultTimeout      = 30 * time.Second
	DefaultMaxRedirects = 3
	maxHeaderBytes      = 64 << 10
)

// ErrTooLarge is wrapped when a body is longer than its limit.
var ErrTooLarge = errors.New("body too large")

// ErrRedirect is wrapped when a redirect was refused: too many, or from https to http.
var ErrRedirect = errors.New("redirect refused")

// ClientOptions configures [NewClient]. The zero value is a client for the public internet.
type ClientOptions struct {
	Guard Guard
	// Timeout covers the whole exchange, the body included; 0 is [DefaultTimeout], less than 0 none
	// (then the request's context must bound it).
	Timeout time.Duration
	// MaxRedirects is how many are followed; 0 is [DefaultMaxRedirects], less than 0 none: the 3xx answer is returned.
	MaxRedirects int
	// UserAgent is sent when the request names none.
	UserAgent string
	// TLS is for private certificate authorities; nil is the system's.
	TLS *tls.Config
	// PublicBodies says that what is sent is no secret, like signed operations for a directory: it may go by plain http where the Guard
	// allows that. Otherwise, outside of test mode, plain http carries GET and HEAD alone, and in no case a token.
	PublicBodies bool
	// MaxConnsPerHost bounds connections to one host and port; 0 is 64.
	MaxConnsPerHost int
}

// NewClient returns a client that connects only where its [Guard] lets it, by plain http only where [Guard.CheckPlain] does. Its
// connections are its own: close them with CloseIdleConnections when it is not used for the life of the process.
//
// A server that hangs (no response for 4 seconds or more until the request's deadline, nor one to any other request meanwhile) is tried by
// one request at a time from then on, until it responds; the others fail at once with an error that wraps [ErrHanging]. A request that is
// cancelled says nothing of its server.
func NewClient(opts ClientOptions) *http.Client {
	if opts.Timeout == 0 {
		opts.Timeout = DefaultTimeout
	}
	if opts.MaxRedirects == 0 {
		opts.MaxRedirects = DefaultMaxRedirects
	}
	if opts.MaxConnsPerHost == 0 {
		opts.MaxConnsPerHost = 64
	}
	guard := opts.Guard
	secure := &http.Transport{
		Proxy:                  nil,
		DialContext:            guard.dialContext(guard.Check, 10*time.Second, nil),
		TLSClientConfig:        opts.TLS,
		TLSHandshakeTimeout:    10 * time.Second,
		ResponseHeaderTimeout:  max(opts.Timeout, 0),
		ExpectContinueTimeout:  time.Second,
		IdleConnTimeout:        90 * time.Second,
		MaxIdleConns:           256,
		MaxIdleConnsPerHost:    opts.MaxConnsPerHost, // what a burst opened serves the next one
		MaxConnsPerHost:        opts.MaxConnsPerHost,
		MaxResponseHeaderBytes: maxHeaderBytes,
		ForceAttemptHTTP2:      true,
	}
	open := secure.Clone()
	open.DialContext = guard.dialContext(guard.CheckPlain, 10*time.Second, nil)
	var rt http.RoundTripper = &schemes{https: secure, http: open, secrets: guard.Loopback, publicBodies: opts.PublicBodies}
	rt = newHanging(rt)
	if opts.UserAgent != "" {
		rt = userAgent{rt, opts.UserAgent}
	}
	return &http.Client{
		Transport:     rt,
		Timeout:       max(opts.Timeout, 0),
		CheckRedirect: redirects(opts.MaxRedirects),
	}
}

func redirects(limit int) func(*http.Request, []*http.Request) error {
	return func(req *http.Request, via []*http.Request) error {
		if limit < 0 {
			return http.ErrUseLastResponse
		}
		if len(via) > limit {
			return fmt.Errorf("%w: more than %d", ErrRedirect, limit)
		}
		last := via[len(via)-1]
		if last.URL.Scheme == "https" && req.URL.Scheme != "https" {
			return fmt.Errorf("%w: from https to %s", ErrRedirect, req.URL.Scheme)
		}
		// net/http keeps these for subdomains and other ports of one host; a token is for one server.
		if !strings.EqualFold(req.URL.Host, via[0].URL.Host) || req.URL.Scheme != via[0].URL.Scheme {
			req.Header.Del("Authorization")
			req.Header.Del("Cookie")
		}
		return nil
	}
}

type userAgent struct {
	http.RoundTripper
	name string
}

func (u userAgent) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Header.Get("User-Agent") == "" {
		r = r.Clone(r.Context())
		r.Header.Set("User-Agent", u.name)
	}
	return u.RoundTripper.RoundTrip(r)
}

// CloseIdleConnections lets http.Client.CloseIdleConnections through.
func (u userAgent) CloseIdleConnections() { closeIdle(u.RoundTripper) }

func closeIdle(rt http.RoundTripper) {
	if c, ok := rt.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

// ReadLimited reads a body of at most n bytes and closes it. A longer one is an error that wraps [ErrTooLarge], before
// anything is read when Content-Length says so. It is within the budget of the client, if that has one: see [Answers].
func ReadLimited(resp *http.Response, n int64) ([]byte, error) {
	x, err := Spool(resp, n)
	if err != nil {
		return nil, err
	}
	defer x.Close()
	return x.Bytes()
}

// Peek reads up to n bytes of a body, which goes on to begin with them. On an error it is closed. It is within the pace of the client's
// budget, if that has one; n is small.
func Peek(resp *http.Response, n int64) ([]byte, error) {
	b := bodyOf(resp)
	if b != nil {
		b.window(b.a.o.Window)
	}
	head, err := io.ReadAll(io.LimitReader(resp.Body, n))
	if err != nil {
		resp.Body.Close()
		return nil, fmt.Errorf("reading the answer: %w", err)
	}
	if b != nil {
		b.window(streamWindow)
	}
	resp.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(head), resp.Body), resp.Body}
	return head, nil
}

// Drain reads what is left of a body, up to 64 KiB, and closes it, so that the connection can be used again. It waits a second at most
// where the client has a budget.
func Drain(resp *http.Response) {
	if b := bodyOf(resp); b != nil {
		b.window(time.Second)
	}
	_, _ = io.CopyN(io.Discard, resp.Body, 64<<10)
	_ = resp.Body.Close()
}

// MaxRetryAfter bounds what [RetryAfter] answers.
const MaxRetryAfter = 24 * time.Hour

// RetryAfter reads a Retry-After header (RFC 9110 §10.2.3): seconds or a date. It returns how long to wait from now, between
// 0 and [MaxRetryAfter], and whether there was one that could be read.
func RetryAfter(h http.Header, now time.Time) (time.Duration, bool) {
	v := strings.TrimSpace(h.Get("Retry-After"))
	if v == "" {
		return 0, false
	}
	if s, err := strconv.ParseUint(v, 10, 63); err == nil {
		if s > uint64(MaxRetryAfter/time.Second) {
			return MaxRetryAfter, true
		}
		return time.Duration(s) * time.Second, true
	}
	t, err := http.ParseTime(v)
	if err != nil {
		return 0, false
	}
	return min(max(t.Sub(now), 0), MaxRetryAfter), true
}
