package settle

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/atcr-dev/atcr/hold/holdclient"
	"github.com/atcr-dev/atcr/registry"
	"github.com/atcr-dev/atcr/registry/pds/internal/background"
	"github.com/atcr-dev/atcr/registry/pds/internal/holds"
	"github.com/atcr-dev/atcr/registry/pds/internal/keyed"
)

const (
	maxPulls    = 10_000 // counted and not yet sent
	ownerPulls  = 1000   // of one owner: anyone may pull whatever somebody lists, and a hold may be slow
	pullsAfter  = 10 * time.Second
	pullsAtOnce = 16
	pullTimeout = 30 * time.Second
	// refusedFor is how long a hold is not told of anonymous pulls after it refused to be told of one.
	refusedFor = time.Hour
)

// Outcomes of telling a hold of a pull, for the metric.
const (
	pullTold    = "told"    // the hold has it
	pullRefused = "refused" // the hold takes no such notice, or took none lately
	pullFailed  = "failed"  // hold, PDS or session did not answer
	pullFull    = "full"    // too many wait
)

// pull is one manifest that one account, or an anonymous client (actor empty), got; the hold counts it once an hour.
type pull struct {
	actor, owner, repository string
	digest                   digest.Digest
}

type waiting struct {
	session string // empty: told by PullOptions.Self
	since   time.Time
}

// PullOptions configures [NewPulls]; all but Self are required.
type PullOptions struct {
	Manifests Manifests
	Holds     *holds.Holds
	Self      holdclient.TokenFunc // nil: anonymous pulls are not counted
	Work      *background.Runner
	Clock     func() time.Time
	Log       *slog.Logger
}

// Pulls counts pulls in memory and tells holds of them in batches. Make it with [NewPulls]; safe for concurrent use.
type Pulls struct {
	o       PullOptions
	counter *prometheus.CounterVec
	deaf    *keyed.Memo[string, struct{}] // holds that refused to be told of an anonymous pull

	mu      sync.Mutex
	waiting map[pull]waiting
	of      map[string]int // how many wait, by owner
}

// NewPulls makes a Pulls.
func NewPulls(o PullOptions) *Pulls {
	return &Pulls{
		o: o, waiting: map[pull]waiting{}, of: map[string]int{}, deaf: keyed.NewMemo[string, struct{}](10_000),
		counter: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "atcr_pulls_total",
			Help: "Pulls of manifests that holds were to be told of, by who pulled and what became of it.",
		}, []string{"by", "result"}),
	}
}

// Metrics returns the counter of pulls, registered nowhere.
func (p *Pulls) Metrics() prometheus.Collector { return p.counter }

// Count counts the pull of a manifest: a GET by a client that was answered with its bytes. It costs nothing now; holds are told
// in batches. What a crash or a refusal loses is lost: a count is never worth a pull.
func (p *Pulls) Count(actor registry.Actor, owner, repository string, d digest.Digest) {
	if actor.ID == "" && p.o.Self == nil || actor.ID != "" && actor.Session == "" {
		return // nobody could sign the notice
	}
	k := pull{actor.ID, owner, repository, d}
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, ok := p.waiting[k]; ok {
		return
	}
	if len(p.waiting) >= maxPulls || p.of[owner] >= ownerPulls {
		p.became(k, pullFull)
		return
	}
	p.keep(k, waiting{session: actor.Session, since: p.o.Clock()})
}

// keep and drop are called under mu.
func (p *Pulls) keep(k pull, w waiting) {
	if _, ok := p.waiting[k]; !ok {
		p.of[k.owner]++
	}
	p.waiting[k] = w
}

func (p *Pulls) drop(k pull) {
	delete(p.waiting, k)
	if p.of[k.owner]--; p.of[k.owner] == 0 {
		delete(p.of, k.owner)
	}
}

func (p *Pulls) became(k pull, result string) {
	by := "account"
	if k.actor == "" {
		by = "anonymous"
	}
	p.counter.WithLabelValues(by, result).Inc()
}

// Send begins to tell holds of pulls that have waited, or of all.
func (p *Pulls) Send(all bool) {
	now := p.o.Clock()
	p.mu.Lock()
	due := map[pull]waiting{}
	for k, w := range p.waiting {
		if all || now.Sub(w.since) >= pullsAfter {
			due[k] = w
			p.drop(k)
		}
	}
	p.mu.Unlock()
	for k, w := range due {
		ok := p.o.Work.Go(func(ctx context.Context) { p.send(ctx, k, w) },
			background.Bound{Key: "counts", Limit: pullsAtOnce}, background.Bound{Key: "counts " + k.owner, Limit: ofOwner})
		if !ok {
			p.mu.Lock()
			p.keep(k, w) // later
			p.mu.Unlock()
		}
	}
}

func (p *Pulls) send(ctx context.Context, k pull, w waiting) {
	ctx, cancel := context.WithTimeout(ctx, pullTimeout)
	defer cancel()
	result, err := p.tell(ctx, k, w)
	if result != "" {
		p.became(k, result)
	}
	if err != nil && ctx.Err() == nil {
		p.o.Log.Debug("a pull was not counted", "owner", k.owner, "repository", k.repository, "err", err)
	}
}

// tell returns what became of a pull; empty when the manifest is gone meanwhile.
func (p *Pulls) tell(ctx context.Context, k pull, w waiting) (result string, err error) {
	hold, err := p.o.Manifests.HoldOf(ctx, k.owner, k.repository, k.digest)
	if err != nil {
		return pullFailed, err
	}
	if hold == "" {
		return "", nil
	}
	if k.actor == "" {
		if _, deaf := p.deaf.Get(hold, p.o.Clock()); deaf {
			return pullRefused, nil
		}
	}
	c, err := p.o.Holds.As(ctx, hold, registry.Actor{ID: k.actor, Session: w.session})
	if err != nil {
		return pullFailed, err
	}
	if k.actor == "" {
		c = c.As(p.o.Self)
	}
	_, err = c.NotifyManifest(ctx, holdclient.Notice{
		Operation: holdclient.Pull, Repository: k.repository, UserDID: k.owner, Digest: k.digest,
		Manifest: p.o.Manifests.Cached(ctx, k.digest),
	})
	switch {
	case err == nil:
		return pullTold, nil
	case !saysNo(err):
		return pullFailed, err
	case k.actor == "":
		p.deaf.Put(hold, struct{}{}, p.o.Clock().Add(refusedFor))
	}
	return pullRefused, err
}

// saysNo tells a hold that answered no from one that did not answer.
func saysNo(err error) bool {
	for _, kind := range []error{
		holdclient.ErrUnauthorized, holdclient.ErrForbidden, holdclient.ErrNotSupported, holdclient.ErrNotFound, holdclient.ErrInvalid,
	} {
		if errors.Is(err, kind) {
			return true
		}
	}
	return false
}
