package blobhttp_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/atcr-dev/atcr/internal/blobhttp"
	"github.com/atcr-dev/atcr/internal/pace"
)

// memory is an upload in memory.
type memory struct{ bytes.Buffer }

func (m *memory) Size() int64 { return int64(m.Len()) }

func TestParseContentRange(t *testing.T) {
	for _, test := range []struct {
		header      string
		start, last int64
		ok          bool
	}{
		{"0-0", 0, 0, true},
		{"10-19", 10, 19, true},
		{"bytes 10-19", 10, 19, true},
		{"bytes 10-19/20", 10, 19, true},
		{"bytes 10-19/*", 10, 19, true},
		{"", 0, 0, false},
		{"-", 0, 0, false},
		{"-5", 0, 0, false},
		{"5-", 0, 0, false},
		{"5-4", 0, 0, false},
		{"+0-4", 0, 0, false},
		{"0-4,5-6", 0, 0, false},
		{"0x0-4", 0, 0, false},
		{"0-99999999999999999999", 0, 0, false},
		{"0-9223372036854775807", 0, 0, false},
		{"0-4\n", 0, 0, false},
	} {
		start, last, err := blobhttp.ParseContentRange(test.header)
		if (err == nil) != test.ok || start != test.start || last != test.last {
			t.Errorf("%q: %d-%d, %v", test.header, start, last, err)
		}
		if err != nil && !errors.Is(err, blobhttp.ErrContentRange) {
			t.Errorf("%q: %v is not ErrContentRange", test.header, err)
		}
	}
}

func FuzzContentRange(f *testing.F) {
	for _, s := range []string{"0-0", "bytes 0-9/10", "1-", "-1", "00-09", "5-4"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, header string) {
		start, last, err := blobhttp.ParseContentRange(header)
		if err == nil && (start < 0 || last < start || last+1 < 0) {
			t.Fatalf("%q: %d-%d", header, start, last)
		}
		if again, _, err2 := blobhttp.ParseContentRange(fmt.Sprintf("%d-%d", start, last)); err == nil && (err2 != nil || again != start) {
			t.Fatalf("%q does not come back", header)
		}
	})
}

func TestAppend(t *testing.T) {
	for _, test := range []struct {
		name, have, body, contentRange string
		length, limit                  int64
		want                           string
		err                            error
	}{
		{"known length", "ab", "cd", "", 2, 0, "abcd", nil},
		{"unknown length", "ab", "cd", "", -1, 0, "abcd", nil},
		{"in place", "ab", "cd", "2-3", 2, 0, "abcd", nil},
		{"in place, unknown length", "ab", "cd", "2-3", -1, 0, "abcd", nil},
		{"overlap", "ab", "cd", "1-2", 2, 0, "ab", blobhttp.ErrOffset},
		{"gap", "ab", "cd", "3-4", 2, 0, "ab", blobhttp.ErrOffset},
		{"again from the start", "ab", "cd", "0-1", 2, 0, "ab", blobhttp.ErrOffset},
		{"range contradicts length", "ab", "cd", "2-9", 2, 0, "ab", blobhttp.ErrContentRange},
		{"malformed", "ab", "cd", "two", 2, 0, "ab", blobhttp.ErrContentRange},
		{"short of length", "ab", "cd", "", 5, 0, "abcd", blobhttp.ErrShortBody},
		{"short of range", "ab", "cd", "2-9", -1, 0, "abcd", blobhttp.ErrShortBody},
		{"longer than range", "ab", "cdef", "2-3", -1, 0, "abcd", blobhttp.ErrContentRange},
		{"over the limit, known", "ab", "cd", "", 2, 3, "ab", blobhttp.ErrTooLarge},
		{"over the limit, unknown", "ab", "cd", "", -1, 3, "abc", blobhttp.ErrTooLarge},
		{"just the limit", "ab", "cd", "", -1, 4, "abcd", nil},
		{"nothing", "ab", "", "", 0, 0, "ab", nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := httptest.NewRequest("PATCH", "/", io.NopCloser(strings.NewReader(test.body)))
			r.ContentLength = test.length
			if test.contentRange != "" {
				r.Header.Set("Content-Range", test.contentRange)
			}
			up := &memory{}
			up.WriteString(test.have)
			if err := blobhttp.Append(r, up, test.limit); !errors.Is(err, test.err) {
				t.Errorf("error %v, want %v", err, test.err)
			}
			if up.String() != test.want {
				t.Errorf("upload %q, want %q", up, test.want)
			}
		})
	}
}

func TestOffsetErrorSaysWhere(t *testing.T) {
	r := httptest.NewRequest("PATCH", "/", strings.NewReader("x"))
	r.Header.Set("Content-Range", "7-7")
	var e *blobhttp.OffsetError
	if err := blobhttp.Append(r, &memory{}, 0); !errors.As(err, &e) || e.Start != 7 || e.Size != 0 {
		t.Errorf("%v", err)
	}
}

func TestPaceBodyCutsASender(t *testing.T) {
	errs := make(chan error, 1)
	up := &memory{}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		pace.Body(w, r, 50*time.Millisecond, 1<<20)
		err := blobhttp.Append(r, up, 0)
		errs <- err
		if err != nil {
			w.WriteHeader(http.StatusRequestTimeout)
		}
	}))
	defer srv.Close()
	conn, err := net.Dial("tcp", srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "PATCH / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc") // and no more
	if err := <-errs; !errors.Is(err, blobhttp.ErrSlowBody) {
		t.Errorf("%v, want ErrSlowBody", err)
	}
	if up.String() != "abc" {
		t.Errorf("kept %q", up)
	}
	answer, _ := io.ReadAll(conn) // the connection is closed, else this would hang
	if !strings.Contains(string(answer), "408") {
		t.Errorf("answer %q", answer)
	}
}

func TestPaceBodyLetsGoodSendersBe(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		pace.Body(w, r, time.Minute, 1)
		up := &memory{}
		if err := blobhttp.Append(r, up, 0); err != nil || up.Len() != 1<<20 {
			t.Errorf("%d bytes, %v", up.Len(), err)
		}
		select {
		case <-r.Context().Done():
			t.Error("the context ended though the client is there")
		default:
		}
	}))
	defer srv.Close()
	for range 2 { // on one connection
		res, err := http.Post(srv.URL, "", bytes.NewReader(make([]byte, 1<<20)))
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
	}
}

func ExampleAppend() {
	up := &memory{}
	r := httptest.NewRequest("PATCH", "/upload", strings.NewReader("hello"))
	r.Header.Set("Content-Range", "0-4")
	err := blobhttp.Append(r, up, 0)
	fmt.Println(blobhttp.UploadRange(up.Size()), err)
	// Output: 0-4 <nil>
}
