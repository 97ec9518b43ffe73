package xrpc

import (
	"errors"
	"io"
	"log/slog"
	"net/http"
	"os"
	"time"

	"github.com/atcr-dev/atcr/internal/limit"
	"github.com/atcr-dev/atcr/internal/pace"
	"github.com/atcr-dev/atcr/repo"
)

// shortExport is how many bytes of an export are held in memory: one that ends there is sent when the database has been left.
const shortExport = 1 << 20

// barredFor is how long a client that was cut off, since it did not read, gets no other export.
const barredFor = 10 * time.Minute

// getRepo streams the repository. After the first byte an error can only be told by breaking the connection off.
func (h *Handler) getRepo(w http.ResponseWriter, q query) error {
	a, err := h.did(q)
	if err != nil {
		return err
	}
	since := q.get("since")
	if since != "" {
		if _, err := repo.ParseTID(since); err != nil {
			return InvalidRequest("Error: since must be a tid")
		}
	}
	if q.Method == http.MethodHead {
		w.Header().Set("Content-Type", carType)
		return nil
	}
	client := h.client(q.Request)
	leave, ok := h.exports.enter(w, client, 30*time.Second)
	if !ok {
		return nil
	}
	var barred time.Duration
	defer func() { leave(barred) }()
	paced, lift := pace.Stream(w, h.grace, h.rate)
	defer lift()
	out := &export{w: w, paced: paced, places: h.long, rests: h.rests, client: client}
	defer out.end()
	err = repo.ExportCAR(q.Context(), a.Repo, out, &repo.ExportOptions{Since: since})
	if err == nil {
		err = out.send()
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errNoPlace):
		full(w, http.StatusServiceUnavailable, 30*time.Second, "%d exports run already: try again later", cap(h.long))
		return nil
	case errors.Is(err, errRest):
		full(w, http.StatusTooManyRequests, 30*time.Second, "this client had a long export just now: others' turn")
		return nil
	case out.sent == 0 && out.err == nil:
		return err
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		barred = barredFor
	}
	if h.log != nil {
		level := slog.LevelWarn
		if out.err != nil { // the client's doing
			level = slog.LevelDebug
		}
		h.log.Log(q.Context(), level, "an export broke off", "did", a.Repo.DID(), "bytes", out.sent, "error", err)
	}
	panic(http.ErrAbortHandler)
}

var (
	errNoPlace = errors.New("too many exports run")
	errRest    = errors.New("the client's last long export is not as long ago as it took")
)

// export is what is written of one: the first bytes are held back, and when there are more, one of the long exports' places is needed.
type export struct {
	w      http.ResponseWriter
	paced  io.Writer
	places chan struct{}
	rests  *limit.Places // one for each client that has a long export, or rests from one
	client string
	since  time.Time // when it got one of the places; zero: it has none
	held   []byte
	sent   int64
	err    error // of the client's connection
}

func (e *export) Write(p []byte) (int, error) {
	if e.since.IsZero() {
		if len(e.held)+len(p) <= shortExport {
			e.held = append(e.held, p...)
			return len(p), nil
		}
		if !e.rests.Enter(e.client) {
			return 0, errRest
		}
		select {
		case e.places <- struct{}{}:
			e.since = time.Now()
		default:
			e.rests.Leave(e.client)
			return 0, errNoPlace
		}
	}
	if err := e.send(); err != nil {
		return 0, err
	}
	return e.pass(p)
}

// send sends what was held back.
func (e *export) send() error {
	held := e.held
	e.held = nil
	_, err := e.pass(held)
	return err
}

func (e *export) pass(p []byte) (n int, err error) {
	if len(p) == 0 {
		return 0, nil
	}
	e.w.Header().Set("Content-Type", carType)
	n, e.err = e.paced.Write(p)
	e.sent += int64(n)
	return n, e.err
}

// end gives the place up. The client gets none for as long as it had this one: else a few that read slowly and ask again would keep
// all others out for ever.
func (e *export) end() {
	if !e.since.IsZero() {
		<-e.places
		time.AfterFunc(time.Since(e.since), func() { e.rests.Leave(e.client) })
	}
}
