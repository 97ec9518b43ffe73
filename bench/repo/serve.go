package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"github.com/atcr-dev/atcr/repo"
	"github.com/atcr-dev/atcr/repo/firehose"
)

// writers is how many Applies wait at the same time, so that they share transactions.
const writers = 64

// serveFirehose serves the firehose of a repository of 20 000 records with so many events in its memory, and the same
// bytes by plain TCP. Each number on standard input makes it write as many events more; it then prints their bytes.
func serveFirehose(ctx context.Context, arg string) (err error) {
	events, err := strconv.Atoi(arg)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "atcr-bench-firehose-*")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	r, shut, err := openRepo(ctx, filepath.Join(dir, "repo.db"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, shut()) }()
	if err := writeLayers(ctx, r, 0, 20_000, 5000); err != nil {
		return err
	}
	s := firehose.New(r, &firehose.Options{MaxPerClient: -1})
	defer func() { err = errors.Join(err, s.Close()) }()
	web, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	hs := &http.Server{Handler: s}
	go hs.Serve(web) //nolint:errcheck // it ends with the process
	defer hs.Close() //nolint:errcheck // it ends with the process

	// The firehose keeps in memory what was written since its first consumer came.
	first, err := dialAll(ctx, web.Addr().String(), 1)
	if err != nil {
		return err
	}
	defer closeAll(first)
	if err := first[0].upgraded(); err != nil {
		return err
	}
	go io.Copy(io.Discard, first[0]) //nolint:errcheck // until the end
	if err := writeLayers(ctx, r, 20_000, events, 1); err != nil {
		return err
	}
	frames, last, err := framesAfter(ctx, r, 0)
	if err != nil {
		return err
	}
	plain, err := servePlain(frames)
	if err != nil {
		return err
	}
	defer plain.Close()
	out := json.NewEncoder(os.Stdout)
	line := served{Firehose: web.Addr().String(), Plain: plain.Addr().String(), Bytes: size(frames), Events: int64(len(frames))}
	if err := out.Encode(line); err != nil {
		return err
	}
	next := 20_000 + events
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		n, err := strconv.Atoi(strings.TrimSpace(in.Text()))
		if err != nil {
			return err
		}
		if err := writeLayers(ctx, r, next, n, 1); err != nil {
			return err
		}
		next += n
		var now int64
		var more [][]byte
		if more, now, err = framesAfter(ctx, r, last); err != nil {
			return err
		}
		last = now
		if err := out.Encode(size(more)); err != nil {
			return err
		}
	}
	return nil
}

// writeLayers writes n records from the i-th, so many in a commit.
func writeLayers(ctx context.Context, r *repo.Repo, i, n, batch int) error {
	var wg sync.WaitGroup
	errs := make([]error, writers)
	for w := range writers {
		wg.Go(func() {
			for at := w * batch; at < n && errs[w] == nil; at += writers * batch {
				var ws []repo.Write
				for k := at; k < min(n, at+batch); k++ {
					one, err := layer(i + k)
					if err != nil {
						errs[w] = err
						return
					}
					ws = append(ws, one)
				}
				_, errs[w] = r.Apply(ctx, ws)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// framesAfter is the events as they go over the wire.
func framesAfter(ctx context.Context, r *repo.Repo, after int64) (frames [][]byte, last int64, err error) {
	for e, err := range r.Events(ctx, after) {
		if err != nil {
			return nil, 0, err
		}
		head := []byte{0x82, 126, 0, 0}
		if n := len(e.Body); n < 126 {
			head = []byte{0x82, byte(n)}
		} else if n < 1<<16 {
			binary.BigEndian.PutUint16(head[2:], uint16(n))
		} else {
			return nil, 0, fmt.Errorf("an event of %d bytes", n)
		}
		frames, last = append(frames, append(head, e.Body...)), e.Seq
	}
	return frames, last, nil
}

func size(frames [][]byte) (n int64) {
	for _, f := range frames {
		n += int64(len(f))
	}
	return n
}

// servePlain sends the frames to whoever sends a line, some 256 KiB in a call.
func servePlain(frames [][]byte) (net.Listener, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go sendPlain(c, frames)
		}
	}()
	return l, nil
}

func sendPlain(c net.Conn, frames [][]byte) {
	defer c.Close()
	if _, err := bufio.NewReader(c).ReadString('\n'); err != nil {
		return
	}
	for at := 0; at < len(frames); {
		var batch net.Buffers
		for n := 0; at < len(frames) && n < 256<<10; at++ {
			batch = append(batch, frames[at])
			n += len(frames[at])
		}
		if _, err := batch.WriteTo(c); err != nil {
			return
		}
	}
}
