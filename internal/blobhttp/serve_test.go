package blobhttp_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/atcr-dev/atcr/internal/blobhttp"
)

const text = "0123456789abcdefghij"

// contents are the same blob from a reader that seeks and from one that doesn't.
func contents(body string) map[string]blobhttp.Content {
	c := blobhttp.Content{Digest: digest.FromString(body), Size: int64(len(body))}
	seeker, stream := c, c
	seeker.Open = func(context.Context, int64, int64) (io.ReadCloser, error) {
		return struct {
			io.ReadSeeker
			io.Closer
		}{strings.NewReader(body), io.NopCloser(nil)}, nil
	}
	stream.Open = func(_ context.Context, start, end int64) (io.ReadCloser, error) {
		if end == 0 {
			end = int64(len(body))
		}
		return io.NopCloser(struct{ io.Reader }{strings.NewReader(body[start:end])}), nil
	}
	return map[string]blobhttp.Content{"seeker": seeker, "stream": stream}
}

func serve(method string, c blobhttp.Content, header ...string) (*httptest.ResponseRecorder, error) {
	r := httptest.NewRequest(method, "/", nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	err := blobhttp.Serve(w, r, c)
	return w, err
}

func TestServeSingle(t *testing.T) {
	etag := blobhttp.ETag(digest.FromString(text).String())
	for _, test := range []struct {
		name, method string
		header       []string
		status       int
		body, cr     string
		err          error
	}{
		{"whole", "GET", nil, 200, text, "", nil},
		{"head", "HEAD", []string{"Range", "bytes=0-3"}, 200, "", "", nil},
		{"first", "GET", []string{"Range", "bytes=0-3"}, 206, "0123", "bytes 0-3/20", nil},
		{"open end", "GET", []string{"Range", "bytes=15-"}, 206, "fghij", "bytes 15-19/20", nil},
		{"suffix", "GET", []string{"Range", "bytes=-3"}, 206, "hij", "bytes 17-19/20", nil},
		{"suffix longer than the blob", "GET", []string{"Range", "bytes=-300"}, 206, text, "bytes 0-19/20", nil},
		{"beyond the end", "GET", []string{"Range", "bytes=18-400"}, 206, "ij", "bytes 18-19/20", nil},
		{"only beyond the end", "GET", []string{"Range", "bytes=20-"}, 0, "", "bytes */20", blobhttp.ErrRange},
		{"suffix of nothing", "GET", []string{"Range", "bytes=-0"}, 0, "", "bytes */20", blobhttp.ErrRange},
		{"backwards", "GET", []string{"Range", "bytes=5-0"}, 0, "", "bytes */20", blobhttp.ErrRange},
		{"signs", "GET", []string{"Range", "bytes=+1-+2"}, 0, "", "bytes */20", blobhttp.ErrRange},
		{"another unit", "GET", []string{"Range", "lines=1-2"}, 200, text, "", nil},
		{"another unit, in words", "GET", []string{"Range", "items=first two"}, 200, text, "", nil},
		{"no unit", "GET", []string{"Range", "0-3"}, 200, text, "", nil},
		{"a unit that begins like ours", "GET", []string{"Range", "bytesish=0-3"}, 200, text, "", nil},
		{"unit in capitals", "GET", []string{"Range", "Bytes=0-3"}, 206, "0123", "bytes 0-3/20", nil},
		{"unit in capitals, suffix", "GET", []string{"Range", "BYTES=-3"}, 206, "hij", "bytes 17-19/20", nil},
		{"no range", "GET", []string{"Range", "bytes="}, 0, "", "bytes */20", blobhttp.ErrRange},
		{"spaces in a range", "GET", []string{"Range", "bytes=1 - 2"}, 0, "", "bytes */20", blobhttp.ErrRange},
		{"spaces around a range", "GET", []string{"Range", "bytes= 1-2 ,"}, 206, "12", "bytes 1-2/20", nil},
		{"number too large", "GET", []string{"Range", "bytes=99999999999999999999-"}, 0, "", "bytes */20", blobhttp.ErrRange},
		{"end too large", "GET", []string{"Range", "bytes=17-99999999999999999999"}, 206, "hij", "bytes 17-19/20", nil},
		{"suffix too large", "GET", []string{"Range", "bytes=-99999999999999999999"}, 206, text, "bytes 0-19/20", nil},
		{"suffix of nothing, and a range", "GET", []string{"Range", "bytes=-0,0-1"}, 206, "01", "bytes 0-1/20", nil},
		{"beyond the end, and a range", "GET", []string{"Range", "bytes=99999999999999999999-,0-1"}, 206, "01", "bytes 0-1/20", nil},
		{"too many", "GET", []string{"Range", "bytes=" + strings.Repeat("0-0,", 40) + "1-1"}, 0, "", "bytes */20", blobhttp.ErrRange},
		{"overlapping to more than the whole", "GET", []string{"Range", "bytes=0-,0-"}, 200, text, "", nil},
		{"not modified", "GET", []string{"If-None-Match", `"x", ` + etag}, 304, "", "", nil},
		{"weakly not modified", "HEAD", []string{"If-None-Match", `W/` + etag}, 304, "", "", nil},
		{"modified", "GET", []string{"If-None-Match", `"x"`}, 200, text, "", nil},
		{"match", "GET", []string{"If-Match", etag}, 200, text, "", nil},
		{"no match", "GET", []string{"If-Match", `"x"`}, 0, "", "", blobhttp.ErrPrecondition},
		{"weak match", "GET", []string{"If-Match", "W/" + etag}, 0, "", "", blobhttp.ErrPrecondition},
		{"if-range holds", "GET", []string{"Range", "bytes=0-3", "If-Range", etag}, 206, "0123", "bytes 0-3/20", nil},
		{"if-range does not hold", "GET", []string{"Range", "bytes=0-3", "If-Range", `"x"`}, 200, text, "", nil},
	} {
		for kind, c := range contents(text) {
			t.Run(test.name+"/"+kind, func(t *testing.T) {
				w, err := serve(test.method, c, test.header...)
				if !errors.Is(err, test.err) {
					t.Fatalf("error %v, want %v", err, test.err)
				}
				if got := w.Header().Get("Content-Range"); got != test.cr {
					t.Errorf("Content-Range %q, want %q", got, test.cr)
				}
				if err != nil {
					if w.Body.Len() > 0 || w.Header().Get("Docker-Content-Digest") != "" {
						t.Error("something was sent before the error")
					}
					return
				}
				if w.Code != test.status || w.Body.String() != test.body {
					t.Errorf("status %d, body %q; want %d, %q", w.Code, w.Body, test.status, test.body)
				}
				if w.Header().Get("Etag") != etag || w.Header().Get("X-Content-Type-Options") != "nosniff" ||
					w.Header().Get("Content-Security-Policy") == "" {
					t.Errorf("headers %v", w.Header())
				}
				if test.method == "HEAD" && test.status == 200 && w.Header().Get("Content-Length") != "20" {
					t.Errorf("Content-Length %q", w.Header().Get("Content-Length"))
				}
			})
		}
	}
}

// An empty blob has no bytes that a 206 could name: a range that is for all of it is ignored.
func TestServeEmpty(t *testing.T) {
	for header, status := range map[string]int{
		"": 200, "bytes=0-": 200, "bytes=-1": 200, "bytes=-5": 200, "bytes=0-0": 200, "bytes=0-99": 200, "Bytes=0-": 200, "bytes=0-,-1": 200,
		"bytes=5-,0-": 200, "lines=1-2": 200, "bytes=-0": 416, "bytes=1-": 416, "bytes=5-9": 416, "bytes=x": 416,
	} {
		for kind, c := range contents("") {
			w, err := serve("GET", c, "Range", header)
			if status == 416 {
				if !errors.Is(err, blobhttp.ErrRange) || w.Header().Get("Content-Range") != "bytes */0" {
					t.Errorf("%s, Range %q: %v, %v", kind, header, err, w.Header())
				}
				continue
			}
			if err != nil || w.Code != 200 || w.Body.Len() != 0 || w.Header().Get("Content-Range") != "" ||
				w.Header().Get("Content-Length") != "0" {
				t.Errorf("%s, Range %q: %d, %v, %v", kind, header, w.Code, w.Header(), err)
			}
		}
	}
}

func TestServeSeveralRanges(t *testing.T) {
	w, err := serve("GET", contents(text)["seeker"], "Range", "bytes=0-1, 4-5 ,-2")
	if err != nil || w.Code != http.StatusPartialContent {
		t.Fatalf("status %d, %v", w.Code, err)
	}
	_, params, err := mime.ParseMediaType(w.Header().Get("Content-Type"))
	if err != nil {
		t.Fatal(err)
	}
	parts := multipart.NewReader(w.Body, params["boundary"])
	var got []string
	for {
		p, err := parts.NextPart()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(p)
		got = append(got, string(b))
	}
	if fmt.Sprint(got) != "[01 45 ij]" {
		t.Errorf("parts %q", got)
	}
	// A reader that can't seek gives the whole instead.
	w, err = serve("GET", contents(text)["stream"], "Range", "bytes=0-1,4-5")
	if err != nil || w.Code != 200 || w.Body.String() != text {
		t.Errorf("status %d, body %q, %v", w.Code, w.Body, err)
	}
}

func TestServeDoesNotOpen(t *testing.T) {
	c := contents(text)["seeker"]
	c.Open = func(context.Context, int64, int64) (io.ReadCloser, error) {
		t.Error("opened")
		return nil, errors.New("opened")
	}
	etag := blobhttp.ETag(c.Digest.String())
	if _, err := serve("HEAD", c); err != nil {
		t.Error(err)
	}
	if _, err := serve("GET", c, "If-None-Match", etag); err != nil {
		t.Error(err)
	}
	if _, err := serve("GET", c, "Range", "bytes=99-"); !errors.Is(err, blobhttp.ErrRange) {
		t.Error(err)
	}
}

func TestServeShortStreamAborts(t *testing.T) {
	c := contents(text)["stream"]
	c.Size = 100
	c.Open = func(context.Context, int64, int64) (io.ReadCloser, error) {
		return io.NopCloser(struct{ io.Reader }{strings.NewReader(text)}), nil
	}
	errs := make(chan error, 1)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { errs <- blobhttp.Serve(w, r, c) }))
	defer srv.Close()
	res, err := http.Get(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if _, err := io.ReadAll(res.Body); err == nil {
		t.Error("the client could take 20 of 100 bytes for the whole")
	}
	if err := <-errs; !errors.Is(err, blobhttp.ErrAborted) {
		t.Errorf("%v, want ErrAborted", err)
	}
}

// readFromSpy sees what is handed to the server's writer: sendfile needs the file itself.
type readFromSpy struct {
	http.ResponseWriter
	file bool
}

func (s *readFromSpy) ReadFrom(r io.Reader) (int64, error) {
	if l, ok := r.(*io.LimitedReader); ok {
		_, s.file = l.R.(*os.File)
	}
	return io.Copy(struct{ io.Writer }{s.ResponseWriter}, r)
}

func TestServeKeepsSendfile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "blob")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c := contents(text)["seeker"]
	c.Open = func(context.Context, int64, int64) (io.ReadCloser, error) { return os.Open(path) }
	for _, header := range []string{"", "bytes=5-9"} {
		r := httptest.NewRequest("GET", "/", nil)
		if header != "" {
			r.Header.Set("Range", header)
		}
		spy := &readFromSpy{ResponseWriter: httptest.NewRecorder()}
		if err := blobhttp.Serve(spy, r, c); err != nil || !spy.file {
			t.Errorf("range %q: the bare file did not reach ReadFrom (%v)", header, err)
		}
	}
}

// asNetHTTP reports whether net/http reads a Range header by the grammar: it takes no unit but bytes in small letters, no number beyond 63
// bits, and a suffix of no bytes for a range.
func asNetHTTP(header string) bool {
	list, ok := strings.CutPrefix(header, "bytes=")
	if !ok {
		return false
	}
	for item := range strings.SplitSeq(list, ",") {
		first, last, _ := strings.Cut(strings.TrimSpace(item), "-")
		if len(first) > 18 || len(last) > 18 || first == "" && strings.Trim(last, "0") == "" {
			return false
		}
	}
	return true
}

// FuzzRange compares with net/http on the same bytes, and a reader that seeks with one that doesn't.
func FuzzRange(f *testing.F) {
	for _, s := range []string{"bytes=0-0", "bytes=-1", "bytes=5-,0-1", "bytes=", "bytes=,,1-2", "bytes= 1 - 2 ", "bytes=-",
		"bytes=20-", "bytes=0-18446744073709551615", "x", "BYTES=0-1", "lines=1-2", "bytes=-0,1-1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, header string) {
		both := contents(text)
		w, err := serve("GET", both["seeker"], "Range", header)
		if err == nil && w.Code == http.StatusRequestedRangeNotSatisfiable {
			t.Fatalf("Range %q: ServeContent refused what was taken", header)
		}
		oracle := httptest.NewRecorder()
		r := httptest.NewRequest("GET", "/", nil)
		r.Header.Set("Range", header)
		oracle.Header().Set("Content-Type", "application/octet-stream")
		http.ServeContent(oracle, r, "", time.Time{}, bytes.NewReader([]byte(text)))
		if err == nil && asNetHTTP(header) && header != "" && (oracle.Code != w.Code || w.Code == 206 &&
			!strings.HasPrefix(w.Header().Get("Content-Type"), "multipart") && oracle.Body.String() != w.Body.String()) {
			t.Fatalf("Range %q: %d %q, net/http has %d %q", header, w.Code, w.Body, oracle.Code, oracle.Body)
		}
		s, serr := serve("GET", both["stream"], "Range", header)
		if (serr == nil) != (err == nil) {
			t.Fatalf("Range %q: %v for a seeker, %v for a stream", header, err, serr)
		}
		if serr == nil && s.Code == 206 && s.Body.String() != w.Body.String() {
			t.Fatalf("Range %q: %q for a seeker, %q for a stream", header, w.Body, s.Body)
		}
	})
}
