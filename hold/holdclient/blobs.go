package holdclient

import (
	"context"
	_ "crypto/sha256" // go-digest hashes only with what is linked in
	_ "crypto/sha512"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"

	"github.com/atcr-dev/atcr/internal/httpx"
)

const (
	methodCheckBlobs = "io.atcr.hold.checkBlobs"
	methodGetBlob    = "com.atproto.sync.getBlob"

	checkBatch   = 1000 // digests in one checkBlobs
	headsAtOnce  = 8
	maxLinkBody  = 16 << 10
	maxURLLength = 8 << 10
)

// CheckBlobs returns which of the digests the hold has, with their sizes; those it lacks are not in the map. It takes
// leases on them for the user where the hold knows leases, and needs blob:write there; elsewhere it is a HEAD each,
// eight at a time. userDID is the owner of the repository. Errors: ErrUnauthorized, ErrForbidden, ErrUnavailable, ….
func (c *Client) CheckBlobs(ctx context.Context, userDID, repository string, digests []digest.Digest) (map[digest.Digest]int64, error) {
	present := make(map[digest.Digest]int64, len(digests))
	for len(digests) > 0 {
		n := min(len(digests), checkBatch)
		err := c.checkBatch(ctx, repository, digests[:n], present)
		if errors.Is(err, ErrNotSupported) {
			err = c.headAll(ctx, userDID, digests[:n], present)
		}
		if err != nil {
			return nil, err
		}
		digests = digests[n:]
	}
	return present, nil
}

func (c *Client) checkBatch(ctx context.Context, repository string, digests []digest.Digest, present map[digest.Digest]int64) error {
	in := struct {
		Repository string          `json:"repository"`
		Digests    []digest.Digest `json:"digests"`
	}{repository, digests}
	var out struct {
		Present []struct {
			Digest digest.Digest `json:"digest"`
			Size   int64         `json:"size"`
		} `json:"present"`
	}
	if err := c.call(ctx, http.MethodPost, methodCheckBlobs, nil, in, &out); err != nil {
		return err
	}
	asked := make(map[digest.Digest]bool, len(digests))
	for _, d := range digests {
		asked[d] = true
	}
	for _, p := range out.Present {
		if !asked[p.Digest] || p.Size < 0 {
			return c.bad(methodCheckBlobs, "%s of size %d was not asked for", clip(string(p.Digest), 140), p.Size)
		}
		present[p.Digest] = p.Size
	}
	return nil
}

func (c *Client) headAll(ctx context.Context, userDID string, digests []digest.Digest, present map[digest.Digest]int64) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var (
		mu   sync.Mutex
		wg   sync.WaitGroup
		slot = make(chan struct{}, headsAtOnce)
	)
	for _, d := range digests {
		slot <- struct{}{}
		wg.Go(func() {
			defer func() { <-slot }()
			size, err := c.StatBlob(ctx, userDID, d)
			if errors.Is(err, ErrNotFound) {
				return
			}
			if err != nil {
				cancel(err)
				return
			}
			mu.Lock()
			present[d] = size
			mu.Unlock()
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}

// StatBlob returns the size of a blob. Where the hold sends HEAD to its bucket, that is asked.
// Errors: ErrNotFound, ErrUnauthorized, ErrForbidden, ErrInvalidDigest, ErrUnavailable, ….
func (c *Client) StatBlob(ctx context.Context, userDID string, d digest.Digest) (int64, error) {
	ctx, cancel := context.WithTimeout(httpx.WithPeer(ctx, c.h.url), smallTimeout)
	defer cancel()
	resp, err := c.send(ctx, blobRequest(http.MethodHead, userDID, d, ""))
	if err != nil {
		return 0, err
	}
	defer httpx.Drain(resp)
	switch {
	case isRedirect(resp.StatusCode):
		link, err := c.location(ctx, resp)
		if err != nil {
			return 0, err
		}
		return c.statLink(ctx, link)
	case resp.StatusCode == http.StatusOK && isJSON(resp) && resp.ContentLength < maxLinkBody:
		// Either a small blob of JSON or upstream's older {url}: only a GET tells them apart.
		return c.statByGet(ctx, userDID, d)
	case resp.StatusCode == http.StatusOK && resp.ContentLength >= 0:
		return resp.ContentLength, nil
	case resp.StatusCode == http.StatusOK:
		return c.statByGet(ctx, userDID, d)
	}
	return 0, answerError(c, methodGetBlob, resp)
}

func (c *Client) statByGet(ctx context.Context, userDID string, d digest.Digest) (int64, error) {
	b, err := c.GetBlob(ctx, userDID, d, "")
	if err != nil {
		return 0, err
	}
	if b.URL != "" {
		return c.statLink(ctx, b.URL)
	}
	defer b.Body.Close()
	if b.Size < 0 {
		return 0, c.bad(methodGetBlob, "no size for %s", d)
	}
	return b.Size, nil
}

// statLink asks the storage behind a link. A link signed for GET refuses HEAD, so then one byte is got.
func (c *Client) statLink(ctx context.Context, link string) (int64, error) {
	for _, verb := range []string{http.MethodHead, http.MethodGet} {
		req, err := http.NewRequestWithContext(ctx, verb, link, nil)
		if err != nil {
			return 0, c.bad(methodGetBlob, "link: %v", err)
		}
		if verb == http.MethodGet {
			req.Header.Set("Range", "bytes=0-0")
		}
		resp, err := c.doLink(req, methodGetBlob)
		if err != nil {
			return 0, err
		}
		_ = resp.Body.Close()
		switch resp.StatusCode {
		case http.StatusOK:
			if resp.ContentLength >= 0 {
				return resp.ContentLength, nil
			}
		case http.StatusPartialContent:
			if _, total, ok := strings.Cut(resp.Header.Get("Content-Range"), "/"); ok {
				if n, err := strconv.ParseInt(total, 10, 64); err == nil && n >= 0 {
					return n, nil
				}
			}
		case http.StatusRequestedRangeNotSatisfiable: // of an empty blob
			if resp.Header.Get("Content-Range") == "bytes */0" {
				return 0, nil
			}
		case http.StatusNotFound:
			return 0, &Error{Kind: ErrNotFound, Method: methodGetBlob, URL: c.h.url, Status: resp.StatusCode}
		}
	}
	return 0, c.bad(methodGetBlob, "the storage tells no size")
}

// Blob is what GetBlob returns: either a link to follow without any token (URL), or the bytes.
type Blob struct {
	// URL to send the reader to; empty when Body is given.
	URL string
	// Body of the blob, to be closed; nil when URL is given.
	Body io.ReadCloser
	// Size of what Body gives, -1 when the hold doesn't say.
	Size int64
	// ContentRange as answered when a range was asked and granted, else empty: then Body is the whole blob.
	ContentRange string
}

// GetBlob asks for a blob, whole (byteRange empty) or a range ("bytes=0-99"), as the header Range has it. The bytes
// are not checked against the digest here: the reader does. There is no time limit on Body but the context's.
// Errors: ErrNotFound, ErrUnauthorized, ErrForbidden, ErrRangeNotSatisfiable, ErrUnavailable, ….
func (c *Client) GetBlob(ctx context.Context, userDID string, d digest.Digest, byteRange string) (*Blob, error) {
	ctx = httpx.WithPeer(ctx, c.h.url)
	b, err := c.getBlob(ctx, userDID, d, byteRange)
	if c.refusedToken(err) {
		b, err = c.getBlob(ctx, userDID, d, byteRange)
	}
	return b, err
}

func (c *Client) getBlob(ctx context.Context, userDID string, d digest.Digest, byteRange string) (*Blob, error) {
	resp, err := c.send(ctx, blobRequest(http.MethodGet, userDID, d, byteRange))
	if err != nil {
		return nil, err
	}
	if isRedirect(resp.StatusCode) {
		defer httpx.Drain(resp)
		link, err := c.location(ctx, resp)
		if err != nil {
			return nil, err
		}
		return &Blob{URL: link}, nil
	}
	switch resp.StatusCode {
	case http.StatusOK:
		if isJSON(resp) {
			return c.linkOrBlob(ctx, resp, d)
		}
		return &Blob{Body: resp.Body, Size: resp.ContentLength}, nil
	case http.StatusPartialContent:
		return &Blob{Body: resp.Body, Size: resp.ContentLength, ContentRange: resp.Header.Get("Content-Range")}, nil
	}
	defer httpx.Drain(resp)
	return nil, answerError(c, methodGetBlob, resp)
}

// linkOrBlob tells upstream's older {"url": …} from a blob that is itself JSON: the blob hashes to its digest.
func (c *Client) linkOrBlob(ctx context.Context, resp *http.Response, d digest.Digest) (*Blob, error) {
	head, err := httpx.Peek(resp, maxLinkBody)
	if err != nil {
		return nil, &Error{Kind: ErrUnavailable, Method: methodGetBlob, URL: c.h.url, Cause: err}
	}
	var link struct {
		URL string `json:"url"`
	}
	isBlob := len(head) == maxLinkBody || !d.Algorithm().Available() || d.Algorithm().FromBytes(head) == d
	if !isBlob && json.Unmarshal(head, &link) == nil && link.URL != "" {
		httpx.Drain(resp)
		u, err := c.checkLink(ctx, methodGetBlob, link.URL)
		if err != nil {
			return nil, err
		}
		return &Blob{URL: u}, nil
	}
	return &Blob{Body: resp.Body, Size: resp.ContentLength}, nil
}

func blobRequest(verb, userDID string, d digest.Digest, byteRange string) request {
	r := request{verb: verb, method: methodGetBlob, query: url.Values{"did": {userDID}, "cid": {d.String()}}, header: http.Header{}}
	// The bytes must come as they are stored: Go's transport would ask for gzip by itself.
	r.header.Set("Accept-Encoding", "identity")
	if byteRange != "" {
		r.header.Set("Range", byteRange)
	}
	return r
}

func (c *Client) location(ctx context.Context, resp *http.Response) (string, error) {
	return c.checkLink(ctx, methodGetBlob, resp.Header.Get("Location"))
}

// checkLink makes a link absolute, and refuses what is no http address or leads where nobody may be sent.
func (c *Client) checkLink(ctx context.Context, method, link string) (string, error) {
	base, err := url.Parse(c.h.url + "/xrpc/" + method)
	if err != nil {
		return "", c.bad(method, "the hold's own address: %v", err)
	}
	refused := func(cause error, format string, args ...any) error {
		return &Error{Kind: ErrLinkRefused, Method: method, URL: c.h.url, Message: fmt.Sprintf(format, args...), Cause: cause}
	}
	if link == "" || len(link) > maxURLLength {
		return "", refused(nil, "link of %d bytes", len(link))
	}
	u, err := base.Parse(link)
	if err != nil || (u.Scheme != "https" && u.Scheme != "http") || u.Host == "" || u.User != nil {
		return "", refused(nil, "link is no http address")
	}
	if base.Scheme == "https" && u.Scheme != "https" {
		return "", refused(nil, "link leaves https")
	}
	err = c.h.checkLink(ctx, base, u)
	switch {
	case err == nil:
		return u.String(), nil
	case ctx.Err() != nil:
		return "", ctx.Err()
	case errors.Is(err, httpx.ErrForbiddenAddress), errors.Is(err, ErrLinkRefused):
		// What the name resolves to stays here: it would tell about networks that the reader can't see.
		return "", refused(err, "%.100q is no public address", u.Host)
	}
	return "", &Error{
		Kind: ErrUnavailable, Method: method, URL: c.h.url, Message: fmt.Sprintf("%.100q can't be looked up", u.Host), Cause: err,
	}
}

// doLink sends a request to an address that the hold gave and checkLink took. What is connected to is looked at once more: a name may
// lead elsewhere by then.
func (c *Client) doLink(req *http.Request, method string) (*http.Response, error) {
	ctx, refused := httpx.OnConnect(req.Context(), func(at netip.Addr) error {
		if !at.IsValid() {
			return nil
		}
		_, err := c.checkLink(httpx.WithLinkAt(req.Context(), at), method, req.URL.String())
		return err
	})
	resp, err := c.do(req.WithContext(ctx), method)
	if cause := refused(); cause != nil && req.Context().Err() == nil {
		if err == nil {
			_ = resp.Body.Close()
		}
		return nil, cause
	}
	return resp, err
}

func isRedirect(status int) bool {
	switch status {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		return true
	}
	return false
}

func isJSON(resp *http.Response) bool {
	return strings.HasPrefix(resp.Header.Get("Content-Type"), "application/json")
}
