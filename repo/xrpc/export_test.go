package xrpc_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atcr-dev/atcr/repo"
	"github.com/atcr-dev/atcr/repo/memstore"
	"github.com/atcr-dev/atcr/repo/repotest"
	"github.com/atcr-dev/atcr/repo/sqlstore"
	"github.com/atcr-dev/atcr/repo/xrpc"
)

// large is a repository that is larger than the buffers of a connection.
func large(t *testing.T) *repo.Repo {
	t.Helper()
	s, err := sqlstore.Open(t.Context(), filepath.Join(t.TempDir(), "repo.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return fill(t, s)
}

func fill(t *testing.T, s repo.Store) *repo.Repo {
	t.Helper()
	r := repotest.Open(t, s, repo.Options{DID: did})
	for i := range 24 {
		v, err := repo.RecordFrom(map[string]string{"v": strings.Repeat(fmt.Sprint(i%10), 900_000)})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.Apply(t.Context(), []repo.Write{{Action: repo.Put, Collection: coll, RKey: fmt.Sprint("k", i), Record: v}}); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

func clientHeader(r *http.Request) string { return r.Header.Get("X-Client") }

// ask asks for an export and reads the answer's header alone. The connection ends with the test.
func ask(t *testing.T, srv *httptest.Server, client, query string) *http.Response {
	t.Helper()
	conn, err := net.Dial("tcp", srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	fmt.Fprintf(conn, "GET /xrpc/com.atproto.sync.getRepo?did=%s%s HTTP/1.1\r\nHost: x\r\nX-Client: %s\r\n\r\n", did, query, client)
	resp, err := http.ReadResponse(bufio.NewReaderSize(conn, 16), nil)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK && resp.Header.Get("Retry-After") == "" {
		t.Errorf("%s without Retry-After", resp.Status)
	}
	return resp
}

// TestExportPlaces: one client has one export at a time, read or not; short ones need none of the places of those that take long.
func TestExportPlaces(t *testing.T) {
	t.Parallel()
	r := large(t)
	head, err := r.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(xrpc.NewHandler(xrpc.One(xrpc.Account{Repo: r}), &xrpc.Options{Client: clientHeader, MaxExports: 2}))
	t.Cleanup(srv.Close)
	for i, c := range []struct {
		client, query string
		want          int
	}{
		{"mallory", "", 200}, {"mallory", "", 429}, {"mallory", "&since=" + head.Rev, 429}, {"alice", "", 200}, {"bob", "", 503},
		{"bob", "&since=" + head.Rev, 200}, {"carol", "&since=" + head.Rev, 200},
	} {
		resp := ask(t, srv, c.client, c.query)
		if resp.StatusCode != c.want {
			t.Errorf("%d: %s%s: %d, want %d", i, c.client, c.query, resp.StatusCode, c.want)
		}
		if c.query != "" && resp.StatusCode == http.StatusOK {
			if b, err := io.ReadAll(resp.Body); err != nil || len(b) == 0 {
				t.Errorf("%d: %d bytes, %v", i, len(b), err)
			}
		}
	}
}

// TestExportsThatNobodyReads: clients that ask for the whole repository and then do not read neither hold up the other reads, for
// which the database has few connections, nor keep their own for ever.
func TestExportsThatNobodyReads(t *testing.T) {
	t.Parallel()
	r := large(t)
	srv := httptest.NewServer(xrpc.NewHandler(xrpc.One(xrpc.Account{Repo: r}),
		&xrpc.Options{ExportGrace: 3 * time.Second, ExportRate: 4 << 20,
			Client: clientHeader}))
	t.Cleanup(srv.Close)
	status := map[int]int{}
	for i := range 20 {
		status[ask(t, srv, fmt.Sprint(i), "").StatusCode]++
	}
	if status[200] != 6 || status[503] != 14 {
		t.Errorf("answers %v, want 6 of 200 and 14 of 503", status)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for range 10 {
		if _, err := r.Get(ctx, coll, "k7"); err != nil {
			t.Fatalf("a read beside them: %v", err)
		}
	}
	// They are cut after their time: some seconds.
	url := srv.URL + "/xrpc/com.atproto.sync.getRepo?did=" + did
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		code, _, car := get(t, url)
		if code == http.StatusOK {
			if info, err := repo.VerifyCAR(t.Context(), repo.Source{Reader: bytes.NewReader(car), DID: did,
				Key: r.PublicKey()}); err != nil || info.Records != 24 {
				t.Fatalf("%+v, %v", info, err)
			}
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("still %d", code)
		}
	}
	// Who was cut is not let in again at once.
	for i := range 6 {
		if got := ask(t, srv, fmt.Sprint(i), "").StatusCode; got != http.StatusTooManyRequests {
			t.Errorf("client %d, which was cut: %d", i, got)
		}
	}
}

// slow is the answer to a client that hangs up after a while in which it read nothing; 0: it reads all at once.
type slow struct {
	*httptest.ResponseRecorder
	takes time.Duration
}

func (s slow) Write(p []byte) (int, error) {
	if s.takes == 0 {
		return s.ResponseRecorder.Write(p)
	}
	time.Sleep(s.takes)
	return 0, net.ErrClosed
}

func serveSlow(h http.Handler, w slow, req *http.Request) {
	defer func() {
		if e := recover(); e != nil && e != http.ErrAbortHandler {
			panic(e)
		}
	}()
	h.ServeHTTP(w, req)
}

// TestLongExportsTakeTurns: who had a place for long exports gets none for as long again, so that a few who read slowly and ask again
// don't keep the others out; a short export it gets.
func TestLongExportsTakeTurns(t *testing.T) {
	t.Parallel()
	r := fill(t, memstore.New())
	head, err := r.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		h := xrpc.NewHandler(xrpc.One(xrpc.Account{Repo: r}), &xrpc.Options{Client: clientHeader, MaxExports: 1})
		for i, c := range []struct {
			after         time.Duration
			client, query string
			takes         time.Duration
			status        int
		}{
			{0, "mallory", "", 3 * time.Second, 200},
			{0, "mallory", "", 0, 429},
			{0, "mallory", "&since=" + head.Rev, 0, 200},
			{0, "bob", "", 0, 200},
			{2 * time.Second, "mallory", "", 0, 429},
			{2 * time.Second, "mallory", "", 0, 200},
		} {
			time.Sleep(c.after)
			req := httptest.NewRequest(http.MethodGet, "/xrpc/com.atproto.sync.getRepo?did="+did+c.query, nil)
			req.Header.Set("X-Client", c.client)
			w := slow{httptest.NewRecorder(), c.takes}
			serveSlow(h, w, req)
			switch body := w.Body.String(); {
			case w.Code != c.status:
				t.Errorf("%d: %d %.200q, want %d", i, w.Code, body, c.status)
			case c.status == 429 && !strings.Contains(body, "turn"):
				t.Errorf("%d: %s", i, body)
			case c.status == 200 && c.query == "" && c.takes == 0 && len(body) < 20<<20:
				t.Errorf("%d: %d bytes", i, len(body))
			}
		}
	})
}

// TestHeadOfAnExport: HEAD of getRepo walks through nothing.
func TestHeadOfAnExport(t *testing.T) {
	t.Parallel()
	r, _ := filled(t)
	resp, err := http.Head(serve(t, xrpc.Account{Repo: r}) + "com.atproto.sync.getRepo?did=" + did)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "application/vnd.ipld.car" {
		t.Errorf("%s %v", resp.Status, resp.Header)
	}
}
