package upstreamhold

import (
	"bytes"
	"crypto/md5" //nolint:gosec // ETags of S3 are MD5
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

// bucket is S3 as far as a hold's presigned addresses use it.
type bucket struct {
	t   testing.TB
	url string

	mu    sync.Mutex
	blobs map[string][]byte
	parts map[string]map[int][]byte
}

func newBucket(t testing.TB) *bucket {
	b := &bucket{t: t, blobs: map[string][]byte{}, parts: map[string]map[int][]byte{}}
	srv := httptest.NewServer(b)
	t.Cleanup(srv.Close)
	b.url = srv.URL
	return b
}

// sign makes an address that is good for one verb.
func (b *bucket) sign(verb, path string) string { return b.url + path + "?X-Amz-Signature=" + verb }

func (b *bucket) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Authorization") != "" {
		b.t.Errorf("a token reached the bucket: %s %s", r.Method, r.URL.Path)
	}
	if r.URL.Query().Get("X-Amz-Signature") != r.Method {
		http.Error(w, "SignatureDoesNotMatch", http.StatusForbidden)
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if r.Method == http.MethodPut {
		b.put(w, r)
		return
	}
	data, ok := b.blobs[strings.TrimPrefix(r.URL.Path, "/blob/")]
	if !ok {
		http.Error(w, "NoSuchKey", http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
}

func (b *bucket) put(w http.ResponseWriter, r *http.Request) {
	var id string
	var n int
	if _, err := fmt.Sscanf(strings.ReplaceAll(r.URL.Path, "/", " "), " part %s %d", &id, &n); err != nil || b.parts[id] == nil {
		http.Error(w, "NoSuchUpload", http.StatusNotFound)
		return
	}
	if r.ContentLength < 0 {
		http.Error(w, "MissingContentLength", http.StatusLengthRequired)
		return
	}
	data, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	b.parts[id][n] = data
	w.Header().Set("ETag", `"`+tag(data)+`"`)
}

func tag(data []byte) string {
	sum := md5.Sum(data) //nolint:gosec // as S3
	return hex.EncodeToString(sum[:])
}

func (b *bucket) begin(id string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.parts[id] = map[int][]byte{}
}

func (b *bucket) abort(id string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.parts, id)
}

// complete puts parts together under a digest; the answer is an error's name, or empty.
func (b *bucket) complete(id string, d digest.Digest, parts []partRef) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var whole []byte
	for i, p := range parts {
		data, ok := b.parts[id][p.PartNumber]
		if !ok || p.PartNumber != i+1 || strings.Trim(p.ETag, `"`) != tag(data) {
			return "MissingParts"
		}
		whole = append(whole, data...)
	}
	if d.Algorithm().FromBytes(whole) != d {
		return "CompletionFailed"
	}
	b.blobs[d.String()] = whole
	delete(b.parts, id)
	return ""
}

func (b *bucket) size(d string) (int, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	data, ok := b.blobs[d]
	return len(data), ok
}

func (b *bucket) get(d string) []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.blobs[d]
}
