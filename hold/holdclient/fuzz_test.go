package holdclient

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

// canned answers every request with one response.
type canned struct {
	status int
	header http.Header
	body   []byte
}

func (c canned) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: c.status, Header: c.header, Body: io.NopCloser(bytes.NewReader(c.body)), ContentLength: -1, Request: r,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1}, nil
}

// FuzzHoldAnswers: whatever a hold answers, a caller gets what the method promises, or an error with a kind; a client is sent to
// nothing but an http address.
func FuzzHoldAnswers(f *testing.F) {
	d := digest.FromString("x")
	for _, seed := range []string{
		`{"url":"https://bucket.example/x"}`, `{"url":"http://bucket.example/x"}`, `{"url":"file:///etc/passwd"}`, `{"url":"javascript:alert(1)"}`,
		`{"url":"//other.example"}`, `{"url":"https://user@host/"}`, `{"url":"https://a\u0000b/"}`, `{"url":7}`, `{`, `x`, "",
		`{"offset":-1}`, `{"offset":5,"parts":[{"partNumber":1,"size":5,"etag":"a"}]}`, `{"parts":[{"partNumber":-1,"size":-9}]}`,
		`{"present":[{"digest":"` + d.String() + `","size":1}]}`, `{"present":[{"digest":"x","size":-1}]}`, `{"error":"InvalidDigest","message":"no"}`,
		`{"uploadId":""}`, `{"uploadId":"` + strings.Repeat("u", 9000) + `"}`,
	} {
		for _, status := range []int{200, 206, 307, 400, 401, 404, 416, 429, 500} {
			f.Add(status, "application/json", "https://bucket.example/x", []byte(seed))
		}
	}
	f.Add(307, "text/plain", "javascript:alert(1)", []byte(nil))
	f.Add(307, "text/plain", "/relative?x", []byte(nil))
	f.Add(307, "text/plain", strings.Repeat("https://a.example/", 1000), []byte(nil))
	f.Add(206, "application/octet-stream", "", []byte("x"))
	f.Fuzz(func(t *testing.T, status int, contentType, location string, body []byte) {
		if status < 200 || status > 599 {
			return
		}
		anywhere := func(context.Context, *url.URL, *url.URL) error { return nil } // names are not looked up here
		c := New(Options{DID: "did:web:hold.example.com", URL: "https://hold.example.com", CheckLink: anywhere, HTTP: &http.Client{
			Transport:     canned{status, http.Header{"Content-Type": {contentType}, "Location": {location}, "Content-Range": {location}}, body},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}})
		check := func(what string, err error) {
			t.Helper()
			var e *Error
			if err != nil && (!errors.As(err, &e) || e.Kind == nil || len(err.Error()) > 64<<10) {
				t.Fatalf("%s: error %v without a kind", what, err)
			}
		}
		ctx := context.Background()
		if b, err := c.GetBlob(ctx, "did:web:a.example", d, ""); err != nil {
			check("getBlob", err)
		} else if b.URL != "" {
			u, err := url.Parse(b.URL)
			if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || strings.ContainsAny(b.URL, "\r\n\x00 ") {
				t.Fatalf("a client would be sent to %q", b.URL)
			}
		} else {
			_ = b.Body.Close()
		}
		if s, err := c.GetUpload(ctx, "u"); err != nil {
			check("getUpload", err)
		} else if s.Offset < 0 {
			t.Fatalf("an upload of %d bytes", s.Offset)
		}
		if present, err := c.CheckBlobs(ctx, "did:web:a.example", "app", []digest.Digest{d}); err != nil {
			check("checkBlobs", err)
		} else if size, ok := present[d]; len(present) > 1 || ok && size < 0 {
			t.Fatalf("present: %v", present)
		}
	})
}
