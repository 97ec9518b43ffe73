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
