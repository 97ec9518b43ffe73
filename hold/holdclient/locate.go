package holdclient

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/atcr-dev/atcr/internal/httpx"
)

// givesBytesFor is how long a public hold that gave bytes, not an address, is named to readers without being asked.
const givesBytesFor = time.Minute

// LocateOptions say what a caller of [Client.Locate] knows of the blob and the hold.
type LocateOptions struct {
	// Size of the blob in bytes; 0 asks the hold.
	Size int64
	// Public says that everyone may read the hold ([Rights]). When it gives bytes it is then the address to send readers to.
	Public bool
	// NoLink asks for no address: the bytes are to pass through the caller.
	NoLink bool
}

// Located says where the bytes of a blob are to be had.
type Located struct {
	// Link is an address to send any reader to, who needs no token there; empty when only Open gives the bytes.
	Link string
	// Size in bytes.
	Size int64

	c       *Client
	userDID string
	digest  digest.Digest
}

// Locate finds out where a blob can be read. userDID is the owner of its repository.
// Errors: ErrNotFound, ErrUnauthorized, ErrForbidden, ErrUnavailable, ErrLinkRefused, ….
func (c *Client) Locate(ctx context.Context, userDID string, d digest.Digest, o LocateOptions) (*Located, error) {
	l := &Located{Size: o.Size, c: c, userDID: userDID, digest: d}
	ctx = httpx.WithPeer(ctx, c.h.url)
	var err error
	if l.Size <= 0 {
		if l.Size, err = c.StatBlob(ctx, userDID, d); err != nil {
			return nil, err
		}
	}
	if !o.NoLink {
		l.Link, err = c.link(ctx, userDID, d, o.Public)
	}
	if err != nil {
		return nil, err
	}
	return l, nil
}

// link returns the address to send readers to, empty when there is none.
func (c *Client) link(ctx context.Context, userDID string, d digest.Digest, public bool) (string, error) {
	direct := c.h.url + "/xrpc/" + methodGetBlob + "?" + url.Values{"did": {userDID}, "cid": {d.String()}}.Encode()
	if public && c.h.gaveBytes() {
		return c.checkLink(ctx, methodGetBlob, direct)
	}
	// One byte is enough to see how the hold answers.
	got, err := c.GetBlob(ctx, userDID, d, "bytes=0-0")
	if errors.Is(err, ErrRangeNotSatisfiable) { // of an empty blob
		return "", nil
	}
	if err != nil {
		return "", err
	}
	if got.URL != "" {
		return got.URL, nil
	}
	_ = got.Body.Close()
	if !public {
		return "", nil
	}
	c.h.setGaveBytes()
	return c.checkLink(ctx, methodGetBlob, direct)
}

// Open returns the bytes of the blob from start to end, which is exclusive; end 0 is the blob's end. They are not checked
// against the digest: the reader does. There is no time limit on the body but the context's. Errors: those of [Client.GetBlob].
func (l *Located) Open(ctx context.Context, start, end int64) (io.ReadCloser, error) {
	return l.c.OpenBlob(ctx, l.userDID, l.digest, start, end)
}

// OpenBlob returns a blob's bytes from start to end, which is exclusive (0: to the blob's end), wherever the hold says that they are:
// an address that it gives is asked without a token. A range outside of the blob is empty. Errors: those of GetBlob.
func (c *Client) OpenBlob(ctx context.Context, userDID string, d digest.Digest, start, end int64) (io.ReadCloser, error) {
	ctx = httpx.WithPeer(ctx, c.h.url)
	byteRange := ""
	switch {
	case end > 0:
		byteRange = fmt.Sprintf("bytes=%d-%d", start, end-1)
	case start > 0:
		byteRange = fmt.Sprintf("bytes=%d-", start)
	}
	got, err := c.GetBlob(ctx, userDID, d, byteRange)
	if errors.Is(err, ErrRangeNotSatisfiable) {
		return http.NoBody, nil
	}
	if err != nil {
		return nil, err
	}
	body, partial := got.Body, got.ContentRange != ""
	if got.URL != "" {
		if body, partial, err = c.follow(ctx, got.URL, byteRange); err != nil {
			return nil, err
		}
	}
	if partial || byteRange == "" {
		return body, nil
	}
	// The whole came although a range was asked.
	if _, err := io.CopyN(io.Discard, body, start); err != nil {
		_ = body.Close()
		err = fmt.Errorf("skip to byte %d of %s: %w", start, d, err)
		return nil, &Error{Kind: ErrUnavailable, Method: methodGetBlob, URL: c.h.url, Cause: err}
	}
	if end > 0 {
		return readCloser{io.LimitReader(body, end-start), body}, nil
	}
	return body, nil
}

type readCloser struct {
	io.Reader
	io.Closer
}

// follow gets the bytes at an address that the hold gave. No token goes there.
func (c *Client) follow(ctx context.Context, link, byteRange string) (body io.ReadCloser, partial bool, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, link, nil)
	if err != nil {
		return nil, false, c.bad(methodGetBlob, "link is no address: %v", err)
	}
	req.Header.Set("Accept-Encoding", "identity")
	if byteRange != "" {
		req.Header.Set("Range", byteRange)
	}
	resp, err := c.doLink(req, methodGetBlob)
	if err != nil {
		return nil, false, err
	}
	switch resp.StatusCode {
	case http.StatusOK, http.StatusPartialContent:
		return resp.Body, resp.StatusCode == http.StatusPartialContent, nil
	case http.StatusRequestedRangeNotSatisfiable:
		_ = resp.Body.Close()
		return http.NoBody, true, nil
	}
	_ = resp.Body.Close()
	return nil, false, &Error{
		Kind: ErrUnavailable, Method: methodGetBlob, URL: c.h.url, Message: fmt.Sprintf("the hold's storage answers %d", resp.StatusCode),
	}
}

func (h *host) gaveBytes() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.clock().Before(h.directUntil)
}

func (h *host) setGaveBytes() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.directUntil = h.clock().Add(givesBytesFor)
}
