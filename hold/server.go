package hold

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/atcr-dev/atcr/hold/datadir"
	"github.com/atcr-dev/atcr/hold/internal/disk"
	"github.com/atcr-dev/atcr/hold/internal/schema"
	"github.com/atcr-dev/atcr/identity"
	"github.com/atcr-dev/atcr/identity/plc"
	"github.com/atcr-dev/atcr/identity/serviceauth"
	"github.com/atcr-dev/atcr/internal/crashpoint"
	"github.com/atcr-dev/atcr/internal/durable"
	"github.com/atcr-dev/atcr/internal/httpx"
	"github.com/atcr-dev/atcr/internal/sqlx"
	"github.com/atcr-dev/atcr/repo"
	"github.com/atcr-dev/atcr/repo/firehose"
	"github.com/atcr-dev/atcr/storage"
)

// ErrLocked: another process has the folder; the error's text names its pid.
var ErrLocked = durable.ErrLocked

// Server is a hold. Make it with [New]; all methods are safe for concurrent use.
type Server struct {
	cfg   Config
	log   *slog.Logger
	clock func() time.Time
	crash crashpoint.Hook // of the context given to New; nil in production

	id       atomic.Pointer[self]
	manager  *plc.Manager
	idTurn   chan struct{} // holds one: who looks after the identity
	dir      identity.Directory
	http     *http.Client
	verifier *serviceauth.Verifier
	store    storage.Store
	repo     *repo.Repo
	firehose *firehose.Server
	db       *sqlx.DB
	linkKey  []byte
	metrics  *metrics

	notBefore time.Time   // service tokens from before it are refused: the hold was restored then
	unchecked bool        // the directory could not be asked about our did:plc at the start
	announce  atomic.Bool // our DID document changed, and followers of the repository have not been told

	access   *access
	peopleMu sync.Mutex // writes of captain and crew records
	bootedAs uint64     // Foreign of the repository before captain and crew were read
	layersMu sync.Mutex // writes of layer records and their index
	behind   bool       // under layersMu: the index lacks something and is to be made anew
	layersAs uint64     // under layersMu: Foreign of the repository as the index has it
	uploads  *keyLocks  // uploads being written to
	spool    *spool
	notices  *keyLocks // manifests being recorded or removed

	handler http.Handler
	closers []func() error // in order of opening
	closing sync.Once
	closed  error
}

// New opens a hold: it locks the data folder, finds or makes identity and repository, and brings the captain and crew
// records in line with the configuration. Close it when it is no longer used. Errors: [ErrLocked]; others
// name what is wrong in the configuration or the folder.
func New(ctx context.Context, cfg Config) (_ *Server, err error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	s := &Server{
		cfg: cfg, log: cfg.Log, clock: cfg.Clock, crash: crashpoint.From(ctx), access: newAccess(),
		uploads: newKeyLocks(), notices: newKeyLocks(), metrics: newMetrics(),
		idTurn: make(chan struct{}, 1),
	}
	defer func() {
		if err != nil {
			_ = s.Close()
		}
	}()
	for _, step := range []struct {
		what string
		do   func(context.Context) error
	}{
		{"data folder", s.openFolder},
		{"identity", s.openIdentity},
		{"identity", s.checkIdentityAtBoot},
		{"database", s.openDatabase},
		{"storage", s.openStorage},
		{"repository", s.openRepo},
		{"firehose", s.openFirehose},
		{"repository", s.signAnew},
		{"captain and crew", s.alignRecords},
		{"index of layers", s.alignLayers},
		{"repository", s.followOthers},
	} {
		if err := step.do(ctx); err != nil {
			return nil, fmt.Errorf("hold: %s: %w", step.what, err)
		}
	}
	if s.handler, err = s.routes(); err != nil {
		return nil, fmt.Errorf("hold: %w", err)
	}
	s.log.Info("hold is open", "did", s.DID(), "url", cfg.PublicURL, "public", cfg.Public, "owner", cfg.OwnerDID)
	return s, nil
}

// DID of the hold.
func (s *Server) DID() string { return s.self().DID.String() }

// Handler serves the hold at the root of its host: /xrpc/, /.well-known/, /blobs/, /health.
func (s *Server) Handler() http.Handler { return s.handler }

// Metrics are the hold's own, registered nowhere.
func (s *Server) Metrics() []prometheus.Collector {
	return append(s.metrics.all(), s.verifier.Metrics()...)
}

// Contents of the running hold, for hold/backup; good until Close.
func (s *Server) Contents() *datadir.Contents {
	return &datadir.Contents{Dir: s.cfg.Dir, Repo: s.repo, Identity: s.cfg.Identity, Layers: s.store, DB: s.db}
}

// Run does what a hold does by itself, until ctx ends: it settles and ends leases, throws away uploads that rested for a day,
// keeps a did:plc current in its directory, does the key rotations that are asked for (plc.Manager.RequestRotation) and the changes of the
// crew (datadir.ChangeCrew), makes the backups of Config.Backup, and asks relays to follow its firehose.
// With Config.Addr it serves Handler there, too, and drains at the end. It answers nil when ctx ended.
func (s *Server) Run(ctx context.Context) error {
	var ln net.Listener
	if s.cfg.Addr != "" {
		var err error
		if ln, err = (&net.ListenConfig{}).Listen(ctx, "tcp", s.cfg.Addr); err != nil {
			return fmt.Errorf("hold: listen: %w", err)
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var own sync.WaitGroup
	own.Go(func() { s.maintain(ctx) })
	own.Go(func() { s.askRelays(ctx) })
	own.Go(func() { s.keepIdentity(ctx) })
	own.Go(func() { keepCrew(ctx, s) })
	own.Go(func() { s.keepBackups(ctx) })
	var err error
	if ln != nil {
		err = httpx.Serve(ctx, ln, s.handler, httpx.ServerOptions{Log: s.log})
		cancel()
	}
	own.Wait()
	return err
}

// Close lets go of everything New opened. Stop serving first. Calling it again does nothing.
func (s *Server) Close() error {
	s.closing.Do(func() {
		var errs []error
		for i := len(s.closers) - 1; i >= 0; i-- {
			errs = append(errs, s.closers[i]())
		}
		s.closed = errors.Join(errs...)
	})
	return s.closed
}

// reach is called where tests end the process.
func (s *Server) reach(point string) { _ = s.crash.Reach(point) }

func (s *Server) onClose(f func() error) { s.closers = append(s.closers, f) }

func (s *Server) openFolder(context.Context) error {
	if err := durable.MkdirAll(s.cfg.Dir, 0o700); err != nil {
		return err
	}
	lock, err := durable.LockDir(s.cfg.Dir)
	if err != nil {
		return err
	}
	s.onClose(lock.Close)
	if err := durable.RemoveTemp(s.cfg.Dir); err != nil {
		return err
	}
	if s.notBefore, err = disk.Restored(s.cfg.Dir, s.clock()); err != nil {
		return err
	}
	if s.linkKey, err = loadLinkKey(filepath.Join(s.cfg.Dir, "link.key")); err != nil {
		return err
	}
	s.spool, err = openSpool(filepath.Join(s.cfg.Dir, "spool"), s.cfg.MaxSpool)
	return err
}

func (s *Server) openIdentity(ctx context.Context) error {
	guard := s.cfg.guard()
	if s.cfg.Identity.HTTP == nil {
		client := httpx.NewClient(httpx.ClientOptions{Guard: guard, Timeout: identityWait, UserAgent: "atcr-hold"})
		s.onClose(func() error { client.CloseIdleConnections(); return nil })
		s.cfg.Identity.HTTP = client
	}
	id, err := identity.LoadOrCreateDID(ctx, s.cfg.Identity)
	if err != nil {
		return err
	}
	s.id.Store(newSelf(id))
	if s.manager, err = plc.NewManager(id, s.cfg.Identity); err != nil {
		return err
	}
	s.http = s.cfg.HTTP
	if s.http == nil {
		s.http = httpx.NewClient(httpx.ClientOptions{Guard: guard, MaxRedirects: -1, UserAgent: "atcr-hold"})
		s.onClose(func() error { s.http.CloseIdleConnections(); return nil })
	}
	if s.dir = s.cfg.Directory; s.dir == nil {
		client := httpx.NewClient(httpx.ClientOptions{Guard: guard, UserAgent: "atcr-hold"})
		s.onClose(func() error { client.CloseIdleConnections(); return nil })
		s.dir = identity.NewResolver(identity.ResolverOptions{
			HTTP: client, PLCURL: s.cfg.PLCURL, HandleResolverURL: s.cfg.HandleResolverURL, TestMode: s.cfg.TestMode, Log: s.log, Clock: s.clock,
		})
	}
	s.verifier = serviceauth.NewVerifier(s.dir, serviceauth.VerifierOptions{
		Audiences: id.Audiences(), Legacy: s.legacyMethods(), NotBefore: s.notBefore, Log: s.log, Clock: s.clock,
	})
	return nil
}

func (s *Server) openDatabase(ctx context.Context) error {
	if err := s.cfg.places().Move(ctx, s.cfg.Repo == nil); err != nil {
		return err
	}
	db, done, err := s.cfg.places().OpenTables(ctx)
	if err != nil {
		return err
	}
	s.db = db
	s.onClose(done)
	return schema.Migrate(ctx, db)
}

func (s *Server) openStorage(ctx context.Context) error {
	if s.store = s.cfg.Storage; s.store != nil {
		return nil
	}
	store, err := s.cfg.places().OpenLayers()
	if err != nil {
		return err
	}
	s.store = store
	s.onClose(store.Close)
	return nil
}

func (s *Server) openRepo(ctx context.Context) error {
	if err := s.findRepo(ctx); err != nil {
		return err
	}
	s.bootedAs = s.repo.Foreign()
	return nil
}

func (s *Server) findRepo(ctx context.Context) error {
	if s.repo = s.cfg.Repo; s.repo != nil {
		if s.repo.DID() != s.DID() {
			return fmt.Errorf("the given repository is that of %s, the hold is %s", s.repo.DID(), s.DID())
		}
		return s.rekeyGiven(ctx)
	}
	store, done, err := s.cfg.places().OpenStore(ctx, disk.Mapped)
	if err != nil {
		return err
	}
	s.onClose(done)
	r, err := disk.OpenRepo(ctx, store, repo.Options{DID: s.DID(), Key: s.self().Key, Clock: s.clock, Log: s.log})
	if err != nil {
		return err
	}
	s.repo = r
	s.onClose(r.Close)
	return nil
}

// rekeyGiven gives a repository that was opened before us the key that we have: the embedder may have read the one before a rotation that New finished.
func (s *Server) rekeyGiven(ctx context.Context) error {
	id := s.self()
	pub, err := id.Key.PublicKey()
	if err != nil || pub.Equal(s.repo.PublicKey()) {
		return err
	}
	s.log.Warn("the given repository was opened with another key than the hold's, which it gets", "did", id.DID)
	_, err = s.repo.Rekey(ctx, id.Key, id.Handle.String())
	return err
}

// host of the public URL, which is the hold's handle when it can be one.
func (s *Server) host() string {
	u, err := url.Parse(s.cfg.PublicURL)
	if err != nil {
		return ""
	}
	return u.Host
}

// loadLinkKey reads the key that signs links, or makes one.
func loadLinkKey(path string) ([]byte, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		b = randomBytes(32)
		err = durable.CreateFile(path, b, 0o600)
	}
	if err == nil && len(b) != 32 {
		err = fmt.Errorf("%s has %d bytes, want 32: delete it and a new one is made", path, len(b))
	}
	return b, err
}
