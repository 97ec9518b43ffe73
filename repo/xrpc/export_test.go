package xrpc_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/atcr-dev/atcr/repo"
	"github.com/atcr-dev/atcr/repo/repotest"
	"github.com/atcr-dev/atcr/repo/sqlstore"
	"github.com/atcr-dev/atcr/repo/xrpc"
)

// TestExportsThatNobodyReads: clients that ask for the whole repository and then do not read neither hold up the other reads, for
// which the database has few connections, nor keep their own for ever.
func TestExportsThatNobodyReads(t *testing.T) {
	t.Parallel()
	s, err := sqlstore.Open(t.Context(), filepath.Join(t.TempDir(), "repo.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	r := repotest.Open(t, s, repo.Options{DID: did})
	for i := range 24 { // more than a connection's buffers take
		v, err := repo.RecordFrom(map[string]string{"v": strings.Repeat(fmt.Sprint(i%10), 900_000)})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.Apply(t.Context(), []repo.Write{{Action: repo.Put, Collection: coll, RKey: fmt.Sprint("k", i), Record: v}}); err != nil {
			t.Fatal(err)
		}
	}
	srv := httptest.NewServer(xrpc.NewHandler(xrpc.One(xrpc.Account{Repo: r}),
		&xrpc.Options{ExportGrace: 3 * time.Second, ExportRate: 4 << 20}))
	t.Cleanup(srv.Close)
	status := map[int]int{}
	for range 20 {
		conn, err := net.Dial("tcp", srv.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		fmt.Fprintf(conn, "GET /xrpc/com.atproto.sync.getRepo?did=%s HTTP/1.1\r\nHost: x\r\n\r\n", did)
		resp, err := http.ReadResponse(bufio.NewReaderSize(conn, 16), nil)
		if err != nil {
			t.Fatal(err)
		}
		if status[resp.StatusCode]++; resp.StatusCode == http.StatusServiceUnavailable && resp.Header.Get("Retry-After") == "" {
			t.Error("503 without Retry-After")
		}
	}
	if status[200] != 2 || status[503] != 18 {
		t.Errorf("answers %v, want 2 of 200 and 18 of 503", status)
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
