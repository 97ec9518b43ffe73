package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"
)

// rawConn is a client that costs next to nothing, so that the server is what is measured.
type rawConn struct {
	c   net.Conn
	r   *bufio.Reader
	buf []byte
}

func dial(ctx context.Context, s *server) (*rawConn, error) {
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", s.addr)
	if err != nil {
		return nil, err
	}
	return &rawConn{c: c, r: bufio.NewReaderSize(c, 64<<10), buf: make([]byte, 1<<20)}, nil
}

// request is the bytes of a GET.
func request(s *server, path string, headers ...string) []byte {
	headers = append(headers, "Host: "+s.addr, "Accept: "+manifestType, "", "")
	return fmt.Appendf(nil, "GET %s HTTP/1.1\r\n%s", path, strings.Join(headers, "\r\n"))
}

// get sends a request and reads the answer to its end.
func (c *rawConn) get(req []byte) (int64, error) {
	if _, err := c.c.Write(req); err != nil {
		return 0, err
	}
	line, err := c.r.ReadSlice('\n')
	if err != nil {
		return 0, err
	}
	if !bytes.HasPrefix(line, []byte("HTTP/1.1 200")) {
		return 0, fmt.Errorf("answer is %q", line)
	}
	length := int64(-1)
	for {
		line, err := c.r.ReadSlice('\n')
		if err != nil {
			return 0, err
		}
		if len(line) <= 2 {
			break
		}
		if v, ok := bytes.CutPrefix(line, []byte("Content-Length: ")); ok {
			if length, err = strconv.ParseInt(strings.TrimSpace(string(v)), 10, 64); err != nil {
				return 0, err
			}
		}
	}
	if length < 0 {
		return 0, errors.New("answer has no Content-Length")
	}
	for left := length; left > 0; {
		n, err := c.r.Read(c.buf[:min(left, int64(len(c.buf)))])
		if left -= int64(n); err != nil {
			return 0, err
		}
	}
	return length, nil
}

// timed runs n pieces of work on so many clients and returns pieces per second.
func timed(clients, n int, work func(client, i int) error) (float64, error) {
	var next atomic.Int64
	var wg sync.WaitGroup
	errs := make([]error, clients)
	began := time.Now()
	for c := range clients {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				if err := work(c, i); err != nil {
					errs[c] = err
					return
				}
			}
		})
	}
	wg.Wait()
	return float64(n) / time.Since(began).Seconds(), errors.Join(errs...)
}

// pusher is a registry client for writing, over net/http.
type pusher struct {
	s     *server
	c     *http.Client
	token string // none when empty
}

func newPusher(s *server) *pusher {
	return &pusher{s: s, c: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64, WriteBufferSize: 64 << 10}}}
}

func (p *pusher) close() { p.c.CloseIdleConnections() }

// do sends a request and wants one status.
func (p *pusher) do(ctx context.Context, method, url, contentType string, body []byte, want int) (*http.Response, error) {
	if strings.HasPrefix(url, "/") {
		url = "http://" + p.s.addr + url
	}
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	if p.token != "" {
		req.Header.Set("Authorization", "Bearer "+p.token)
	}
	resp, err := p.c.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 1<<16))
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != want {
		return nil, fmt.Errorf("%s %s: %s, want %d: %.300s", method, url, resp.Status, want, answer)
	}
	return resp, nil
}

// putBlob pushes by POST and PUT, or with a PATCH in between as docker does.
func (p *pusher) putBlob(ctx context.Context, repo string, b []byte, d digest.Digest, patch bool) error {
	resp, err := p.do(ctx, http.MethodPost, "/v2/"+repo+"/blobs/uploads/", "", nil, http.StatusAccepted)
	if err != nil {
		return err
	}
	if patch {
		if resp, err = p.do(ctx, http.MethodPatch, resp.Header.Get("Location"), "application/octet-stream", b,
			http.StatusAccepted); err != nil {
			return err
		}
		b = nil
	}
	at := resp.Header.Get("Location")
	sep := "?"
	if strings.Contains(at, "?") {
		sep = "&"
	}
	_, err = p.do(ctx, http.MethodPut, at+sep+"digest="+d.String(), "application/octet-stream", b, http.StatusCreated)
	return err
}

func (p *pusher) putManifest(ctx context.Context, repo, ref string, m []byte) error {
	_, err := p.do(ctx, http.MethodPut, "/v2/"+repo+"/manifests/"+ref, manifestType, m, http.StatusCreated)
	return err
}
