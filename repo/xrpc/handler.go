package xrpc

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"github.com/atcr-dev/atcr/internal/limit"
	"github.com/atcr-dev/atcr/repo"
)

// Options tune a Handler; nil works.
type Options struct {
	// Log hears of requests that failed by our fault; nil is slog.Default().
	Log *slog.Logger
	// Subscribe serves com.atproto.sync.subscribeRepos: a firehose.Server. nil leaves it out.
	Subscribe http.Handler
	// Client names whom a request is of, as the limits below count it; nil is the address that it came from, which behind a
	// reverse proxy is the proxy's.
	Client func(*http.Request) string
	// MaxExports is how many getRepo of more than 1 MiB may run at a time, since each holds a connection of the database and its
	// snapshot while its client reads; more get 503 with Retry-After. 0 is 6. Each client may have one, of whatever size, and
	// after a long one no other long one for as long as that took.
	MaxExports int
	// ExportGrace is how long a client may take to read a getRepo, beside a second for each ExportRate bytes: while it reads, the
	// database keeps the state that is exported, and its log grows. 0 is 15 s, and 64 KiB. Who was cut off gets no other for ten
	// minutes.
	ExportGrace time.Duration
	ExportRate  int64
}

// Handler serves /xrpc/NSID for the methods it knows. Safe for concurrent use.
type Handler struct {
	accounts Accounts
	log      *slog.Logger
	methods  map[string]http.Handler
	client   func(*http.Request) string
	exports  places        // of getRepo
	long     chan struct{} // one for each of them that is not short
	rests    *limit.Places // of clients with one of those, or that had one
	blocks   places        // of getBlocks
	grace    time.Duration // for the reader of an export
	rate     int64
}

// NewHandler serves the accounts' repositories.
func NewHandler(accounts Accounts, o *Options) *Handler {
	if o == nil {
		o = &Options{}
	}
	h := &Handler{
		accounts: accounts, log: o.Log, client: o.Client,
		exports: newPlaces(max(maxExports, 2*o.MaxExports), 1), long: make(chan struct{}, cmp.Or(max(o.MaxExports, 0), 6)),
		rests:  limit.NewPlaces(1),
		blocks: newPlaces(maxGetBlocks, maxGetBlocks/8),
		grace:  cmp.Or(o.ExportGrace, 15*time.Second), rate: cmp.Or(o.ExportRate, 64<<10),
	}
	if h.client == nil {
		h.client = remoteHost
	}
	h.methods = map[string]http.Handler{}
	for nsid, f := range map[string]func(http.ResponseWriter, query) error{
		"com.atproto.repo.describeRepo":    h.describeRepo,
		"com.atproto.repo.getRecord":       h.getRecord,
		"com.atproto.repo.listRecords":     h.listRecords,
		"com.atproto.sync.getRecord":       h.proveRecord,
		"com.atproto.sync.getRepo":         h.getRepo,
		"com.atproto.sync.getRepoStatus":   h.getRepoStatus,
		"com.atproto.sync.getLatestCommit": h.getLatestCommit,
		"com.atproto.sync.getBlocks":       h.getBlocks,
		"com.atproto.sync.getBlob":         h.getBlob,
		"com.atproto.sync.listBlobs":       h.listBlobs,
		"com.atproto.sync.listRepos":       h.listRepos,
	} {
		h.methods[nsid] = Query(o.Log, func(w http.ResponseWriter, r *http.Request) error {
			return f(w, query{Request: r, values: r.URL.Query()})
		})
	}
	if o.Subscribe != nil {
		h.methods["com.atproto.sync.subscribeRepos"] = o.Subscribe
	}
	return h
}

// Requests that run at a time.
const (
	maxExports   = 16
	maxGetBlocks = 32
)

func remoteHost(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

// full refuses a request for which there is no place. Not by WriteError: anybody causes it at will, and it is no trouble of ours to be
// logged.
func full(w http.ResponseWriter, status int, again time.Duration, format string, args ...any) {
	name := "NotEnoughResources"
	if status == http.StatusTooManyRequests {
		name = "RateLimitExceeded"
	}
	w.Header().Set("Retry-After", strconv.Itoa(int(again/time.Second)))
	WriteJSON(w, status, Errorf(status, name, format, args...))
}

// places bounds how many requests of a kind run, in all and of one client.
type places struct {
	all    chan struct{}
	client *limit.Places
}

func newPlaces(all, each int) places { return places{make(chan struct{}, all), limit.NewPlaces(each)} }

// enter takes a place, or refuses the request. leave gives it back; that of all at once, the client's after a while if one is given.
func (p places) enter(w http.ResponseWriter, client string, again time.Duration) (leave func(after time.Duration), ok bool) {
	if !p.client.Enter(client) {
		full(w, http.StatusTooManyRequests, again, "too many requests of this client at once")
		return nil, false
	}
	select {
	case p.all <- struct{}{}:
	default:
		p.client.Leave(client)
		full(w, http.StatusServiceUnavailable, again, "%d such requests run already: try again later", cap(p.all))
		return nil, false
	}
	return func(after time.Duration) {
		<-p.all
		if after > 0 {
			time.AfterFunc(after, func() { p.client.Leave(client) })
			return
		}
		p.client.Leave(client)
	}, true
}

// Methods is a handler for each method, by NSID.
func (h *Handler) Methods() map[string]http.Handler { return maps.Clone(h.methods) }

// ServeHTTP serves /xrpc/NSID; a method it doesn't know is 501 MethodNotImplemented.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if m, ok := h.methods[strings.TrimPrefix(r.URL.Path, "/xrpc/")]; ok {
		m.ServeHTTP(w, r)
		return
	}
	WriteError(w, r, h.log, NotImplemented())
}

// NotImplemented is the answer to an unknown method.
func NotImplemented() *Error {
	return Errorf(http.StatusNotImplemented, "MethodNotImplemented", "Method Not Implemented")
}

// Query makes a handler of a read: GET and HEAD only; the error that f returns is written.
func Query(log *slog.Logger, f func(http.ResponseWriter, *http.Request) error) http.Handler {
	return method(log, f, "GET", http.MethodGet, http.MethodHead)
}

// Procedure makes a handler of a call by POST; the error that f returns is written.
func Procedure(log *slog.Logger, f func(http.ResponseWriter, *http.Request) error) http.Handler {
	return method(log, f, "POST", http.MethodPost)
}

func method(log *slog.Logger, f func(http.ResponseWriter, *http.Request) error, want string, allowed ...string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		err := error(InvalidRequest("Incorrect HTTP method (%s) expected %s", r.Method, want))
		for _, m := range allowed {
			if r.Method == m {
				err = f(w, r)
			}
		}
		if err != nil {
			WriteError(w, r, log, err)
		}
	})
}

// query is a request with its parameters.
type query struct {
	*http.Request
	values map[string][]string
}

func (q query) get(name string) string {
	if v := q.values[name]; len(v) > 0 {
		return v[0]
	}
	return ""
}

func (q query) required(name string) (string, error) {
	if v := q.get(name); v != "" {
		return v, nil
	}
	return "", InvalidRequest("Error: Params must have the property %q", name)
}

func (q query) limit(normal, most int) (int, error) {
	s := q.get("limit")
	if s == "" {
		return normal, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 || n > most {
		return 0, InvalidRequest("Error: limit must be a number from 1 to %d", most)
	}
	return n, nil
}

// did returns the account of the parameter did, which must be a DID and active.
func (h *Handler) did(q query) (Account, error) {
	a, err := h.anyDID(q)
	if err == nil && a.Status != "" {
		err = inactive(a)
	}
	return a, err
}

func inactive(a Account) error {
	names := map[string]string{"takendown": "RepoTakendown", "suspended": "RepoSuspended", "deactivated": "RepoDeactivated"}
	name, ok := names[a.Status]
	if !ok {
		name = "RepoDeactivated"
	}
	return Errorf(http.StatusBadRequest, name, "Repo is not active (%s): %s", a.Status, a.Repo.DID())
}

func (h *Handler) anyDID(q query) (Account, error) {
	did, err := q.required("did")
	if err != nil {
		return Account{}, err
	}
	if _, err := syntax.ParseDID(did); err != nil {
		return Account{}, InvalidRequest("Error: did must be a valid did")
	}
	a, err := h.accounts.Account(q.Context(), did)
	if errors.Is(err, repo.ErrNotFound) {
		return Account{}, Errorf(http.StatusBadRequest, "RepoNotFound", "Could not find repo for DID: %s", did)
	}
	return a, err
}

// actor returns the account of the parameter repo, a DID or a handle. missing is the error's name where there is none.
func (h *Handler) actor(q query, missing string) (Account, error) {
	id, err := q.required("repo")
	if err != nil {
		return Account{}, err
	}
	if _, err := syntax.ParseAtIdentifier(id); err != nil {
		return Account{}, InvalidRequest("Error: repo must be a valid did or a handle")
	}
	a, err := h.accounts.Account(q.Context(), id)
	switch {
	case errors.Is(err, repo.ErrNotFound):
		return a, Errorf(http.StatusBadRequest, missing, "Could not find repo: %s", id)
	case err != nil:
		return a, fmt.Errorf("find the repository %s: %w", id, err)
	case a.Status != "":
		return a, inactive(a)
	}
	return a, nil
}

func (q query) collection() (string, error) {
	c, err := q.required("collection")
	if err == nil {
		if _, bad := syntax.ParseNSID(c); bad != nil {
			err = InvalidRequest("Error: collection must be a valid nsid")
		}
	}
	return c, err
}

func (q query) rkey() (string, error) {
	k, err := q.required("rkey")
	if err == nil {
		if _, bad := syntax.ParseRecordKey(k); bad != nil {
			err = InvalidRequest("Error: rkey must be a valid record key")
		}
	}
	return k, err
}
