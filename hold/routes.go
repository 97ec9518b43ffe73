package hold

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/atcr-dev/atcr"
	"github.com/atcr-dev/atcr/hold/internal/upload"
	"github.com/atcr-dev/atcr/identity/serviceauth"
	"github.com/atcr-dev/atcr/internal/blobhttp"
	"github.com/atcr-dev/atcr/internal/httpx"
	"github.com/atcr-dev/atcr/internal/limit"
)

// who says who may call a method.
type who int

const (
	anyone   who = iota // no token is looked at
	uploadID            // the uploadId is the right; a token may be sent and is then checked
	signedIn            // a service token
	reader              // and the right to read layers
	writer              // and blob:write
	admin               // captain or crew:admin
	appview             // the trusted AppView, in the name of a user
)

const (
	smallBody    = 64 << 10
	listBody     = 1 << 20
	manifestBody = 5 << 20 // a notifyManifest carries the manifest's fields
)

// method is one XRPC method. run returns what is sent as JSON, or an error; raw methods write themselves.
type method struct {
	verbs  []string
	who    who
	legacy bool  // tokens as upstream's AppView sends them are taken
	heavy  bool  // it reads records without a bound on their number: see heavy
	body   int64 // longest body
	run    func(context.Context, *call) (any, error)
	raw    func(http.ResponseWriter, *http.Request, *call) error
}

// heavy are places for methods that go through records: few at once, so that they leave the database to others.
type heavy struct {
	all  chan struct{}
	each *limit.Places // of one caller, or of one client without a token
}

const (
	maxHeavy      = 8
	maxHeavyOfOne = 2
)

func newHeavy() heavy { return heavy{make(chan struct{}, maxHeavy), limit.NewPlaces(maxHeavyOfOne)} }

type runner = func(context.Context, *call) (any, error)

// enter takes a place of all, which once gives up when run returns, so that nobody holds it by not reading the answer; and one of the
// caller's own, which bounds how many answers wait for it in memory and leave gives up.
func (h heavy) enter(key string, run runner) (once runner, leave func(), err error) {
	if !h.each.Enter(key) {
		return nil, nil, &xrpcError{status: http.StatusTooManyRequests, name: "RateLimitExceeded",
			message: "such requests of yours run already", retryAfter: time.Second}
	}
	select {
	case h.all <- struct{}{}:
	default:
		h.each.Leave(key)
		return nil, nil, &xrpcError{status: http.StatusServiceUnavailable, name: "NotEnoughResources",
			message: "too many such requests run already", retryAfter: time.Second}
	}
	once = func(ctx context.Context, c *call) (any, error) {
		defer func() { <-h.all }()
		return run(ctx, c)
	}
	return once, func() { h.each.Leave(key) }, nil
}

// call is one request of a method.
type call struct {
	r       *http.Request
	caller  string // DID; empty is anonymous
	subject string // DID of the user in whose name the trusted AppView asks; only for its methods
	legacy  bool   // by a token as upstream's AppView sends them, which may be used again
	rights  rights
	body    []byte // of a POST with run
}

// decode reads the JSON body; fields that are not known are ignored, as the lexicon language wants it.
func (c *call) decode(v any) error {
	if len(c.body) == 0 {
		return invalid("the body is empty, want JSON")
	}
	if err := json.Unmarshal(c.body, v); err != nil {
		return invalid("the body is not the JSON that is wanted: %v", err)
	}
	return nil
}

func get() []string  { return []string{http.MethodGet, http.MethodHead} }
func post() []string { return []string{http.MethodPost} }

// methods is all of the hold's XRPC but the reads of its repository, which repo/xrpc serves.
func (s *Server) methods() map[string]method {
	return map[string]method{
		"_health":                            {verbs: get(), run: s.health},
		"com.atproto.server.describeServer":  {verbs: get(), run: s.describeServer},
		"com.atproto.identity.resolveHandle": {verbs: get(), run: s.resolveHandle},
		"com.atproto.sync.getBlob":           {verbs: get(), raw: s.getBlob}, // who: by the captain record
		"com.atproto.repo.deleteRecord":      {verbs: post(), who: admin, body: smallBody, run: s.deleteRecord},
		"com.atproto.repo.uploadBlob":        {verbs: post(), who: admin, body: maxRecordBlob, run: s.uploadBlob},
		"app.bsky.actor.getProfile":          {verbs: get(), run: s.getProfile},
		"app.bsky.actor.getProfiles":         {verbs: get(), run: s.getProfiles},
		"io.atcr.hold.listTiers":             {verbs: get(), run: s.listTiers},
		"io.atcr.hold.getLayersForManifest":  {verbs: get(), heavy: true, run: s.getLayersForManifest},
		"io.atcr.hold.initiateUpload":        {verbs: post(), who: writer, legacy: true, body: smallBody, run: s.initiateUpload},
		"io.atcr.hold.getPartUploadUrl":      {verbs: post(), who: uploadID, legacy: true, body: smallBody, run: s.getPartUploadURL},
		"io.atcr.hold.uploadPart": {verbs: []string{http.MethodPut, http.MethodPost}, who: uploadID, legacy: true,
			body: s.cfg.MaxPart, raw: s.uploadPart},
		"io.atcr.hold.completeUpload": {verbs: post(), who: writer, legacy: true, body: listBody * 2, run: s.completeUploadCall},
		"io.atcr.hold.abortUpload":    {verbs: post(), who: uploadID, legacy: true, body: smallBody, run: s.abortUploadCall},
		"io.atcr.hold.getUpload":      {verbs: get(), who: uploadID, run: s.getUpload},
		"io.atcr.hold.checkBlobs":     {verbs: post(), who: writer, body: listBody, run: s.checkBlobs},
		"io.atcr.hold.notifyManifest": {verbs: post(), who: signedIn, legacy: true, body: manifestBody, run: s.notifyManifest},
		"io.atcr.hold.requestCrew":    {verbs: post(), who: signedIn, body: smallBody, run: s.requestCrew},
		"io.atcr.hold.getQuota":       {verbs: get(), who: signedIn, run: s.getQuota},
		"io.atcr.hold.updateCrewTier": {verbs: post(), who: appview, body: smallBody, run: s.updateCrewTier},
		"io.atcr.hold.setStats":       {verbs: post(), who: admin, body: smallBody, run: s.setStats},
		"io.atcr.hold.exportUserData": {verbs: get(), who: signedIn, heavy: true, run: s.exportUserData},
		"io.atcr.hold.deleteUserData": {verbs: post(), who: signedIn, heavy: true, body: smallBody, run: s.deleteUserData},
	}
}

// legacyMethods are those for which upstream's tokens are taken.
func (s *Server) legacyMethods() []string {
	if s.cfg.RefuseLegacyTokens {
		return nil
	}
	list := []string{methodGetBlob}
	for name, m := range s.methods() {
		if m.legacy {
			list = append(list, name)
		}
	}
	slices.Sort(list)
	return list
}

func (s *Server) routes() (http.Handler, error) {
	mux := http.NewServeMux()
	mux.HandleFunc("/.well-known/", forAnyOrigin(func(w http.ResponseWriter, r *http.Request) {
		s.keeper.self().wellKnown.ServeHTTP(w, r)
	}))
	mux.HandleFunc("GET /blobs/{digest}", s.serveLinked)
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, map[string]string{"service": "ATCR hold", "did": s.DID()})
	})
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, map[string]string{"status": "ok"})
	})
	records := repoReads(s.keeper, s.firehose, s.log)
	methods := s.methods()
	mux.HandleFunc("/xrpc/{method}", func(w http.ResponseWriter, r *http.Request) {
		name := r.PathValue("method")
		m, ok := methods[name]
		ofRepo := strings.HasPrefix(name, "com.atproto.repo.") || strings.HasPrefix(name, "com.atproto.sync.")
		switch {
		case ok && m.who == anyone && (name != methodGetBlob || s.people.record().Public):
			forAnyOrigin(func(w http.ResponseWriter, r *http.Request) { s.serve(w, r, name, m) })(w, r)
		case ok:
			s.serve(w, r, name, m)
		case ofRepo:
			forAnyOrigin(records.ServeHTTP)(w, r)
		default:
			s.answerError(w, r, fail(http.StatusNotImplemented, "MethodNotImplemented", "this hold has no method %q", clip(name)))
		}
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		s.answerError(w, r, fail(http.StatusNotFound, "NotFound", "there is nothing here"))
	})
	return httpx.WithClient(mux, httpx.VisitOptions{TrustedProxies: s.cfg.TrustedProxies, Log: s.log,
		Busy: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.answerError(w, r, errBusyClient) }),
	}), nil
}

// serve does what all methods have in common: verb, limit, token, rights, answer.
func (s *Server) serve(w http.ResponseWriter, r *http.Request, name string, m method) {
	outcome := "ok"
	err := s.serveMethod(w, r, name, m)
	if err != nil {
		outcome = s.answerError(w, r, err)
	}
	s.metrics.requests.WithLabelValues(name, outcome).Inc()
}

func (s *Server) serveMethod(w http.ResponseWriter, r *http.Request, name string, m method) error {
	if !slices.Contains(m.verbs, r.Method) {
		w.Header().Set("Allow", strings.Join(m.verbs, ", "))
		return fail(http.StatusMethodNotAllowed, "InvalidRequest", "%s is called by %s, not by %s", name, m.verbs[0], r.Method)
	}
	r.Body = http.MaxBytesReader(w, r.Body, m.body)
	c := &call{r: r}
	if err := s.identify(c, name, m.who); err != nil {
		return err
	}
	if m.raw != nil {
		return m.raw(w, r, c)
	}
	if r.Method == http.MethodPost {
		var err error
		if c.body, err = io.ReadAll(r.Body); err != nil {
			return upload.BodyError(err)
		}
	}
	run := m.run
	if m.heavy { // only now that all of the request is here: a client that sends slowly holds no place
		var leave func()
		var err error
		if run, leave, err = s.heavy.enter(httpx.ClientKey(r.Context(), c.caller), m.run); err != nil {
			return err
		}
		defer leave()
	}
	out, err := run(r.Context(), c)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, out)
	return nil
}

// identify finds the caller and holds the rights against what the method wants.
func (s *Server) identify(c *call, name string, want who) error {
	if want == anyone {
		return nil
	}
	claims, err := s.verifier.VerifyRequest(c.r, name)
	switch {
	case err == nil && want == appview:
		return s.identifyAppView(c, claims)
	case err == nil && claims.Subject != "" && claims.Subject != claims.Issuer:
		// What the trusted AppView may do in a user's name is its own methods; nobody else may anything.
		return unauthorized("BadJwt", "%s takes no token in the name of another (sub): the user's own PDS signs one", name)
	case err == nil:
		c.caller, c.legacy = claims.Issuer.String(), claims.Legacy
	case !errors.Is(err, serviceauth.ErrNotServiceToken):
		return err
	case want == uploadID:
		return nil
	case want == appview:
		return unauthorized("AuthRequired", "%s needs a token of the AppView that this hold trusts", name)
	default:
		return unauthorized("AuthRequired",
			"%s needs a service token: ask com.atproto.server.getServiceAuth of your PDS for "+
				"aud=%s and lxm=%s, and send it as Bearer", name, s.DID(), name)
	}
	if !httpx.CountBy(c.r.Context(), c.caller) {
		return errBusyClient
	}
	c.rights = s.people.rights(c.caller)
	return s.allow(c, want)
}

func (s *Server) allow(c *call, want who) error {
	switch {
	case want == reader && !c.rights.Read:
		return forbidden("%s may not read the layers of %s; its captain can give %s, or ask io.atcr.hold.requestCrew", c.caller, s.DID(),
			atcr.PermissionBlobRead)
	case want == writer && !c.rights.Write:
		return forbidden("%s may not write to %s; its captain can give %s, or ask io.atcr.hold.requestCrew", c.caller, s.DID(),
			atcr.PermissionBlobWrite)
	case want == admin && !c.rights.Admin:
		return forbidden("%s is neither captain nor %s of %s", c.caller, atcr.PermissionCrewAdmin, s.DID())
	}
	return nil
}

// answerError writes an error, logs what is ours, and returns its name.
func (s *Server) answerError(w http.ResponseWriter, r *http.Request, err error) string {
	if errors.Is(err, blobhttp.ErrAborted) || r.Context().Err() != nil {
		s.log.Debug("a request was broken off", "path", r.URL.Path, "error", err)
		return "aborted"
	}
	e := classify(err)
	switch {
	case e.status == http.StatusInsufficientStorage && !errors.Is(err, upload.ErrSpoolFull): // that is clients' doing
		s.log.ErrorContext(r.Context(), "no space left: the request was refused", "path", clip(r.URL.Path), "error", err)
	case e.status == http.StatusInternalServerError:
		s.log.ErrorContext(r.Context(), "request failed", "path", clip(r.URL.Path), "error", err)
	case e.status > 500 && e.status != http.StatusNotImplemented: // others' doing, or more than there is room for
		s.log.WarnContext(r.Context(), "request refused", "path", clip(r.URL.Path), "error", err)
	}
	writeError(w, e)
	return e.name
}

// contentType is the media type of a request, or the one of unknown bytes.
func contentType(r *http.Request) string {
	t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || len(t) > 128 {
		return "application/octet-stream"
	}
	return t
}

func queryOne(r *http.Request, name string) (string, error) {
	v := r.URL.Query()[name]
	if len(v) != 1 || v[0] == "" {
		return "", invalid("the parameter %s is missing or there more than once", name)
	}
	return v[0], nil
}
