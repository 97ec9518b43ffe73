package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/atcr-dev/atcr/bench/internal/rounds"
)

const consumers = 100

// served is the first line of the child that serves a firehose.
type served struct {
	Firehose string // address of the WebSocket
	Plain    string // address that sends the same bytes to whoever sends a line
	Bytes    int64  // of all frames of the backlog
	Events   int64
}

// feed is that child.
type feed struct {
	served
	cmd   *exec.Cmd
	in    io.WriteCloser
	lines *bufio.Reader
}

func startFeed(ctx context.Context, events int) (*feed, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	f := &feed{cmd: exec.CommandContext(ctx, self, childVerb, "firehose", strconv.Itoa(events))}
	rounds.DieWithParent(f.cmd)
	f.cmd.Stderr = os.Stderr
	if f.in, err = f.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := f.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := f.cmd.Start(); err != nil {
		return nil, err
	}
	f.lines = bufio.NewReader(out)
	if err := f.read(&f.served); err != nil {
		return nil, errors.Join(err, f.stop())
	}
	return f, nil
}

func (f *feed) read(into any) error {
	line, err := f.lines.ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("the firehose said nothing: %w", err)
	}
	return json.Unmarshal(line, into)
}

// more makes it write so many events, and returns their bytes.
func (f *feed) more(n int) (bytes int64, err error) {
	if _, err := fmt.Fprintln(f.in, n); err != nil {
		return 0, err
	}
	return bytes, f.read(&bytes)
}

// stop ends it by the end of its input.
func (f *feed) stop() error {
	return errors.Join(f.in.Close(), f.cmd.Wait())
}

const upgrade = "GET /?cursor=0 HTTP/1.1\r\nHost: bench\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
	"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"

// consumer is one that costs next to nothing.
type consumer struct {
	net.Conn
	buf []byte
}

func dialAll(ctx context.Context, addr string, n int) (cs []*consumer, err error) {
	for range n {
		c, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
		if err != nil {
			closeAll(cs)
			return nil, err
		}
		cs = append(cs, &consumer{c, make([]byte, 256<<10)})
	}
	return cs, nil
}

func closeAll(cs []*consumer) {
	for _, c := range cs {
		c.Close()
	}
}

// upgraded reads the answer of the handshake, byte by byte.
func (c *consumer) upgraded() error {
	if _, err := io.WriteString(c, upgrade); err != nil {
		return err
	}
	var head strings.Builder
	for !strings.HasSuffix(head.String(), "\r\n\r\n") {
		if _, err := io.ReadFull(c, c.buf[:1]); err != nil {
			return err
		}
		head.WriteByte(c.buf[0])
	}
	if !strings.HasPrefix(head.String(), "HTTP/1.1 101 ") {
		return fmt.Errorf("the firehose answers %q", head.String())
	}
	return nil
}

// take reads so many bytes.
func (c *consumer) take(n int64) error {
	if err := c.SetReadDeadline(time.Now().Add(2 * time.Minute)); err != nil {
		return err
	}
	for n > 0 {
		got, err := c.Read(c.buf[:min(n, int64(len(c.buf)))])
		if n -= int64(got); err != nil {
			return err
		}
	}
	return nil
}

// each does something with all consumers at once and returns how long it took.
func each(cs []*consumer, f func(*consumer) error) (float64, error) {
	var wg sync.WaitGroup
	errs := make([]error, len(cs))
	began := time.Now()
	for i, c := range cs {
		wg.Go(func() { errs[i] = f(c) })
	}
	wg.Wait()
	return since(began), errors.Join(errs...)
}

// measureFirehose moves the same frames to 100 consumers: by the firehose from its memory, and by plain TCP.
func measureFirehose(ctx context.Context, b *bench) (err error) {
	f, err := startFeed(ctx, b.scale(2400))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.stop()) }()
	var plain, ours float64
	for _, side := range []struct {
		addr  string
		hello func(*consumer) error
		took  *float64
	}{
		{f.Plain, func(c *consumer) error { _, err := io.WriteString(c, "go\n"); return err }, &plain},
		{f.Firehose, (*consumer).upgraded, &ours},
	} {
		cs, err := dialAll(ctx, side.addr, consumers)
		if err != nil {
			return err
		}
		*side.took, err = each(cs, func(c *consumer) error {
			if err := side.hello(c); err != nil {
				return err
			}
			return c.take(f.Bytes)
		})
		closeAll(cs)
		if err != nil {
			return err
		}
	}
	b.Note(rounds.Row{
		What: fmt.Sprintf("firehose to %d consumers, events of 4 to 5 KB",
			consumers), To: "plain TCP", Least: 0.5, Unit: "events per s to each",
	}, plain/ours, float64(f.Events)/ours*1000)
	return nil
}

// measureDeaf writes events while 100 consumers read: as fast as they are made, with and without one more that never
// reads. What both processes took is what matters.
func measureDeaf(ctx context.Context, b *bench) error {
	without, err := b.live(ctx, false)
	if err != nil {
		return err
	}
	with, err := b.live(ctx, true)
	if err != nil {
		return err
	}
	b.Within(rounds.Row{
		What: "memory of a firehose with 100 consumers and one that never reads", To: "without that one", Most: 1.25, Unit: "MB",
	}, with, without)
	return nil
}

// live returns the peak of the server's memory, in MB.
func (b *bench) live(ctx context.Context, deaf bool) (mb float64, err error) {
	f, err := startFeed(ctx, 10)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.stop()) }()
	cs, err := dialAll(ctx, f.Firehose, consumers)
	if err != nil {
		return 0, err
	}
	defer closeAll(cs)
	if _, err := each(cs, func(c *consumer) error { return errors.Join(c.upgraded(), c.take(f.Bytes)) }); err != nil {
		return 0, err
	}
	what := "a firehose with 100 consumers"
	if deaf {
		what += " and one that never reads"
		never, err := dialAll(ctx, f.Firehose, 1)
		if err != nil {
			return 0, err
		}
		defer closeAll(never)
		if err := never[0].upgraded(); err != nil {
			return 0, err
		}
	}
	total := b.scale(10_000)
	began := time.Now()
	for left := total; left > 0; left -= 500 {
		bytes, err := f.more(min(left, 500))
		if err != nil {
			return 0, err
		}
		if _, err := each(cs, func(c *consumer) error { return c.take(bytes) }); err != nil {
			return 0, err
		}
	}
	fmt.Fprintf(os.Stderr, "  %s: %.0f events per s to each, as they are made\n", what, float64(total)/since(began)*1000)
	_, kib := rounds.Memory(f.cmd.Process.Pid)
	b.Memory(what, 0, kib)
	return float64(kib) / 1024, nil
}
