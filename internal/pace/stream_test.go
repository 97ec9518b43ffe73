package pace

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"
	"time"
)

// Who reads too slowly is cut, who reads as fast as is wanted gets more than the grace would give.
func TestStream(t *testing.T) {
	ended := make(chan error, 1)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		out, lift := Stream(w, 300*time.Millisecond, 1<<20)
		defer lift()
		for range 64 {
			if _, err := out.Write(make([]byte, 1<<20)); err != nil {
				ended <- err
				return
			}
		}
		ended <- nil
	}))
	defer srv.Close()
	conn, err := net.Dial("tcp", srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	select {
	case err := <-ended:
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("a client that does not read: %v", err)
		}
	case <-time.After(60 * time.Second):
		t.Fatal("a client that does not read still holds its answer")
	}
	resp, err := http.Get(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if n, err := io.Copy(io.Discard, resp.Body); err != nil || n != 64<<20 {
		t.Errorf("who reads got %d bytes, %v", n, err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// Nothing was written: an error can still be answered after the bound is lifted.
func TestStreamNothing(t *testing.T) {
	rec := httptest.NewRecorder()
	_, lift := Stream(rec, time.Second, 1)
	lift()
	rec.WriteHeader(http.StatusTeapot)
	if rec.Code != http.StatusTeapot {
		t.Errorf("status %d", rec.Code)
	}
}

// Who sends, or takes, much at once has saved up a minute, not hours.
func TestPatienceIsCapped(t *testing.T) {
	const rate = 1 << 10
	for _, test := range []struct {
		name        string
		grace, want time.Duration
		steps       []int64 // bytes, or when negative milliseconds of waiting
	}{
		{"at first", 30 * time.Second, 30 * time.Second, nil},
		{"16 MiB at once", 30 * time.Second, time.Minute, []int64{16 << 20}},
		{"64 GiB at once", 30 * time.Second, time.Minute, []int64{64 << 30}},
		{"in pieces", 30 * time.Second, time.Minute, []int64{8 << 20, 8 << 20, 8 << 20}},
		{"a little", 30 * time.Second, 40 * time.Second, []int64{10 << 10}},
		{"waiting is paid", 30 * time.Second, 20 * time.Second, []int64{-10_000}},
		{"and earned again", 30 * time.Second, 50 * time.Second, []int64{-10_000, 30 << 10}},
		{"a pause after much", 30 * time.Second, 10 * time.Second, []int64{16 << 20, -50_000}},
		{"a longer grace stays", time.Hour, time.Hour, []int64{16 << 20}},
	} {
		p := newPatience(test.grace, rate)
		for _, step := range test.steps {
			if step < 0 {
				p.spend(time.Duration(-step)*time.Millisecond, 0)
			} else {
				p.spend(0, step)
			}
		}
		if p.left != test.want {
			t.Errorf("%s: %s is left, want %s", test.name, p.left, test.want)
		}
	}
}
