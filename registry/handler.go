package registry

import (
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/atcr-dev/atcr/internal/blobhttp"
	"github.com/atcr-dev/atcr/internal/oci"
)

// Options tune a [Handler]. The zero value is useful.
type Options struct {
	// Authorizer decides who may do what. Nil lets everyone do everything, which is logged once.
	Authorizer Authorizer
	// Name rewrites a repository's name before the OCI grammar is checked, so that other spellings become legal. Answers
	// repeat the client's spelling. An error of it is sent when it is an [*Error]; another is 400 NAME_INVALID and not
	// shown. Nil changes nothing.
	Name func(name string) (string, error)
	// Log gets every error that is answered: this server's own (500, and 507 without [ErrUnavailable]) at level error, other responses
	// above 500 at warn, the rest at debug. Nil is slog.Default().
	Log *slog.Logger
	// MaxManifestBytes limits a pushed manifest; 0 is 4 MiB, which is also the most.
	MaxManifestBytes int64
	// MaxBlobBytes limits an upload; 0 is no limit.
	MaxBlobBytes int64
	// SparseIndexes takes an index whose children are not all there: a part of an image that was copied for one platform. Otherwise each
	// must have been pushed before.
	SparseIndexes bool
	// PageSize is the most entries that a page of a list has; 0 is 1000.
	PageSize int
	// BodyGrace and BodyRate bound how slowly a body may come: waiting for it may take BodyGrace plus its bytes divided by
	// BodyRate (bytes a second). 0 is 30 s and 1024; a negative BodyGrace is no limit.
	BodyGrace time.Duration
	BodyRate  int64
}

func (o Options) withDefaults() Options {
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Authorizer == nil {
		o.Authorizer = everyone{}
		o.Log.Warn("registry: no Authorizer is set: everyone who can reach this server may do all that the backend can")
	}
	if o.MaxManifestBytes <= 0 || o.MaxManifestBytes > oci.MaxManifestSize {
		o.MaxManifestBytes = oci.MaxManifestSize
	}
	if o.PageSize <= 0 {
		o.PageSize = 1000
	}
	if o.BodyGrace == 0 {
		o.BodyGrace = 30 * time.Second
	}
	if o.BodyRate <= 0 {
		o.BodyRate = 1024
	}
	return o
}

// everyone is the Authorizer of a registry without one.
type everyone struct{}

func (everyone) Authorize(*http.Request, []Access) (Actor, error) { return Actor{}, nil }

// Handler serves OCI Distribution 1.1. Make it by [NewHandler]. It is safe for concurrent use.
type Handler struct {
	backend Backend
	opts    Options
}

// NewHandler makes a handler over a backend. It panics when backend is nil; opts may be nil.
func NewHandler(backend Backend, opts *Options) *Handler {
	if backend == nil {
		panic("registry.NewHandler: backend is nil: pass a Backend, as local.Open returns one")
	}
	if opts == nil {
		opts = &Options{}
	}
	return &Handler{backend: backend, opts: opts.withDefaults()}
}

// WithFallback returns a handler that passes the registry's paths to h and all others to other, untouched. Put it in front of
// an http.ServeMux, which would redirect malformed paths before h could refuse them. It panics when other is nil.
func (h *Handler) WithFallback(other http.Handler) http.Handler {
	if other == nil {
		panic("registry.Handler.WithFallback: other is nil: pass the program's other routes, or serve the Handler alone")
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v2" || strings.HasPrefix(r.URL.Path, "/v2/") {
			h.ServeHTTP(w, r)
			return
		}
		other.ServeHTTP(w, r)
	})
}

// ServeHTTP implements [http.Handler].
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header["Docker-Distribution-Api-Version"] = apiVersion
	blobhttp.Harden(header)
	req, err := parseRequest(r.Method, r.URL, h.opts.Name)
	if err != nil {
		h.fail(w, r, req, err)
		return
	}
	if err := h.serve(w, r, req); err != nil {
		h.fail(w, r, req, err)
	}
}

var apiVersion = []string{"registry/2.0"}

// operation returns a request, or an error before it has written anything.
type operation func(h *Handler, w http.ResponseWriter, r *http.Request, req request, repo Repository) error

// operations are those on a repository, with what an actor needs for them.
var operations = map[op]struct {
	run     operation
	actions []Action
}{
	opTags:           {(*Handler).listTags, []Action{Pull}},
	opReferrers:      {(*Handler).listReferrers, []Action{Pull}},
	opManifestGet:    {(*Handler).getManifest, []Action{Pull}},
	opManifestPut:    {(*Handler).putManifest, []Action{Push}},
	opManifestDelete: {(*Handler).deleteManifest, []Action{Delete}},
	opBlobGet:        {(*Handler).getBlob, []Action{Pull}},
	opBlobDelete:     {(*Handler).deleteBlob, []Action{Delete}},
	opUploadStart:    {(*Handler).startUpload, []Action{Push}},
	opUploadStatus:   {(*Handler).uploadStatus, []Action{Push}},
	opUploadPatch:    {(*Handler).patchUpload, []Action{Push}},
	opUploadPut:      {(*Handler).putUpload, []Action{Push}},
	opUploadCancel:   {(*Handler).cancelUpload, []Action{Push}},
}

func (h *Handler) serve(w http.ResponseWriter, r *http.Request, req request) error {
	switch req.op {
	case opPing:
		return h.ping(w, r)
	case opCatalog:
		return h.listRepositories(w, r, req)
	}
	do := operations[req.op]
	actor, err := h.opts.Authorizer.Authorize(r, []Access{{Repository: req.repo, Actions: do.actions, Upload: req.upload}})
	if err != nil {
		return err
	}
	repo, err := h.backend.Repository(r.Context(), actor, req.repo)
	switch {
	case err != nil:
	case repo == nil:
		err = nilResult("Backend.Repository")
	default:
		err = do.run(h, w, r, req, repo)
	}
	return challenged(err, actor)
}

// ping returns GET /v2/, from which clients learn that this is a registry, and where to sign in.
func (h *Handler) ping(w http.ResponseWriter, r *http.Request) error {
	if _, err := h.opts.Authorizer.Authorize(r, []Access{{}}); err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, "application/json", []byte("{}"))
	return nil
}
