package pds

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/atcr-dev/atcr/internal/crashpoint"
	"github.com/atcr-dev/atcr/internal/httpx"
	"github.com/atcr-dev/atcr/internal/keylock"
	"github.com/atcr-dev/atcr/internal/limit"
	"github.com/atcr-dev/atcr/internal/sqlx"
	"github.com/atcr-dev/atcr/registry/pds/internal/background"
	"github.com/atcr-dev/atcr/registry/pds/internal/holds"
	"github.com/atcr-dev/atcr/registry/pds/internal/keyed"
	"github.com/atcr-dev/atcr/registry/pds/internal/settle"
	"github.com/atcr-dev/atcr/registry/pds/internal/shared"
	"github.com/atcr-dev/atcr/registry/pds/internal/uploads"
)

// Backend is a registry.Backend over owners' PDSes and holds. Make it with [New]; safe for concurrent use.
type Backend struct {
	db          *sqlx.DB
	reads       *prepared // of the look-ups of a pull
	http        *http.Client
	defaultHold string
	redirect    Redirect
	serveStale  time.Duration
	clock       func() time.Time
	log         *slog.Logger
	crash       crashpoint.Hook // of the context given to New; nil in production

	servers servers
	acting  acting
	lister  *lister
	names   *names
	bodies  *bodies
	prover  *prover
	holds   *holds.Holds
	uploads *uploads.Uploads
	settler *settle.Settler
	pulls   *settle.Pulls
	work    *background.Runner
	asks    *limit.Rates // what each client has others asked
	tempDir string       // of uploads, to be removed; empty when it was given

	flight  *shared.Group[struct{}]
	locks   keylock.Locks
	silent  *keyed.Memo[string, error]  // owners whose PDS did not answer just now
	present *keyed.Memo[string, string] // the hold that an owner's pushes go to
	leased  *keyed.Memo[string, place]  // blobs that the present hold was asked for lately
}

// New makes a Backend and migrates its tables. Nothing is asked of the network.
func New(ctx context.Context, o Options) (*Backend, error) {
	switch {
	case o.DB == nil:
		return nil, errors.New("pds: Options.DB is missing: package sqldb/sqlite opens one")
	case o.Directory == nil:
		return nil, errors.New("pds: Options.Directory is missing: identity.NewResolver makes one")
	case o.Redirect != "" && o.Redirect != RedirectAuto && o.Redirect != RedirectNever:
		return nil, fmt.Errorf("pds: Options.Redirect is %q: use auto or never", o.Redirect)
	}
	if o.Verify != "" && o.Verify != VerifySampled && o.Verify != VerifyAlways && o.Verify != VerifyNever {
		return nil, fmt.Errorf("pds: Options.Verify is %q: use sampled, always or never", o.Verify)
	}
	if err := Migrate(ctx, o.DB); err != nil {
		return nil, err
	}
	o.defaults()
	b := &Backend{
		db: o.DB, reads: newPrepared(o.DB.Read()),
		http:        httpx.NewAnswers(httpx.AnswersOptions{}).Client(withoutRedirects(o.HTTP)),
		defaultHold: o.DefaultHold, redirect: o.Redirect, serveStale: o.ServeStale, clock: o.Clock, log: o.Log, crash: crashpoint.From(ctx),
		asks:    limit.NewRates(asksPerSecond, askBurst),
		flight:  shared.New[struct{}](listsPerClient),
		silent:  keyed.NewMemo[string, error](10_000),
		present: keyed.NewMemo[string, string](10_000),
		leased:  keyed.NewMemo[string, place](10_000),
	}
	// What a crash left between a commit and the copy shows by the intent that is still there.
	_, err := b.db.Write().ExecContext(ctx, `update pds_owner set checked = $3 where checked > $3
		and did in (select owner from pds_intent where state in ($1, $2))`,
		settle.StateOpen, settle.StateSession, b.doubtful())
	if err != nil {
		return nil, fmt.Errorf("pds: mark copies for checking: %w", sqlx.Wrap(err))
	}
	err = b.parts(ctx, o)
	if err == nil {
		err = b.lister.room.count(ctx)
	}
	if err != nil {
		if b.tempDir != "" {
			err = errors.Join(err, os.RemoveAll(b.tempDir))
		}
		return nil, fmt.Errorf("pds: %w", err)
	}
	return b, nil
}

// parts makes the components that the Backend is made of.
func (b *Backend) parts(ctx context.Context, o Options) (err error) {
	b.servers = servers{http: b.http, clock: b.clock}
	b.lister = &lister{
		db: b.db, servers: b.servers, clock: b.clock, log: b.log, told: keyed.NewMemo[string, struct{}](10_000),
		limits: limits{o.OwnerRecords, o.OwnerBytes}, room: &room{db: b.db, locks: &b.locks, limit: o.CopyBytes, log: b.log},
	}
	b.acting = acting{sessions: o.Sessions, clock: b.clock}
	b.names = newNames(o)
	b.bodies = newBodies(b.db, b.servers, o.CacheBytes, b.clock, b.log)
	b.prover = newProver(o, b.servers)
	ho := holds.Options{
		Directory: o.Directory, HTTP: b.http, CheckLink: o.CheckLink, ServeStale: b.serveStale, Clock: b.clock, Log: b.log,
	}
	if o.Sessions != nil {
		ho.Tokens = o.Sessions.ServiceToken
	}
	b.work = background.New()
	b.holds = holds.New(ho)
	if o.Dir == "" {
		if o.Dir, err = os.MkdirTemp("", "atcr-uploads-"); err != nil {
			return err
		}
		b.tempDir = o.Dir
	}
	b.uploads, err = uploads.New(ctx, uploads.Options{
		Dir: o.Dir, DB: b.db, Holds: b.holds, Work: b.work, Crash: b.crash, Clock: b.clock, Log: b.log, Landed: b.landed,
	})
	if err != nil {
		return err
	}
	b.settler = settle.New(settle.Options{
		DB: b.db, Manifests: manifests{b}, Holds: b.holds, Work: b.work, Crash: b.crash, Clock: b.clock, Log: b.log,
	})
	b.pulls = settle.NewPulls(settle.PullOptions{
		Manifests: manifests{b}, Holds: b.holds, Self: o.Self, Work: b.work, Clock: b.clock, Log: b.log,
	})
	return nil
}

// withoutRedirects copies a client so that it follows no redirect: neither a PDS nor a hold has reason to send one here.
func withoutRedirects(c *http.Client) *http.Client {
	out := http.Client{}
	if c != nil {
		out = *c
	}
	out.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	out.Jar = nil
	return &out
}

// Metrics returns the backend's own collectors, registered nowhere.
func (b *Backend) Metrics() []prometheus.Collector {
	memory := func() float64 { n, _ := b.uploads.Held(); return float64(n) }
	tails := func() float64 { _, n := b.uploads.Held(); return float64(n) }
	return []prometheus.Collector{b.pulls.Metrics(), prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "atcr_records_disproved_total",
		Help: "Records that an owner's PDS listed and that its signed repository does not hold; they were refused.",
	}, func() float64 { return float64(b.prover.disproved.Load()) }), prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "atcr_upload_memory_bytes", Help: "Bytes of uploads in memory, on their way to holds.",
	}, memory), prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "atcr_upload_tail_bytes", Help: "Bytes of uploads in tail files, until there is enough of them for a hold.",
	}, tails)}
}

// Skipped returns how many records were left out because they broke their lexicon, and how many manifests were refused because
// their bytes are not what the record says.
func (b *Backend) Skipped() (records, manifests int64) {
	return b.lister.skipped.Load(), b.bodies.mismatched.Load()
}
