package firehose

import (
	"bufio"
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"

	"github.com/atcr-dev/atcr/repo"
)

const (
	batch = 256 << 10       // bytes in one write
	grace = 5 * time.Second // for a slow consumer to take what lies before its error
)

var errTooSlow = errors.New("too slow")

// consumer is one connection.
type consumer struct {
	s    *Server
	ws   *websocket.Conn // handshake, pings, close
	conn *lockedConn     // events
	seen atomic.Int64    // number of the last event written
	live atomic.Bool     // has caught up once
	slow atomic.Bool
}

// run sends events until the connection or the server ends.
func (c *consumer) run(ctx context.Context, cursor int64, live bool) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if err := c.s.fill(ctx); err != nil {
		return c.fail("InternalServerError", "the event log can't be read", err)
	}
	newest, err := c.s.repo.Seq(ctx)
	if err != nil {
		return c.fail("InternalServerError", "the event log can't be read", err)
	}
	switch {
	case live:
		cursor = newest
	case cursor > newest:
		return c.fail("FutureCursor", "Cursor in the future.", nil)
	}
	if err := c.outdated(ctx, cursor, newest); err != nil {
		return err
	}
	c.seen.Store(cursor)
	go c.ping(ctx, cancel)
	for {
		changed := c.s.repo.Changed()
		if err := c.s.fill(ctx); err != nil {
			return c.fail("InternalServerError", "the event log can't be read", err)
		}
		more, err := c.send(ctx)
		if err != nil {
			return err
		}
		if more {
			continue
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		case <-c.s.done:
			return c.ws.Close(websocket.StatusGoingAway, "the server is stopping")
		}
	}
}

// outdated tells a consumer that events after its cursor are gone.
func (c *consumer) outdated(ctx context.Context, cursor, newest int64) error {
	oldest, complete, err := c.s.repo.OldestEvent(ctx)
	switch {
	case errors.Is(err, repo.ErrNotFound) && cursor < newest:
	case errors.Is(err, repo.ErrNotFound):
		return nil
	case err != nil:
		return err
	case complete || cursor >= oldest:
		return nil
	}
	return c.write(wsFrame(infoFrame("OutdatedCursor", "Requested cursor exceeded limit. Possibly missing events")))
}

// send writes what is ready; more tells that there may be more.
func (c *consumer) send(ctx context.Context) (more bool, err error) {
	if c.slow.Load() {
		return false, c.fail("ConsumerTooSlow", "Stream consumer too slow", errTooSlow)
	}
	after := c.seen.Load()
	frames, last, ok := c.s.ready(after, batch)
	if !ok {
		if c.live.Load() {
			return false, c.fail("ConsumerTooSlow", "Stream consumer too slow", errTooSlow)
		}
		return true, c.replay(ctx, after)
	}
	if len(frames) == 0 {
		c.live.Store(true)
		return false, nil
	}
	if err := c.write(frames...); err != nil {
		if c.slow.Load() {
			err = errTooSlow
		}
		return false, err
	}
	c.seen.Store(last)
	return true, nil
}

// replay sends a batch from the log.
func (c *consumer) replay(ctx context.Context, after int64) error {
	var bufs [][]byte
	size, last := 0, after
	for e, err := range c.s.repo.Events(ctx, after) {
		if err != nil {
			return c.fail("InternalServerError", "the event log can't be read", err)
		}
		bufs = append(bufs, wsFrame(e.Body))
		size += len(e.Body)
		if last = e.Seq; size >= batch {
			break
		}
	}
	if len(bufs) == 0 { // pruned, or jumped over
		c.s.mu.RLock()
		last = c.s.floor
		c.s.mu.RUnlock()
	} else if err := c.write(bufs...); err != nil {
		return err
	}
	c.seen.Store(last)
	return nil
}

func (c *consumer) write(bufs ...[]byte) error {
	return c.conn.writeAll(bufs, c.s.o.WriteTimeout, &c.slow)
}

// tooSlow marks the consumer: what it is in the middle of may end within the grace.
func (c *consumer) tooSlow() {
	if c.slow.CompareAndSwap(false, true) && c.conn != nil {
		c.conn.Conn.SetWriteDeadline(time.Now().Add(grace)) //nolint:errcheck // it is gone, then
	}
}

// fail sends an error frame and closes.
func (c *consumer) fail(name, message string, cause error) error {
	err := c.conn.writeAll([][]byte{wsFrame(errorFrame(name, message))}, grace, nil)
	if err == nil {
		err = c.ws.Close(websocket.StatusPolicyViolation, name)
	}
	return errors.Join(cause, err)
}

func (c *consumer) ping(ctx context.Context, cancel func()) {
	tick := time.NewTicker(c.s.o.PingEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		one, stop := context.WithTimeout(ctx, c.s.o.PingEvery+c.s.o.WriteTimeout)
		err := c.ws.Ping(one)
		stop()
		if err != nil {
			cancel()
			return
		}
	}
}

// hijacked hands websocket.Accept a connection whose writes are locked, so that its control frames fall between our batches.
type hijacked struct {
	http.ResponseWriter
	conn *lockedConn
}

// Hijack implements http.Hijacker.
func (h *hijacked) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(h.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	if err := conn.SetDeadline(time.Time{}); err != nil { // those of the server's requests
		return nil, nil, errors.Join(err, conn.Close())
	}
	h.conn = &lockedConn{Conn: conn}
	return h.conn, bufio.NewReadWriter(rw.Reader, bufio.NewWriter(h.conn)), nil
}

type lockedConn struct {
	net.Conn
	mu sync.Mutex
}

func (l *lockedConn) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.Conn.Write(p)
}

// writeAll writes whole frames in one go. Once slow is set its shorter deadline stays.
func (l *lockedConn) writeAll(bufs [][]byte, limit time.Duration, slow *atomic.Bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.SetWriteDeadline(time.Now().Add(limit)); err != nil {
		return err
	}
	if slow != nil && slow.Load() {
		if err := l.SetWriteDeadline(time.Now().Add(grace)); err != nil {
			return err
		}
	}
	nb := net.Buffers(bufs)
	_, err := nb.WriteTo(l.Conn)
	if err == nil {
		err = l.SetWriteDeadline(time.Time{})
	}
	return err
}
