package holdclient

import (
	"context"
	"crypto/rand"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/atcr-dev/atcr/internal/httpx"
)

const (
	methodInitiate   = "io.atcr.hold.initiateUpload"
	methodGetUpload  = "io.atcr.hold.getUpload"
	methodPartURL    = "io.atcr.hold.getPartUploadUrl"
	methodUploadPart = "io.atcr.hold.uploadPart"
	methodComplete   = "io.atcr.hold.completeUpload"
	methodAbort      = "io.atcr.hold.abortUpload"

	maxPartHeaders = 32
)

// Part of an upload that the hold acknowledged.
type Part struct {
	Number int    `json:"partNumber"` // from 1
	ETag   string `json:"etag"`
	Size   int64  `json:"size,omitempty"` // told by GetUpload and UploadPart, not needed by CompleteUpload
}

// UploadState is what a hold knows of an upload.
type UploadState struct {
	Digest digest.Digest `json:"digest,omitempty"` // as InitiateUpload named it
	Offset int64         `json:"offset"`           // bytes that are there without a gap from the start
	Parts  []Part        `json:"parts"`
}

// InitiateUpload begins an upload and gives its id, which is the right to its parts: keep it secret. The digest is
// what the bytes shall hash to; leave it empty while that isn't known (a temporary name is sent, as upstream's AppView
// does): CompleteUpload decides. Errors: ErrUnauthorized, ErrForbidden, ErrInvalidDigest, ErrQuotaExceeded,
// ErrUnavailable, ….
func (c *Client) InitiateUpload(ctx context.Context, d digest.Digest) (uploadID string, err error) {
	var out struct {
		UploadID string `json:"uploadId"`
	}
	name := d.String()
	if name == "" {
		name = "uploads/temp-" + rand.Text()
	}
	in := map[string]string{"digest": name}
	if err := c.call(ctx, http.MethodPost, methodInitiate, nil, in, &out); err != nil {
		return "", err
	}
	odd := func(r rune) bool { return r <= ' ' || r > '~' }
	if out.UploadID == "" || len(out.UploadID) > 1024 || strings.ContainsFunc(out.UploadID, odd) {
		return "", c.bad(methodInitiate, "uploadId of %d bytes", len(out.UploadID))
	}
	return out.UploadID, nil
}

// GetUpload returns how far an upload has come. ErrNotSupported: this hold can't say, rely on the parts that UploadPart
// acknowledged. Errors: ErrInvalidUpload, ErrUnavailable, ….
func (c *Client) GetUpload(ctx context.Context, uploadID string) (UploadState, error) {
	var out UploadState
	err := c.call(ctx, http.MethodGet, methodGetUpload, url.Values{"uploadId": {uploadID}}, nil, &out)
	if err == nil && out.Offset < 0 {
		err = c.bad(methodGetUpload, "offset %d", out.Offset)
	}
	return out, err
}

// UploadPart sends part n (from 1; of size bytes, which body must give exactly): to the hold, or to its bucket where the
// hold gives an address for it. The part is durable when it returns. When body is an [io.Seeker] it can be sent again
// after a refusal that came late; there is no time limit but the context's.
// Errors: ErrInvalidUpload, ErrNoSpace, ErrUnavailable, ….
func (c *Client) UploadPart(ctx context.Context, uploadID string, n int, size int64, body io.Reader) (Part, error) {
	c.h.mu.Lock()
	direct := c.h.direct
	c.h.mu.Unlock()
	s := newStream(body)
	ctx = httpx.WithPeer(ctx, c.h.url)
	if !direct {
		where, err := c.partTarget(ctx, uploadID, n)
		if err != nil {
			return Part{}, err
		}
		if where != nil {
			return c.putPart(ctx, where, n, size, s)
		}
		c.h.mu.Lock()
		c.h.direct = true
		c.h.mu.Unlock()
	}
	return c.putDirect(ctx, uploadID, n, size, s)
}

// target is where a hold wants a part: the answer of getPartUploadUrl.
type target struct {
	URL     string            `json:"url"`
	Method  string            `json:"method"`
	Headers map[string]string `json:"headers"`
}

// partTarget asks where part n goes; nil is: to uploadPart at the hold.
func (c *Client) partTarget(ctx context.Context, uploadID string, n int) (*target, error) {
	var t target
	in := map[string]any{"uploadId": uploadID, "partNumber": n}
	err := c.call(ctx, http.MethodPost, methodPartURL, nil, in, &t)
	if e, ok := err.(*Error); ok && e.Kind == ErrNotSupported {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	link, err := c.checkLink(ctx, methodPartURL, t.URL)
	if err != nil {
		return nil, err
	}
	t.URL = link
	if c.isOwnUploadPart(link) {
		return nil, nil
	}
	if t.Method == "" {
		t.Method = http.MethodPut
	}
	if t.Method != http.MethodPut && t.Method != http.MethodPost {
		return nil, c.bad(methodPartURL, "method %q", clip(t.Method, 20))
	}
	if len(t.Headers) > maxPartHeaders {
		return nil, c.bad(methodPartURL, "%d headers", len(t.Headers))
	}
	return &t, nil
}

// isOwnUploadPart reports whether the address is the hold's own uploadPart, under its own name or the loopback twin.
func (c *Client) isOwnUploadPart(link string) bool {
	u, err := url.Parse(link)
	base, err2 := url.Parse(c.h.url)
	if err != nil || err2 != nil || u.Path != "/xrpc/"+methodUploadPart {
		return false
	}
	return u.Host == base.Host || isLoopback(u.Hostname()) && isLoopback(base.Hostname()) && u.Port() == base.Port()
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// storageHeader tells what a storage may want with a part. A hold is untrusted, and any other header would let it speak to
// anybody in our name: cookies, forwarded addresses, credentials for a proxy.
func storageHeader(name string) bool {
	name = strings.ToLower(name)
	switch name {
	case "authorization", "content-type", "content-md5", "content-encoding", "cache-control", "if-none-match",
		"x-upload-id", "x-part-number":
		return true
	}
	for _, prefix := range []string{"x-amz-", "x-goog-", "x-ms-", "x-bz-"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

// putPart sends a part to the address the hold gave. It never carries a token of ours.
func (c *Client) putPart(ctx context.Context, t *target, n int, size int64, s *stream) (Part, error) {
	req, err := http.NewRequestWithContext(ctx, t.Method, t.URL, io.NopCloser(s))
	if err != nil {
		return Part{}, c.bad(methodPartURL, "url: %v", err)
	}
	for k, v := range t.Headers {
		if !storageHeader(k) {
			return Part{}, c.bad(methodPartURL, "header %q is none of a storage's", clip(k, 40))
		}
		req.Header.Set(k, v)
	}
	if req.ContentLength = size; size == 0 {
		req.Body = http.NoBody
	}
	resp, err := c.doLink(req, methodUploadPart)
	if err != nil {
		return Part{}, err
	}
	defer httpx.Drain(resp)
	if resp.StatusCode/100 != 2 {
		return Part{}, answerError(c, methodUploadPart, resp)
	}
	etag := resp.Header.Get("ETag")
	if etag == "" || len(etag) > 256 {
		return Part{}, c.bad(methodUploadPart, "the storage gave an ETag of %d bytes", len(etag))
	}
	return Part{Number: n, ETag: etag, Size: size}, nil
}

// putDirect sends a part to uploadPart at the hold. The uploadId is the right to it; a hold that wants a token says so,
// and Expect: 100-continue lets it say so before the bytes are gone.
func (c *Client) putDirect(ctx context.Context, uploadID string, n int, size int64, s *stream) (Part, error) {
	header := http.Header{
		"X-Upload-Id":   {uploadID},
		"X-Part-Number": {strconv.Itoa(n)},
		"Content-Type":  {"application/octet-stream"},
	}
	if s.seek == nil {
		header.Set("Expect", "100-continue")
	}
	resp, err := c.send(ctx, request{verb: http.MethodPut, method: methodUploadPart, header: header, stream: s, size: size})
	if err != nil {
		return Part{}, err
	}
	defer httpx.Drain(resp)
	if resp.StatusCode/100 != 2 {
		e := answerError(c, methodUploadPart, resp)
		if lacksMethod(e) {
			e.Kind = ErrNotSupported
			c.h.mu.Lock()
			c.h.direct = false
			c.h.mu.Unlock()
		}
		return Part{}, e
	}
	var out struct {
		ETag string `json:"etag"`
	}
	if err := c.decode(resp, methodUploadPart, &out); err != nil {
		return Part{}, err
	}
	if len(out.ETag) > 256 {
		return Part{}, c.bad(methodUploadPart, "etag of %d bytes", len(out.ETag))
	}
	return Part{Number: n, ETag: out.ETag, Size: size}, nil
}

// CompleteUpload ends an upload: when it returns nil the hold has the blob, its bytes hash to d, and it is durable.
// Parts are all that were acknowledged, in order. Errors: ErrInvalidDigest (the bytes are something else),
// ErrMissingParts, ErrInvalidUpload, ErrForbidden (rights are asked anew), ErrQuotaExceeded, ErrNoSpace, ErrUnavailable
// (the outcome is unknown: StatBlob tells).
func (c *Client) CompleteUpload(ctx context.Context, uploadID string, d digest.Digest, parts []Part) error {
	in := struct {
		UploadID string        `json:"uploadId"`
		Digest   digest.Digest `json:"digest"`
		Parts    []Part        `json:"parts"`
	}{uploadID, d, make([]Part, len(parts))}
	for i, p := range parts {
		in.Parts[i] = Part{Number: p.Number, ETag: p.ETag}
	}
	return c.callSlow(ctx, http.MethodPost, methodComplete, in, nil)
}

// AbortUpload throws an upload away. One that is unknown already is no error.
func (c *Client) AbortUpload(ctx context.Context, uploadID string) error {
	err := c.call(ctx, http.MethodPost, methodAbort, nil, map[string]string{"uploadId": uploadID}, nil)
	if e, ok := err.(*Error); ok && e.Kind == ErrInvalidUpload {
		return nil
	}
	return err
}
