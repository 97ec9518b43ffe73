package pds

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/bluesky-social/indigo/atproto/identity"
	"github.com/opencontainers/go-digest"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/semaphore"
	"golang.org/x/sync/singleflight"

	"github.com/atcr-dev/atcr/hold/holdclient"
	"github.com/atcr-dev/atcr/internal/crashpoint"
	"github.com/atcr-dev/atcr/internal/httpx"
	"github.com/atcr-dev/atcr/internal/sqlx"
)

// Backend is a registry.Backend over owners' PDSes and holds. Make it with [New]; safe for concurrent use.
type Backend struct {
	db          *sqlx.DB
	reads       *prepared // of the look-ups of a pull
	directory   identity.Directory
	http        *http.Client
	sessions    Sessions
	self        holdclient.TokenFunc // nil: anonymous pulls are not counted
	defaultHold string
	redirect    Redirect
	serveStale  time.Duration
	asksProofs  Verify
	cacheBytes  int64
	clock       func() time.Time
	log         *slog.Logger
	crash       crashpoint.Hook // of the context given to New; nil in production

	flight      singleflight.Group
	locks       locks
	unresolved  *memo[string, error]       // identities that could not be resolved just now
	names       *memo[string, struct{}]    // names written to pds_name lately
	silent      *memo[string, error]       // owners whose PDS did not answer just now
	refused     *memo[string, error]       // records whose bytes can't be served
	hot         *memo[digest.Digest, body] // bytes of small manifests
	rightsMemo  *memo[string, holdclient.Rights]
	lastRights  *memo[string, holdclient.Rights] // what a hold last said, for when it is silent
	silentHolds *memo[string, error]             // holds that did not answer just now
	present     *memo[string, string]            // the hold that an owner's pushes go to
	leased      *memo[string, place]             // blobs that the present hold was asked for lately
	deaf        *memo[string, struct{}]          // holds that refused to hear of an anonymous pull
	skipped     atomic.Int64                     // records that broke their lexicon
	mismatched  atomic.Int64                     // records whose bytes are not those of their digest
	disproved   atomic.Int64                     // records that the signed repository does not hold
	sampled     *memo[string, struct{}]          // owners of whom a pull was looked into just now
	rekeyed     *memo[string, struct{}]          // owners whose key was asked for anew lately
	proving     locks                            // one proof of an owner at a time
	proofs      *semaphore.Weighted              // proofs in memory

	clientsMu sync.Mutex
	clients   map[string]*holdclient.Client // by hold

	claimsMu sync.Mutex
	claims   map[string]bool // intents that somebody is at
	gate     gate

	uploadsMu sync.Mutex
	uploads   map[string]*uploadState // open or resting uploads whose state needs no asking
	buffers   *semaphore.Weighted     // chunks of parts in memory
	long      *httpx.LongAnswers

	pullsMu     sync.Mutex
	pulls       map[pull]pulled
	pullsOf     map[string]int // how many of pulls are of an owner
	pullCounter *prometheus.CounterVec

	stop context.CancelFunc // ends the tails of pushes
	life context.Context
	work sync.WaitGroup
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
	if o.Verify == "" {
		o.Verify = VerifySampled
	}
	if o.Verify != VerifySampled && o.Verify != VerifyAlways && o.Verify != VerifyNever {
		return nil, fmt.Errorf("pds: Options.Verify is %q: use sampled, always or never", o.Verify)
	}
	if err := sqlx.Migrate(ctx, o.DB, migrationFiles(), "pds_version"); err != nil {
		return nil, err
	}
	b := &Backend{
		db: o.DB, reads: newPrepared(o.DB.Read()), directory: o.Directory, sessions: o.Sessions, self: o.Self, defaultHold: o.DefaultHold,
		redirect: o.Redirect, serveStale: o.ServeStale, asksProofs: o.Verify, cacheBytes: o.CacheBytes, clock: o.Clock, log: o.Log, crash: crashpoint.From(ctx),
		unresolved:  newMemo[string, error](10_000),
		names:       newMemo[string, struct{}](10_000),
		silent:      newMemo[string, error](10_000),
		refused:     newMemo[string, error](10_000),
		hot:         newMemo[digest.Digest, body](256),
		rightsMemo:  newMemo[string, holdclient.Rights](10_000),
		lastRights:  newMemo[string, holdclient.Rights](10_000),
		silentHolds: newMemo[string, error](10_000),
		present:     newMemo[string, string](10_000),
		leased:      newMemo[string, place](10_000),
		sampled:     newMemo[string, struct{}](10_000),
		rekeyed:     newMemo[string, struct{}](10_000),
		proofs:      semaphore.NewWeighted(maxProofs),
		deaf:        newMemo[string, struct{}](10_000),
		clients:     map[string]*holdclient.Client{},
		claims:      map[string]bool{},
		uploads:     map[string]*uploadState{},
		buffers:     semaphore.NewWeighted(maxChunks),
		long:        httpx.NewLongAnswers(longPlaces, longWait),
		pulls:       map[pull]pulled{},
		pullsOf:     map[string]int{},
		pullCounter: newPullCounter(),
	}
	if o.HTTP == nil {
		o.HTTP = httpx.NewClient(httpx.ClientOptions{Timeout: -1, UserAgent: "atcr-appview"})
	}
	b.http = withoutRedirects(o.HTTP)
	if b.serveStale == 0 {
		b.serveStale = 7 * 24 * time.Hour
	}
	if b.cacheBytes == 0 {
		b.cacheBytes = 1 << 30
	}
	if b.clock == nil {
		b.clock = time.Now
	}
	if b.log == nil {
		b.log = slog.Default()
	}
	// What a crash left between a commit and the copy shows by the intent that is still there.
	_, err := b.db.Write().ExecContext(ctx, `update pds_owner set checked = $3 where checked > $3 and did in (select owner from pds_intent where state in ($1, $2))`,
		stateOpen, stateSession, b.doubtful())
	if err != nil {
		return nil, fmt.Errorf("pds: mark copies for checking: %w", sqlx.Wrap(err))
	}
	b.life, b.stop = context.WithCancel(context.Background())
	return b, nil
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

// Skipped answers how many records were left out because they broke their lexicon, and how many manifests were refused because
// their bytes are not what the record says.
func (b *Backend) Skipped() (records, manifests int64) {
	return b.skipped.Load(), b.mismatched.Load()
}
