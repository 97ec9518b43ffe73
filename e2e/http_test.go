package e2e

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"
)

func readFile(path string) ([]byte, error) { return os.ReadFile(path) }

func sha256Of(b []byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(b)) }

func readAll(t *testing.T, resp *http.Response) string {
	t.Helper()
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<20))
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

func getJSON(url string, out any) error {
	resp, err := http.Get(url)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, resp.Status)
	}
	return json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(out)
}

// send sends one request with a token and reads the answer.
func send(t *testing.T, token, method, url string, body []byte) (*http.Response, string) {
	t.Helper()
	return sendWith(t, token, method, url, body, nil)
}

// sendRange sends bytes from to to of file as one chunk.
func sendRange(t *testing.T, token, url string, file []byte, from, to int64) (*http.Response, string) {
	t.Helper()
	return sendWith(t, token, http.MethodPatch, url, file[from:to], http.Header{"Content-Range": {fmt.Sprintf("%d-%d", from, to-1)}})
}

func sendWith(t *testing.T, token, method, url string, body []byte, header http.Header) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/octet-stream")
	}
	for k, v := range header {
		req.Header[k] = v
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	return resp, readAll(t, resp)
}

// location is an answer's Location as a full URL.
func location(t *testing.T, resp *http.Response) string {
	t.Helper()
	u, err := resp.Location()
	if err != nil {
		t.Fatalf("%s %s: %v", resp.Request.Method, resp.Request.URL, err)
	}
	return u.String()
}

// withDigest is the URL that completes an upload.
func withDigest(upload, digest string) string {
	separator := "?"
	if strings.Contains(upload, "?") {
		separator = "&"
	}
	return upload + separator + "digest=" + digest
}

// rangeEnd is how many bytes "Range: 0-N" says are there.
func rangeEnd(t *testing.T, resp *http.Response) int64 {
	t.Helper()
	var last int64
	if _, err := fmt.Sscanf(strings.TrimPrefix(resp.Header.Get("Range"), "bytes="), "0-%d", &last); err != nil {
		t.Fatalf("Range %q: %v", resp.Header.Get("Range"), err)
	}
	return last + 1
}

// eventuallyIn waits until ok has nothing to complain about.
func eventuallyIn(t *testing.T, limit time.Duration, ok func() string) {
	t.Helper()
	deadline := time.Now().Add(limit)
	for {
		complaint := ok()
		if complaint == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not in %s: %s", limit, complaint)
		}
		time.Sleep(200 * time.Millisecond)
	}
}
