package hold_test

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// stuck is a client that does not read its answer until it is freed.
type stuck struct {
	*httptest.ResponseRecorder
	writes, free chan struct{}
	bounded      atomic.Bool
}

func (s *stuck) Write(p []byte) (int, error) {
	s.writes <- struct{}{}
	<-s.free
	return s.ResponseRecorder.Write(p)
}

func (s *stuck) SetWriteDeadline(at time.Time) error {
	if !at.IsZero() {
		s.bounded.Store(true)
	}
	return nil
}

// Clients that don't read their answers keep no place for heavy methods from others, and are not waited for without end. Their own
// places they have until then.
func TestHeavyAnswersThatNobodyReads(t *testing.T) {
	n := newNetwork(t)
	h := newHold(t, n)
	ask := func(client int, w http.ResponseWriter) {
		r := httptest.NewRequest(http.MethodGet, "/xrpc/io.atcr.hold.getLayersForManifest?manifest=at://"+n.user("alice").did+
			"/io.atcr.manifest/x", nil)
		r.RemoteAddr = fmt.Sprintf("192.0.2.%d:1", client/2)
		(*h.handler.Load()).ServeHTTP(w, r)
	}
	free := make(chan struct{})
	var all sync.WaitGroup
	var slow []*stuck
	for i := range 8 {
		s := &stuck{ResponseRecorder: httptest.NewRecorder(), writes: make(chan struct{}, 1), free: free}
		slow = append(slow, s)
		all.Go(func() { ask(2+i, s) })
		<-s.writes
	}
	for client, want := range map[int]int{200: 200, 2: 429} {
		w := httptest.NewRecorder()
		if ask(client, w); w.Code != want {
			t.Errorf("client %d beside them: %d %s, want %d", client, w.Code, w.Body, want)
		}
	}
	close(free)
	all.Wait()
	for i, s := range slow {
		if s.Code != http.StatusOK || !s.bounded.Load() {
			t.Errorf("%d: %d, bounded %t", i, s.Code, s.bounded.Load())
		}
	}
}

// A heavy call whose body has not come has no place yet.
func TestHeavyBodiesThatDoNotCome(t *testing.T) {
	n := newNetwork(t)
	alice := n.user("alice")
	h := newHold(t, n)
	for range 2 {
		token, err := alice.token(t.Context(), h.DID(), "io.atcr.hold.deleteUserData")
		must(t, err)
		conn, err := net.Dial("tcp", h.srv.Listener.Addr().String())
		must(t, err)
		t.Cleanup(func() { conn.Close() })
		fmt.Fprintf(conn, "POST /xrpc/io.atcr.hold.deleteUserData HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n"+
			"Content-Length: 10\r\nExpect: 100-continue\r\n\r\n", token)
		line, err := bufio.NewReader(conn).ReadString('\n')
		if err != nil || !strings.Contains(line, "100 Continue") { // it is being read
			t.Fatalf("%q, %v", line, err)
		}
	}
	if code, out := h.call(alice, "GET", "io.atcr.hold.exportUserData", "", nil); code != http.StatusOK {
		t.Errorf("another call: %d %v", code, out)
	}
}
