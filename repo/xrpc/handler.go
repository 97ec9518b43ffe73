package xrpc

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"github.com/atcr-dev/atcr/repo"
)

// Options tune a Handler; nil works.
type Options struct {
	// Log hears of requests that failed by our fault; nil is slog.Default().
	Log *slog.Logger
	// Subscribe serves com.atproto.sync.subscribeRepos: a firehose.Server. nil leaves it out.
	Subscribe http.Handler
	// MaxExports is how many getRepo may run at a time, since each holds a connection of the database and its snapshot; more
	// get 503 with Retry-After. 0 is 2.
	MaxExports int
	// ExportGrace is how long a client may take to read a getRepo, beside a second for each ExportRate bytes: while it reads, the
	// database keeps the state that is exported, and its log grows. 0 is a minute, and 64 KiB.
	ExportGrace time.Duration
	ExportRate  int64
}

// Handler serves /xrpc/NSID for the methods it knows. Safe for concurrent use.
type Handler struct {
	accounts Accounts
	log      *slog.Logger
	methods  map[string]http.Handler
	exports  chan struct{} // one for each getRepo that runs
	grace    time.Duration // for the reader of one
	rate     int64
}

// NewHandler serves the accounts' repositories.
func NewHandler(accounts Accounts, o *Options) *Handler {
	if o == nil {
		o = &Options{}
	}
	h := &Handler{
		accounts: accounts, log: o.Log, exports: make(chan struct{}, cmp.Or(max(o.MaxExports, 0), 2)),
		grace: cmp.Or(o.ExportGrace, time.Minute), rate: cmp.Or(o.ExportRate, 64<<10),
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

// Methods is a handler for each method, by NSID.
func (h *Handler) Methods() map[string]http.Handler { return maps.Clone(h.methods) }

// ServeHTTP returns /xrpc/NSID; a method it doesn't know is 501 MethodNotImplemented.
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
