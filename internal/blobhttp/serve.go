package blobhttp

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/atcr-dev/atcr/internal/pace"
)

// Content is a blob to serve.
type Content struct {
	Digest  digest.Digest
	Size    int64     // bytes
	ModTime time.Time // may be zero
	// Open gives the bytes. It is not called for a HEAD or a 304, and at most once. Start and end say what is wanted: from
	// start to before end, 0 and 0 for the whole. A reader that is an io.Seeker is the whole blob, whatever was wanted;
	// one that isn't gives exactly the bytes that were wanted.
	Open func(ctx context.Context, start, end int64) (io.ReadCloser, error)
}

// Serve returns a GET or HEAD. It sets ETag, Docker-Content-Digest, Content-Type (application/octet-stream), Content-Length,
// Accept-Ranges and the headers of [Harden]; Cache-Control is left to the caller.
//
// Several ranges of a reader that can't seek are answered by the whole blob, which RFC 9110 §14.2 allows.
// Errors: ErrRange, ErrPrecondition, ErrAborted, ErrNotRead, and what Open answered.
func Serve(w http.ResponseWriter, r *http.Request, c Content) error {
	h := w.Header()
	etag := ETag(c.Digest.String())
	if err := CheckIfMatch(r, etag); err != nil {
		return err
	}
	if NotModified(r, etag) {
		c.describe(h, etag)
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	if r.Method == http.MethodHead {
		c.describe(h, etag)
		h["Content-Type"] = octetStream
		h["Content-Length"] = []string{strconv.FormatInt(c.Size, 10)}
		w.WriteHeader(http.StatusOK)
		return nil
	}
	spans, err := wantedRanges(r, etag, c.Size)
	if err != nil {
		h["Content-Range"] = []string{"bytes */" + strconv.FormatInt(c.Size, 10)}
		return err
	}
	want := span{0, c.Size}
	var end int64
	if len(spans) == 1 {
		want = spans[0]
		end = want.start + want.length
	}
	body, err := c.Open(r.Context(), want.start, end)
	if err != nil {
		return err
	}
	defer body.Close()
	defer pace.Answer(w, c.Size)()
	c.describe(h, etag)
	h["Content-Type"] = octetStream
	if seeker, ok := body.(io.ReadSeeker); ok {
		// The header was checked above, so ServeContent's own error pages are never reached.
		http.ServeContent(w, asServed(r, spans), "", c.ModTime, seeker)
		return nil
	}
	status := http.StatusOK
	if len(spans) == 1 {
		status = http.StatusPartialContent
		h["Content-Range"] = []string{want.contentRange(c.Size)}
	}
	h["Content-Length"] = []string{strconv.FormatInt(want.length, 10)}
	w.WriteHeader(status)
	// Fewer bytes than Content-Length make net/http cut the connection: the client can't take them for the blob.
	from := &watched{body: body}
	if n, err := io.CopyN(w, from, want.length); err != nil {
		why := ErrNotRead
		if from.err != nil {
			why = ErrAborted
		}
		return fmt.Errorf("%w after %d of %d bytes: %w", why, n, want.length, err)
	}
	return nil
}

// watched remembers how a body ended: what a copy failed by is the body's fault, or else that of who took its bytes.
type watched struct {
	body io.Reader
	err  error
}

func (r *watched) Read(p []byte) (int, error) {
	n, err := r.body.Read(p)
	if err != nil {
		r.err = err
	}
	return n, err
}

// describe sets what is true of the blob however it is answered. It waits until there is an answer: an error must not
// carry a digest.
func (c Content) describe(h http.Header, etag string) {
	h["Etag"] = []string{etag}
	h["Docker-Content-Digest"] = []string{c.Digest.String()}
	h["Accept-Ranges"] = bytesUnit
	Harden(h)
}
