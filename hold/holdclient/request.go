package holdclient

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/atcr-dev/atcr/internal/httpx"
)

const (
	maxJSON      = 4 << 20
	maxErrorBody = 64 << 10
	smallTimeout = 30 * time.Second
	slowTimeout  = 10 * time.Minute
)

// request is one XRPC call.
type request struct {
	verb   string
	method string // NSID
	query  url.Values
	header http.Header
	body   io.ReadSeeker // nil for none; rewound for each try
	stream *stream       // instead of body: bytes that may not be there twice
	size   int64
}

// send makes the call by the token rules of the package comment and returns the last answer, whatever its
// status, for the caller to close.
func (c *Client) send(ctx context.Context, r request) (*http.Response, error) {
	c.h.mu.Lock()
	signed := c.h.challenged[r.method] && c.token != nil
	c.h.mu.Unlock()
	if !signed {
		resp, err := c.try(ctx, r, "")
		if err != nil || c.token == nil || !refused(resp) {
			return resp, err
		}
		c.h.mu.Lock()
		c.h.challenged[r.method] = true
		c.h.mu.Unlock()
		if !r.replayable() {
			return resp, nil
		}
		httpx.Drain(resp)
	}
	c.h.mu.Lock()
	first, second, known := c.h.auds[0], c.h.auds[1], c.h.audKnown
	c.h.mu.Unlock()
	resp, err := c.try(ctx, r, first)
	if err != nil {
		return resp, err
	}
	if resp.StatusCode == http.StatusUnauthorized && !known && r.replayable() {
		httpx.Drain(resp)
		if resp, err = c.try(ctx, r, second); err != nil {
			return resp, err
		}
		if resp.StatusCode != http.StatusUnauthorized {
			c.h.learnAudience(second)
		}
		return resp, nil
	}
	if resp.StatusCode != http.StatusUnauthorized {
		c.h.learnAudience(first)
	}
	return resp, nil
}

func (h *host) learnAudience(aud string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.audKnown = true
	if h.auds[0] != aud {
		h.auds[0], h.auds[1] = h.auds[1], h.auds[0]
		h.log.Debug("hold takes the other audience", "hold", h.did, "aud", aud)
	}
}

func refused(resp *http.Response) bool {
	return resp.StatusCode == http.StatusUnauthorized || resp.StatusCode == http.StatusForbidden
}

func (r *request) replayable() bool { return r.stream == nil || r.stream.rewind() }

// try makes one request; aud empty sends no token.
func (c *Client) try(ctx context.Context, r request, aud string) (*http.Response, error) {
	u := c.h.url + "/xrpc/" + r.method
	if len(r.query) > 0 {
		u += "?" + r.query.Encode()
	}
	var body io.Reader
	switch {
	case r.stream != nil:
		body = io.NopCloser(r.stream)
	case r.body != nil:
		if _, err := r.body.Seek(0, io.SeekStart); err != nil {
			return nil, fmt.Errorf("hold %s: %s: rewind: %w", c.h.url, r.method, err)
		}
		body = io.NopCloser(r.body)
	}
	req, err := http.NewRequestWithContext(ctx, r.verb, u, body)
	if err != nil {
		return nil, &Error{Kind: ErrUnavailable, Method: r.method, URL: c.h.url, Cause: err}
	}
	for k, v := range r.header {
		req.Header[k] = v
	}
	if body != nil {
		req.ContentLength = r.size
		if r.size == 0 {
			req.Body = http.NoBody
		}
	}
	if aud != "" {
		token, err := c.token(ctx, aud, r.method)
		if err != nil {
			return nil, fmt.Errorf("service token for hold %s: %w", c.h.did, err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
	}
	return c.do(req, r.method)
}

// do sends a request and turns a failed connection into ErrUnavailable or ErrNotAllowed.
func (c *Client) do(req *http.Request, method string) (*http.Response, error) {
	resp, err := c.h.http.Do(req)
	if err == nil {
		return resp, nil
	}
	if ctxErr := req.Context().Err(); ctxErr != nil && errors.Is(err, context.Canceled) {
		return nil, fmt.Errorf("hold %s: %s: %w", c.h.url, method, ctxErr)
	}
	kind := ErrUnavailable
	if errors.Is(err, httpx.ErrForbiddenAddress) {
		kind = ErrNotAllowed
	}
	return nil, &Error{Kind: kind, Method: method, URL: c.h.url, Cause: err}
}

// callSlow is call for what may read back or copy a large blob at the hold.
func (c *Client) callSlow(ctx context.Context, verb, method string, in, out any) error {
	return c.callFor(ctx, slowTimeout, verb, method, nil, in, out)
}

// call makes a JSON call: in (nil for none) is sent, the answer is read into out (nil: dropped).
func (c *Client) call(ctx context.Context, verb, method string, query url.Values, in, out any) error {
	return c.callFor(ctx, smallTimeout, verb, method, query, in, out)
}

func (c *Client) callFor(ctx context.Context, limit time.Duration, verb, method string, query url.Values, in, out any) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	err := c.callOnce(ctx, verb, method, query, in, out)
	if verb == http.MethodGet && c.refusedToken(err) {
		err = c.callOnce(ctx, verb, method, query, in, out)
	}
	return err
}

// refusedToken reports whether a query is to be made once more, with another token: net/http sends a GET again by itself when
// a connection breaks, with the same token, which a hold takes once.
func (c *Client) refusedToken(err error) bool {
	return c.token != nil && errors.Is(err, ErrUnauthorized)
}

func (c *Client) callOnce(ctx context.Context, verb, method string, query url.Values, in, out any) error {
	if c.h.isMissing(method) {
		return &Error{Kind: ErrNotSupported, Method: method, URL: c.h.url, Name: "MethodNotImplemented"}
	}
	r := request{verb: verb, method: method, query: query, header: http.Header{"Accept": {"application/json"}}}
	if in != nil {
		b, err := encode(in)
		if err != nil {
			return fmt.Errorf("hold: %s: encode: %w", method, err)
		}
		r.body, r.size = bytes.NewReader(b), int64(len(b))
		r.header.Set("Content-Type", "application/json")
	}
	resp, err := c.send(ctx, r)
	if err != nil {
		return err
	}
	defer httpx.Drain(resp)
	if resp.StatusCode/100 != 2 {
		e := answerError(c, method, resp)
		if lacksMethod(e) {
			e.Kind = ErrNotSupported
			c.h.setMissing(method)
		}
		return e
	}
	return c.decode(resp, method, out)
}

// encode writes JSON without the escapes for HTML, which make text up to six times as long: a manifest of 4 MiB would then be more
// than a hold takes.
func encode(in any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(in)
	return b.Bytes(), err
}

func (c *Client) decode(resp *http.Response, method string, out any) error {
	if out == nil {
		return nil
	}
	b, err := httpx.ReadLimited(resp, maxJSON)
	if errors.Is(err, httpx.ErrTooSlow) || errors.Is(err, httpx.ErrNoPlace) {
		return &Error{Kind: ErrUnavailable, Method: method, URL: c.h.url, Status: resp.StatusCode, Cause: err}
	}
	if err == nil {
		err = json.Unmarshal(b, out)
	}
	if err != nil {
		return &Error{Kind: ErrBadAnswer, Method: method, URL: c.h.url, Status: resp.StatusCode, Cause: err}
	}
	return nil
}

func (c *Client) bad(method, format string, args ...any) error {
	return &Error{Kind: ErrBadAnswer, Method: method, URL: c.h.url, Message: fmt.Sprintf(format, args...)}
}

// stream is a request body that counts what was taken, so that a refusal that came before the first byte
// can be answered by another try.
type stream struct {
	r     io.Reader
	seek  io.Seeker // nil when it can't
	start int64
	taken int64
}

func newStream(r io.Reader) *stream {
	s := &stream{r: r}
	if k, ok := r.(io.Seeker); ok {
		if at, err := k.Seek(0, io.SeekCurrent); err == nil {
			s.seek, s.start = k, at
		}
	}
	return s
}

func (s *stream) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	s.taken += int64(n)
	return n, err
}

func (s *stream) rewind() bool {
	if s.taken == 0 {
		return true
	}
	if s.seek == nil {
		return false
	}
	if _, err := s.seek.Seek(s.start, io.SeekStart); err != nil {
		return false
	}
	s.taken = 0
	return true
}
