package pace_test

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

	"github.com/atcr-dev/atcr/internal/pace"
)

// The pace that was set last is the one that counts, also when it is none.
func TestTheLaterPaceCounts(t *testing.T) {
	errs := make(chan error, 1)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		pace.Body(w, r, time.Hour, 1<<20)
		pace.Body(w, r, 20*time.Millisecond, 1<<20)
		_, err := io.ReadAll(r.Body)
		errs <- err
		before := r.Body
		pace.Body(w, r, 0, 0)
		if r.Body == before {
			t.Error("the pace was not taken away")
		}
	}))
	defer srv.Close()
	conn, err := net.Dial("tcp", srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc") // and no more
	select {
	case err := <-errs:
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%v", err)
		}
	case <-time.After(time.Minute):
		t.Fatal("a stalled body was not cut")
	}
}
