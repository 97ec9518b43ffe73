package hold

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/atcr-dev/atcr/hold/datadir"
	"github.com/atcr-dev/atcr/hold/internal/disk"
	"github.com/atcr-dev/atcr/hold/internal/ledger"
	"github.com/atcr-dev/atcr/hold/internal/schema"
	"github.com/atcr-dev/atcr/hold/internal/upload"
	"github.com/atcr-dev/atcr/identity"
	"github.com/atcr-dev/atcr/identity/plc"
	"github.com/atcr-dev/atcr/identity/serviceauth"
	"github.com/atcr-dev/atcr/internal/crashpoint"
	"github.com/atcr-dev/atcr/internal/durable"
	"github.com/atcr-dev/atcr/internal/httpx"
	"github.com/atcr-dev/atcr/internal/runs"
	"github.com/atcr-dev/atcr/internal/sqlx"
	"github.com/atcr-dev/atcr/repo"
	"github.com/atcr-dev/atcr/repo/firehose"
	"github.com/atcr-dev/atcr/repo/sqlstore"
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

	dir      identity.Directory
	http     *http.Client
	verifier *serviceauth.Verifier
	store    storage.Store
	repo     *repo.Repo
	firehose *firehose.Server
	db       *sqlx.DB
	lock     *sqlx.ServiceLock // of the database that was given; else nil
	metrics  *metrics

	port    *httpx.Port
	rows    *sqlstore.Store // of the repository; nil when that was given
	keeper  *keeper
	ledger  *ledger.Ledger
	uploads *upload.Uploads
	records *records
	people  *people
	notices *notices
	blobs   *blobs

	heavy   heavy
	handler http.Handler
	closers []func() error // in order of opening
	closing sync.Once
	closed  error
	runs    runs.Calls
}

// New opens a hold: it locks the data folder, binds Config.Addr, opens database and storage, and only then finds or creates the
// identity, since a new did:plc can't be taken back; then the repository, whose captain and crew records it brings in line with the
// configuration. It starts no goroutine that goes on: what a hold does by itself is [Server.Run]'s. Close it when it is no longer
// used. Errors: [ErrLocked]; datadir.ErrRestoreInProgress; identity.ErrKeyReplaced; others name what is wrong in the configuration
// or the folder.
func New(ctx context.Context, cfg Config) (_ *Server, err error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg, log: cfg.Log, clock: cfg.Clock, crash: crashpoint.From(ctx), metrics: newMetrics(), heavy: newHeavy()}
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
		{"listen", s.bind},
		{"database", s.lockDatabase},
		{"database", s.openDatabase},
		{"storage", s.openStorage},
		{"spool", s.openUploads},
		{"repository", s.openRows},
		{"identity", s.openIdentity},
		{"identity", func(ctx context.Context) error { return s.keeper.checkAtBoot(ctx) }},
		{"repository", s.openRepo},
		{"repository", func(ctx context.Context) error { return s.keeper.signAnew(ctx) }},
		{"index of layers", s.openLedger},
		{"captain and crew", s.openPeople},
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
func (s *Server) DID() string { return s.keeper.self().DID.String() }

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

// Run does what a hold does by itself, until ctx ends: it settles and ends leases, discards uploads that rested for a day, keeps a
// did:plc current in its directory, does the key rotations that are requested and the changes of the crew (datadir.ChangeCrew), makes
// the backups of Config.Backup, asks relays to follow its firehose, and follows what other processes write to the repository. With
// Config.Addr it serves Handler there, too, and drains at the end. It returns nil when ctx ended, or when [Server.Close] ended it;
// after Close it is refused with [http.ErrServerClosed]. A hold runs once at a time.
func (s *Server) Run(ctx context.Context) error {
	ctx, ended, err := s.runs.Begin(ctx)
	if err != nil {
		return fmt.Errorf("hold: %w", err)
	}
	defer ended()
	ln, err := s.port.Take(ctx)
	if err != nil {
		return fmt.Errorf("hold: listen: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var own sync.WaitGroup
	ask := &relays{
		urls: s.cfg.Relays, host: s.cfg.host(), testMode: s.cfg.TestMode, guard: s.cfg.guard(), firehose: s.firehose, log: s.log,
	}
	backups := &backups{
		schedule: s.cfg.Backup, contents: s.Contents(), ledger: s.ledger, metrics: s.metrics, clock: s.clock, log: s.log,
	}
	for _, part := range []func(context.Context){s.upkeep().keep, ask.ask, s.keeper.keep, s.people.keep, backups.keep} {
		own.Go(func() { part(ctx) })
	}
	own.Go(func() { s.people.follow(ctx, s.ledger.Refresh) })
	var lost error
	if s.lock != nil {
		own.Go(func() {
			if lost = s.lock.Keep(ctx); lost != nil {
				cancel()
			}
		})
	}
	if ln != nil {
		err = httpx.Serve(ctx, ln, s.handler, httpx.ServerOptions{
			Log: s.log, TrustedProxies: s.cfg.TrustedProxies,
			Serving: func() { s.log.Info("serving", "addr", ln.Addr().String(), "url", s.cfg.PublicURL) },
		})
		cancel()
	}
	own.Wait()
	if lost != nil {
		lost = fmt.Errorf("hold: %w", lost)
	}
	return errors.Join(err, lost)
}

// Close ends [Server.Run] and waits for it, then closes everything New opened, and with it the connections of those who follow the
// firehose, which http.Server.Shutdown leaves open. Shut your own HTTP server down first. Don't call it from BackupSchedule.Run.
// Calling it again does nothing.
func (s *Server) Close() error {
	s.closing.Do(func() {
		s.runs.Close()
		var errs []error
		for i := len(s.closers) - 1; i >= 0; i-- {
			errs = append(errs, s.closers[i]())
		}
		s.closed = errors.Join(errs...)
	})
	return s.closed
}

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
	_, err = disk.Restored(s.cfg.Dir, s.clock())
	return err
}

func (s *Server) bind(ctx context.Context) (err error) {
	s.port, err = httpx.Bind(ctx, s.cfg.Addr)
	s.onClose(s.port.Close)
	return err
}

func (s *Server) openIdentity(ctx context.Context) error {
	notBefore, err := disk.Restored(s.cfg.Dir, s.clock())
	if err != nil {
		return err
	}
	guard := s.cfg.guard()
	if s.cfg.Identity.HTTP == nil {
		client := httpx.NewClient(httpx.ClientOptions{Guard: guard, Timeout: identityWait, PublicBodies: true, UserAgent: "atcr-hold"})
		s.onClose(func() error { client.CloseIdleConnections(); return nil })
		s.cfg.Identity.HTTP = client
	}
	id, err := identity.LoadOrCreateDID(ctx, s.cfg.Identity)
	if err != nil {
		return err
	}
	s.keeper = &keeper{cfg: s.cfg.Identity, log: s.log, crash: s.crash, turn: make(chan struct{}, 1)}
	s.keeper.current.Store(newSelf(id))
	if s.keeper.manager, err = plc.NewManager(id, s.cfg.Identity); err != nil {
		return err
	}
	answers, err := openAnswers(filepath.Join(s.cfg.Dir, "tmp"))
	if err != nil {
		return err
	}
	s.http = s.cfg.HTTP
	if s.http == nil {
		s.http = httpx.NewClient(httpx.ClientOptions{Guard: guard, MaxRedirects: -1, UserAgent: "atcr-hold"})
		s.onClose(func() error { s.http.CloseIdleConnections(); return nil })
	}
	s.http = answers.Client(s.http)
	if s.dir = s.cfg.Directory; s.dir == nil {
		client := httpx.NewClient(httpx.ClientOptions{Guard: guard, UserAgent: "atcr-hold"})
		s.onClose(func() error { client.CloseIdleConnections(); return nil })
		s.dir = identity.NewResolver(identity.ResolverOptions{
			HTTP: answers.Client(client), PLCURL: s.cfg.PLCURL, HandleResolverURL: s.cfg.HandleResolverURL, TestMode: s.cfg.TestMode,
			Log: s.log, Clock: s.clock,
		})
	}
	s.verifier = serviceauth.NewVerifier(s.dir, serviceauth.VerifierOptions{
		Audiences: id.Audiences(), Legacy: s.legacyMethods(), NotBefore: notBefore, Log: s.log, Clock: s.clock,
	})
	return nil
}

// openAnswers makes the budget of what members' PDSes and the servers of did:web documents send.
func openAnswers(temp string) (*httpx.Answers, error) {
	if err := errors.Join(os.RemoveAll(temp), os.MkdirAll(temp, 0o700)); err != nil { // what a crash left goes
		return nil, fmt.Errorf("folder for temporary files: %w", err)
	}
	return httpx.NewAnswers(httpx.AnswersOptions{Dir: temp}), nil
}

// lockDatabase keeps a second server, in a folder of its own, off the database.
func (s *Server) lockDatabase(ctx context.Context) error {
	if s.cfg.DB == nil {
		return nil
	}
	lock, err := sqlx.LockService(ctx, s.cfg.DB, "hold", sqlx.LockWait)
	if err != nil {
		return err
	}
	s.lock = lock
	s.onClose(lock.Close)
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

// openRows opens what the repository lies in, and refuses one that a new identity would find to be another hold's.
func (s *Server) openRows(ctx context.Context) error {
	whose := ""
	if s.cfg.Repo != nil {
		whose = s.cfg.Repo.DID()
	} else {
		rows, done, err := s.cfg.places().OpenStore(ctx, disk.Mapped)
		if err != nil {
			return err
		}
		s.onClose(done)
		s.rows = rows
		switch _, err := rows.Read(ctx).Head(); {
		case err == nil:
			whose = "another hold"
		case !errors.Is(err, repo.ErrNotFound):
			return err
		}
	}
	look := s.cfg.Identity
	look.Log = slog.New(slog.DiscardHandler) // openIdentity says the same
	did, _, err := identity.Check(look)
	if err != nil || did != "" || whose == "" { // openRepo compares DIDs
		return err
	}
	return fmt.Errorf("the repository is that of %s, and %s has no identity yet, for which a new did:plc would be made: bring the "+
		"repository's identity here (atcr-hold identity import), or name a place for a new repository", whose, s.cfg.Dir)
}

func (s *Server) openRepo(ctx context.Context) error {
	if s.repo = s.cfg.Repo; s.repo != nil {
		if s.repo.DID() != s.DID() {
			return fmt.Errorf("the given repository is that of %s, the hold is %s", s.repo.DID(), s.DID())
		}
		s.keeper.repo = s.repo
		if err := s.keeper.rekeyGiven(ctx); err != nil {
			return err
		}
	} else {
		var err error
		s.repo, err = disk.OpenRepo(ctx, s.rows, repo.Options{DID: s.DID(), Key: s.keeper.self().Key, Clock: s.clock, Log: s.log})
		if err != nil {
			return err
		}
		s.onClose(s.repo.Close)
		s.keeper.repo = s.repo
	}
	s.firehose = firehose.New(s.repo, &firehose.Options{
		Log: s.log, Client: func(r *http.Request) string { return httpx.ClientAddr(r).String() },
	})
	s.onClose(s.firehose.Close)
	return nil
}

func (s *Server) openLedger(ctx context.Context) (err error) {
	s.ledger, err = ledger.Open(ctx, ledger.Options{DB: s.db, Repo: s.repo, Clock: s.clock, Log: s.log, Crash: s.crash})
	if err != nil {
		return err
	}
	s.onClose(func() error { return s.ledger.Close(context.WithoutCancel(ctx)) })
	return nil
}

func (s *Server) openUploads(ctx context.Context) (err error) {
	layers := ""
	if s.cfg.Storage == nil {
		layers = s.cfg.places().LayersPath()
	}
	s.uploads, err = upload.Open(ctx, upload.Options{
		DB: s.db, Store: s.store, Spool: filepath.Join(s.cfg.Dir, "spool"), MaxSpool: s.cfg.MaxSpool,
		Layers: layers,
		Lease: func(ctx context.Context, tx *sql.Tx, did string, d digest.Digest, size int64) error {
			return s.ledger.Lease(ctx, tx, did, "", []ledger.Blob{{Digest: d, Size: size}})
		},
		Release: func(ctx context.Context, tx *sql.Tx, did string, d digest.Digest) error {
			return s.ledger.Release(ctx, tx, did, d)
		},
		Leased: func(ctx context.Context) (map[string]int64, error) { return s.ledger.Leased(ctx) }, // it is opened later
		Completed: func(size int64) {
			s.metrics.uploads.Inc()
			s.metrics.uploadedBytes.Add(float64(size))
		},
		Clock: s.clock, Log: s.log, Crash: s.crash,
	})
	if err != nil {
		return err
	}
	key, err := loadLinkKey(filepath.Join(s.cfg.Dir, "link.key"))
	s.blobs = &blobs{
		store: s.store, publicURL: s.cfg.PublicURL, noRedirect: s.cfg.NoRedirect, linkKey: key, clock: s.clock, reads: s.metrics.reads,
	}
	return err
}

func (s *Server) openPeople(ctx context.Context) error {
	who := newAccess()
	s.records = &records{repo: s.repo, ledger: s.ledger, access: who, log: s.log}
	s.people = &people{
		access: who, cfg: &s.cfg, records: s.records, uploads: s.uploads, joins: newJoins(), dir: s.dir, clock: s.clock, log: s.log,
	}
	s.notices = &notices{
		publicURL: s.cfg.PublicURL, keeper: s.keeper, pdses: newPDSes(s.dir, s.http, s.clock, s.log),
		store: s.store, ledger: s.ledger, records: s.records, clock: s.clock, log: s.log, crash: s.crash,
	}
	return s.people.align(ctx)
}

// loadLinkKey reads the key that signs links, or makes one. One that others may read is refused.
func loadLinkKey(path string) ([]byte, error) {
	b, err := durable.ReadPrivate(path)
	if errors.Is(err, os.ErrNotExist) {
		b = make([]byte, 32)
		_, _ = rand.Read(b) // never fails
		err = durable.CreateFile(path, b, 0o600)
	}
	if err == nil && len(b) != 32 {
		err = fmt.Errorf("%s has %d bytes, want 32: delete it and a new one is made", path, len(b))
	}
	return b, err
}
