package sqlstore_test

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/url"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/atcr-dev/atcr/repo"
	"github.com/atcr-dev/atcr/repo/repotest"
	"github.com/atcr-dev/atcr/repo/sqlstore"
)

// commitMessage is what a client sends to commit: a simple query of PostgreSQL's protocol.
var commitMessage = []byte("Q\x00\x00\x00\x0bcommit\x00")

// cutter stands before a server's socket and cuts the connection on which a commit comes by: before the server has it, or after
// the server has answered, so that the client never hears of it.
type cutter struct {
	server string

	over chan struct{} // ends what stands still

	mu    sync.Mutex
	next  string // "before", "after", "stall": it stays open and nothing moves; empty: let it pass
	fired int
}

func (c *cutter) serve(ln net.Listener) {
	for {
		client, err := ln.Accept()
		if err != nil {
			return
		}
		go c.join(client)
	}
}

func (c *cutter) join(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("unix", c.server)
	if err != nil {
		return
	}
	defer server.Close()
	var mu sync.Mutex
	deaf := false // answers go nowhere, and the first one ends it
	go func() {
		defer client.Close()
		defer server.Close()
		buf := make([]byte, 64<<10)
		for {
			n, err := server.Read(buf)
			if err != nil {
				return
			}
			mu.Lock()
			cut := deaf
			mu.Unlock()
			if cut {
				return
			}
			if _, err := client.Write(buf[:n]); err != nil {
				return
			}
		}
	}()
	buf := make([]byte, 64<<10)
	for {
		n, err := client.Read(buf)
		if err != nil {
			return
		}
		if bytes.HasSuffix(buf[:n], commitMessage) {
			switch c.take() {
			case "before":
				return
			case "stall":
				<-c.over
				return
			case "after":
				mu.Lock()
				deaf = true
				mu.Unlock()
			}
		}
		if _, err := server.Write(buf[:n]); err != nil {
			return
		}
	}
}

func (c *cutter) take() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	next := c.next
	if c.next = ""; next != "" {
		c.fired++
	}
	return next
}

func (c *cutter) cut(when string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.next = when
}

// lostCommits loses the connection at the commit: Apply finds out what became of it.
func lostCommits(t *testing.T, address string, open func(testing.TB, string) *sqlstore.Store) {
	ctx := t.Context()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	c := &cutter{over: make(chan struct{}), server: filepath.Join(q.Get("host"), ".s.PGSQL.5432")}
	q.Set("host", t.TempDir())
	u.RawQuery = q.Encode()
	ln, err := net.Listen("unix", filepath.Join(q.Get("host"), ".s.PGSQL.5432"))
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go c.serve(ln)
	s := open(t, u.String())
	r := repotest.Open(t, s, repo.Options{})
	before, err := r.Apply(ctx, []repo.Write{write("a", "1")})
	if err != nil {
		t.Fatal(err)
	}
	stalledCommit(t, s, r, c)
	c.cut("after")
	kept, err := r.Apply(ctx, []repo.Write{write("b", "2")})
	if err != nil || kept.Since != before.Rev {
		t.Fatalf("a commit that was kept: %v", err)
	}
	c.cut("before")
	if _, err := r.Apply(ctx, []repo.Write{write("c", "3")}); !errors.Is(err, repo.ErrBusy) {
		t.Fatalf("a commit that was not kept: %v", err)
	}
	if _, err := r.Get(ctx, "io.atcr.tag", "c"); !errors.Is(err, repo.ErrNotFound) {
		t.Fatalf("what was refused is there: %v", err)
	}
	if h, err := r.Head(ctx); err != nil || h.CID != kept.CID {
		t.Fatalf("head %v, %v", h, err)
	}
	if _, err := r.Apply(ctx, []repo.Write{write("c", "4")}); err != nil {
		t.Fatalf("afterwards: %v", err)
	}
	if c.fired != 3 || r.Foreign() != 0 {
		t.Errorf("%d of 3 cuts were made; %d commits taken for others'", c.fired, r.Foreign())
	}
	repotest.Check(t, r, s)
}

// stalledCommit has a server, or the way to it, stand still at the commit: the writer gives up.
func stalledCommit(t *testing.T, s *sqlstore.Store, r *repo.Repo, c *cutter) {
	t.Helper()
	defer s.SetLimits(time.Second, time.Second)()
	c.cut("stall")
	defer close(c.over)
	done := make(chan error, 1)
	go func() {
		_, err := r.Apply(context.Background(), []repo.Write{write("s", "1")})
		done <- err
	}()
	select {
	case err := <-done:
		if !errors.Is(err, repo.ErrUnsettled) && !errors.Is(err, repo.ErrBusy) {
			t.Fatalf("a commit that stood still: %v", err)
		}
	case <-time.After(time.Minute):
		t.Fatal("a commit that stands still is waited for without end")
	}
}
