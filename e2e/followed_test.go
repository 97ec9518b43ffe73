package e2e

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/atcr-dev/atcr/hold"
	"github.com/atcr-dev/atcr/hold/datadir"
	"github.com/atcr-dev/atcr/identity"
	"github.com/atcr-dev/atcr/internal/realtest"
	"github.com/atcr-dev/atcr/repo"
)

// runningHold is a hold in this process with a did:plc of its own, stopped and started on one folder and one address. Who asks
// while it is stopped waits.
type runningHold struct {
	t      *testing.T
	cfg    hold.Config
	server *hold.Server
	host   string // localhost:PORT
	now    atomic.Pointer[http.Handler]
}

func newRunningHold(t *testing.T, plc, owner string) *runningHold {
	t.Helper()
	h := &runningHold{t: t}
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for h.now.Load() == nil {
			select {
			case <-time.After(20 * time.Millisecond):
			case <-r.Context().Done():
				panic(http.ErrAbortHandler)
			}
		}
		(*h.now.Load()).ServeHTTP(w, r)
	}))
	h.host = strings.Replace(strings.TrimPrefix(front.URL, "http://"), "127.0.0.1", "localhost", 1)
	h.cfg = hold.Config{
		Dir: t.TempDir(), PublicURL: "http://" + h.host, OwnerDID: owner, Public: true, AllowAllCrew: true, TestMode: true,
		PLCURL: plc, Identity: identity.Config{Method: "plc"}, Log: slog.New(slog.DiscardHandler),
	}
	t.Cleanup(func() { front.CloseClientConnections(); h.stop(); front.Close() })
	return h
}

func (h *runningHold) start() {
	h.t.Helper()
	s, err := hold.New(h.t.Context(), h.cfg)
	if err != nil {
		h.t.Fatal(err)
	}
	h.server = s
	handler := s.Handler()
	h.now.Store(&handler)
}

func (h *runningHold) stop() {
	h.t.Helper()
	h.now.Store(nil)
	if h.server != nil {
		if err := h.server.Close(); err != nil {
			h.t.Error(err)
		}
		h.server = nil
	}
}

// dataDir is where the hold lies.
func (h *runningHold) dataDir() datadir.Config {
	h.t.Helper()
	dir, err := h.cfg.DataDir()
	if err != nil {
		h.t.Fatal(err)
	}
	return dir
}

// offline does something to the repository while the hold is stopped, and starts it again.
func (h *runningHold) offline(f func(*repo.Repo)) {
	h.t.Helper()
	h.stop()
	o, err := datadir.OpenRepo(h.t.Context(), h.dataDir())
	if err != nil {
		h.t.Fatal(err)
	}
	defer h.start()
	defer func() {
		if err := o.Close(); err != nil {
			h.t.Error(err)
		}
	}()
	f(o.Repo)
}

// read looks at the repository, beside the running hold.
func (h *runningHold) read(f func(*repo.Repo)) {
	h.t.Helper()
	o, err := datadir.ReadRepo(h.t.Context(), h.dataDir())
	if err != nil {
		h.t.Fatal(err)
	}
	defer o.Close() //nolint:errcheck // nothing was written
	f(o.Repo)
}

// events are those in the hold's log that come after a number.
func (h *runningHold) events(after int64) (out []realtest.Event) {
	h.t.Helper()
	h.read(func(r *repo.Repo) {
		for e, err := range r.Events(h.t.Context(), after) {
			if err != nil {
				h.t.Fatal(err)
			}
			parsed, err := realtest.ParseEvent(e.Body)
			if err != nil {
				h.t.Fatalf("event %d: %v", e.Seq, err)
			}
			out = append(out, parsed)
		}
	})
	return out
}
