package appview

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/atcr-dev/atcr"
	"github.com/atcr-dev/atcr/identity"
	"github.com/atcr-dev/atcr/identity/oauth"
	"github.com/atcr-dev/atcr/internal/durable"
	"github.com/atcr-dev/atcr/internal/httpx"
	"github.com/atcr-dev/atcr/internal/runs"
	"github.com/atcr-dev/atcr/internal/sqlx"
	"github.com/atcr-dev/atcr/internal/sqlx/move"
	"github.com/atcr-dev/atcr/registry"
	"github.com/atcr-dev/atcr/registry/auth"
	"github.com/atcr-dev/atcr/registry/pds"
	"github.com/atcr-dev/atcr/registry/web"
	"github.com/atcr-dev/atcr/sqldb"
	"github.com/atcr-dev/atcr/sqldb/sqlite"
)

// ErrLocked: another process has the folder; the error's text names its pid.
var ErrLocked = durable.ErrLocked

// Server is an AppView. Make it with New; all methods are safe for concurrent use.
type Server struct {
	cfg     Config
	db      *sqlx.DB
	lock    *sqlx.ServiceLock // of the database that was given; else nil
	port    *httpx.Port
	guard   httpx.Guard
	links   *httpx.Links
	answers *httpx.Answers     // of all servers that untrusted parties chose
	own     *identity.Resolver // nil when the configuration gives a directory
	id      *identity.Identity // nil without a base URL that a did:web can be made of
	oauth   *oauth.Client      // nil where its address allows none
	auth    *auth.Auth
	backend *pds.Backend
	pages   *web.Site
	handler http.Handler
	close   []func() error // in reverse order
	closing sync.Once
	closed  error
	runs    runs.Calls
}

// New opens an AppView: it locks the data folder, binds Config.Addr, migrates the database, and makes or reads the keys. It asks
// nothing of the network. Close it when it is no longer used. Errors: [ErrLocked]; identity.ErrKeyReplaced; others name what is wrong in
// the configuration.
func New(ctx context.Context, cfg Config) (_ *Server, err error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	for _, step := range []func(context.Context) error{s.openData, s.openIdentity, s.openNetwork, s.openAuth, s.openBackend, s.openPages} {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	s.handler = s.routes()
	return s, nil
}

func (s *Server) openData(ctx context.Context) error {
	for _, dir := range []string{s.cfg.Dir, filepath.Dir(s.cfg.DatabasePath), filepath.Dir(s.cfg.KeyPath), filepath.Dir(s.cfg.CertPath)} {
		if err := durable.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("appview: make data folder: %w", err)
		}
	}
	lock, err := durable.LockDir(s.cfg.Dir)
	if err != nil {
		return fmt.Errorf("appview: %w", err)
	}
	s.close = append(s.close, lock.Close)
	s.port, err = httpx.Bind(ctx, s.cfg.Addr)
	s.close = append(s.close, s.port.Close)
	if err != nil {
		return fmt.Errorf("appview: listen: %w", err)
	}
	if s.db = s.cfg.DB; s.db != nil {
		if s.lock, err = sqlx.LockService(ctx, s.db, "appview", sqlx.LockWait); err != nil {
			return fmt.Errorf("appview: database: %w", err)
		}
		s.close = append(s.close, s.lock.Close)
		return s.moveFile(ctx)
	}
	if s.db, err = sqlite.Open(ctx, s.cfg.DatabasePath); err != nil {
		return fmt.Errorf("appview: open database: %w", err)
	}
	s.close = append(s.close, s.db.Close)
	return nil
}

// moveFile brings the rows of the SQLite file into the database that is given.
func (s *Server) moveFile(ctx context.Context) error {
	err := move.Files(ctx, s.db, []move.File{{
		Path: s.cfg.DatabasePath, Prefixes: []string{"auth_", "oauth_", "pds_", "web_"},
		Migrate: func(ctx context.Context, db *sqldb.DB) error {
			for _, migrate := range []func(context.Context, *sqldb.DB) error{auth.Migrate, oauth.Migrate, pds.Migrate, web.Migrate} {
				if err := migrate(ctx, db); err != nil {
					return err
				}
			}
			return nil
		},
	}}, s.cfg.Log)
	if err != nil {
		return fmt.Errorf("appview: database: %w", err)
	}
	return nil
}

// openNetwork makes the clients that ask untrusted addresses.
func (s *Server) openNetwork(context.Context) error {
	s.guard = s.cfg.guard()
	links := httpx.LinkOptions{Guard: s.guard, Clock: s.cfg.Clock}
	if s.cfg.HTTP != nil {
		links.Guard = httpx.AnyNetwork() // it has a guard of its own
	}
	s.links = httpx.NewLinks(links)
	temp := filepath.Join(s.cfg.Dir, "tmp")
	if err := errors.Join(os.RemoveAll(temp), os.MkdirAll(temp, 0o700)); err != nil { // what a crash left goes
		return fmt.Errorf("appview: folder for temporary files: %w", err)
	}
	s.answers = httpx.NewAnswers(httpx.AnswersOptions{Dir: temp})
	if s.cfg.HTTP == nil {
		s.cfg.HTTP = httpx.NewClient(httpx.ClientOptions{Guard: s.guard, Timeout: -1, MaxRedirects: -1, UserAgent: "atcr-appview"})
		s.onClose(s.cfg.HTTP.CloseIdleConnections)
	}
	s.cfg.HTTP = s.answers.Client(s.cfg.HTTP)
	if s.cfg.Directory == nil {
		client := httpx.NewClient(httpx.ClientOptions{Guard: s.guard, UserAgent: "atcr-appview"})
		s.onClose(client.CloseIdleConnections)
		s.own = identity.NewResolver(identity.ResolverOptions{
			HTTP: s.answers.Client(client), PLCURL: s.cfg.PLCURL, HandleResolverURL: s.cfg.HandleResolverURL, TestMode: s.cfg.TestMode,
			Log: s.cfg.Log, Clock: s.cfg.Clock,
		})
		s.cfg.Directory = s.own
	}
	return nil
}

func (s *Server) openAuth(ctx context.Context) (err error) {
	client := httpx.NewClient(httpx.ClientOptions{Guard: s.guard, MaxRedirects: -1, UserAgent: "atcr-appview"})
	s.onClose(client.CloseIdleConnections)
	accounts := s.answers.Client(client)
	grants, err := s.openOAuth(ctx, accounts)
	if err != nil {
		return err
	}
	s.auth, err = auth.New(ctx, auth.Options{
		DB: s.db, Directory: s.cfg.Directory, HTTP: accounts, OAuth: grants, BaseURL: s.cfg.BaseURL, ListenAddr: s.cfg.Addr,
		KeyPath: s.cfg.KeyPath, CertPath: s.cfg.CertPath, SessionKeyPath: s.sessionKey(),
		AllowAccountPassword: s.cfg.AllowAccountPassword || s.cfg.TestMode, TestMode: s.cfg.TestMode, ClientAddr: httpx.ClientAddr,
		InUse: func(ctx context.Context, did string) ([]string, error) {
			if s.backend == nil { // which comes next
				return nil, nil
			}
			return s.backend.SessionsInUse(ctx, did)
		},
		Log: s.cfg.Log, Clock: s.cfg.Clock,
	})
	return err
}

func (s *Server) openBackend(ctx context.Context) (err error) {
	o := pds.Options{
		DB: s.db, Dir: filepath.Join(s.cfg.Dir, "uploads"), Directory: s.cfg.Directory, HTTP: s.cfg.HTTP,
		Sessions: s.auth.Sessions(), DefaultHold: s.cfg.DefaultHold,
		CheckLink: s.links.Check, Redirect: s.cfg.Redirect, ServeStale: s.cfg.ServeStale, Verify: s.cfg.Verify,
		OwnerRecords: s.cfg.OwnerRecords, OwnerBytes: s.cfg.OwnerBytes, CopyBytes: s.cfg.CopyBytes,
		Clock: s.cfg.Clock, Log: s.cfg.Log,
	}
	if s.id != nil {
		o.Self = s.tokensFor("")
	}
	s.backend, err = pds.New(ctx, o)
	if err != nil {
		return err
	}
	s.close = append(s.close, s.backend.Close)
	return nil
}

func (s *Server) onClose(f func()) {
	s.close = append(s.close, func() error { f(); return nil })
}

func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/auth/", s.auth.Handler())
	mux.Handle("/auth/oauth/callback", s.pages.Handler())
	mux.Handle("/", s.pages.Handler())
	if s.oauth != nil {
		mux.Handle("/oauth-client-metadata.json", s.oauth.Handler())
	}
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Write([]byte(`{"status":"ok"}` + "\n"))
	})
	if s.id != nil {
		mux.Handle("/.well-known/", identity.WellKnown(s.id))
	}
	v2 := registry.NewHandler(s.backend, &registry.Options{
		Authorizer: counted{s.auth}, Log: s.cfg.Log, SparseIndexes: s.cfg.SparseIndexes,
		Name: func(name string) (string, error) { return atcr.RewriteName(name), nil },
	})
	return httpx.WithClient(v2.WithFallback(mux), httpx.VisitOptions{
		TrustedProxies: s.cfg.TrustedProxies, Busy: http.HandlerFunc(busy), Log: s.cfg.Log,
	})
}

// counted has the requests of those who are signed in count by their DID.
type counted struct{ registry.Authorizer }

func (c counted) Authorize(r *http.Request, wanted []registry.Access) (registry.Actor, error) {
	actor, err := c.Authorizer.Authorize(r, wanted)
	if err == nil && actor.ID != "" && !httpx.CountBy(r.Context(), actor.ID) {
		e := registry.ErrTooManyRequests.With("too many requests of this account at once")
		e.RetryAfter = time.Second
		return registry.Actor{}, e
	}
	return actor, err
}

// busy refuses a request of a client that has too many at once.
func busy(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusTooManyRequests)
	w.Write([]byte(`{"errors":[{"code":"TOOMANYREQUESTS","message":"too many requests of this client at once"}]}` + "\n"))
}

// Handler serves /v2/, /auth/, /health, with an identity /.well-known/, and the pages at everything else of its host.
func (s *Server) Handler() http.Handler { return s.handler }

// Run does what an AppView does by itself until ctx ends: it settles pushes and deletes that a crash or a silent server left open, and
// drops what is old. With Config.Addr it serves Handler there, too, and drains at the end. It returns nil when ctx ended,
// or when [Server.Close] ended it; after Close it is refused with [http.ErrServerClosed].
func (s *Server) Run(ctx context.Context) error {
	ctx, ended, err := s.runs.Begin(ctx)
	if err != nil {
		return fmt.Errorf("appview: %w", err)
	}
	defer ended()
	ln, err := s.port.Take(ctx)
	if err != nil {
		return fmt.Errorf("appview: listen: %w", err)
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return s.backend.Run(ctx) })
	group.Go(func() error { return s.auth.Run(ctx) })
	group.Go(func() error { return s.pages.Run(ctx) })
	if s.oauth != nil {
		group.Go(func() error { return s.oauth.Run(ctx) })
	}
	if s.lock != nil {
		group.Go(func() error { return s.lock.Keep(ctx) })
	}
	if ln != nil {
		group.Go(func() error {
			return httpx.Serve(ctx, ln, s.handler, httpx.ServerOptions{
				Log: s.cfg.Log, TrustedProxies: s.cfg.TrustedProxies,
				Serving: func() { s.cfg.Log.Info("serving", "addr", ln.Addr().String(), "url", s.cfg.BaseURL) },
			})
		})
	}
	return group.Wait()
}

// Metrics are the AppView's own collectors, registered nowhere.
func (s *Server) Metrics() []prometheus.Collector {
	all := append(s.auth.Metrics(), s.backend.Metrics()...)
	if s.own != nil {
		all = append(all, s.own.Metrics()...)
	}
	return all
}

// Close ends [Server.Run] and waits for it, then closes everything New opened. Shut your own HTTP server down first. Calling it again
// does nothing.
func (s *Server) Close() error {
	s.closing.Do(func() {
		s.runs.Close()
		var errs []error
		for i := len(s.close) - 1; i >= 0; i-- {
			errs = append(errs, s.close[i]())
		}
		s.closed = errors.Join(errs...)
	})
	return s.closed
}
