package pds

import (
	"context"
	"errors"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/atcr-dev/atcr/hold/holdclient"
	"github.com/atcr-dev/atcr/registry"
)

const (
	maxPulls   = 10_000 // counted and not yet sent
	ownerPulls = 1000   // of one owner: strangers may pull whatever somebody lists, and a hold may be slow
	pullsAfter = 10 * time.Second
	// refusedFor is how long a hold is not told of anonymous pulls after it refused to hear of one.
	refusedFor = time.Hour
)

// pull is one manifest that one account, or an anonymous client (actor empty), got; the hold counts it once an hour.
type pull struct {
	actor, owner, repository string
	digest                   digest.Digest
}

type pulled struct {
	session string // empty: told by Options.Self
	since   time.Time
}

// Outcomes of telling a hold of a pull, for the metric.
const (
	pullTold    = "told"    // the hold has it
	pullRefused = "refused" // the hold takes no such notice, or took none lately
	pullFailed  = "failed"  // hold, PDS or session did not answer
	pullFull    = "full"    // too many wait
)

func newPullCounter() *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "atcr_pulls_total",
		Help: "Pulls of manifests that holds were to be told of, by who pulled and what became of it.",
	}, []string{"by", "result"})
}

// Metrics are the backend's own collectors, registered nowhere.
func (b *Backend) Metrics() []prometheus.Collector {
	return []prometheus.Collector{b.pullCounter, prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "atcr_records_disproved_total",
		Help: "Records that an owner's PDS listed and that its signed repository does not hold; they were refused.",
	}, func() float64 { return float64(b.disproved.Load()) })}
}

// pulled counts the pull of a manifest: a GET by a client that was answered with its bytes. It costs nothing now; holds are told
// in batches. What a crash or a refusal loses is lost: a count is never worth a pull.
func (b *Backend) pulled(actor registry.Actor, owner, repository string, d digest.Digest) {
	if actor.ID == "" && b.self == nil || actor.ID != "" && actor.Session == "" {
		return // nobody could sign the notice
	}
	k := pull{actor.ID, owner, repository, d}
	b.pullsMu.Lock()
	defer b.pullsMu.Unlock()
	if _, ok := b.pulls[k]; ok {
		return
	}
	if len(b.pulls) >= maxPulls || b.pullsOf[owner] >= ownerPulls {
		b.countPull(k, pullFull)
		return
	}
	b.keepPull(k, pulled{session: actor.Session, since: b.clock()})
}

// keepPull and dropPull are called under pullsMu.
func (b *Backend) keepPull(k pull, p pulled) {
	if _, ok := b.pulls[k]; !ok {
		b.pullsOf[k.owner]++
	}
	b.pulls[k] = p
}

func (b *Backend) dropPull(k pull) {
	delete(b.pulls, k)
	if b.pullsOf[k.owner]--; b.pullsOf[k.owner] == 0 {
		delete(b.pullsOf, k.owner)
	}
}

func (b *Backend) countPull(k pull, result string) {
	by := "account"
	if k.actor == "" {
		by = "anonymous"
	}
	b.pullCounter.WithLabelValues(by, result).Inc()
}

// sendPulls tells holds of pulls that have waited, or of all.
func (b *Backend) sendPulls(all bool) {
	now := b.clock()
	b.pullsMu.Lock()
	due := map[pull]pulled{}
	for k, p := range b.pulls {
		if all || now.Sub(p.since) >= pullsAfter {
			due[k] = p
			b.dropPull(k)
		}
	}
	b.pullsMu.Unlock()
	for k, p := range due {
		leave := b.gate.enter(bound{"counts", maxCounts}, bound{"counts " + k.owner, tailsOfOwner})
		if leave == nil {
			b.pullsMu.Lock()
			b.keepPull(k, p) // later
			b.pullsMu.Unlock()
			continue
		}
		b.work.Go(func() {
			defer leave()
			ctx, cancel := context.WithTimeout(b.life, callTimeout)
			defer cancel()
			result, err := b.sendPull(ctx, k, p)
			if result != "" {
				b.countPull(k, result)
			}
			if err != nil && ctx.Err() == nil {
				b.log.Debug("a pull was not counted", "owner", k.owner, "repository", k.repository, "err", err)
			}
		})
	}
}

// sendPull answers what became of a pull; empty when the manifest is gone meanwhile.
func (b *Backend) sendPull(ctx context.Context, k pull, p pulled) (result string, err error) {
	o, err := b.owner(ctx, k.owner)
	if err != nil {
		return pullFailed, err
	}
	m, ok, err := manifestByDigest(ctx, b.db.Read(), o.DID, k.repository, k.digest)
	if err != nil {
		return pullFailed, err
	}
	if !ok {
		return "", nil
	}
	if k.actor == "" {
		if _, deaf := b.deaf.get(m.Hold, b.clock()); deaf {
			return pullRefused, nil
		}
	}
	c, err := b.holdAs(ctx, m.Hold, p.session)
	if err != nil {
		return pullFailed, err
	}
	if k.actor == "" {
		c = c.As(b.self)
	}
	n := holdclient.Notice{Operation: holdclient.Pull, Repository: k.repository, UserDID: o.DID, Digest: k.digest}
	if c, ok, err := b.cachedBody(ctx, k.digest); err == nil && ok {
		n.Manifest = c.bytes
	}
	_, err = c.NotifyManifest(ctx, n)
	switch {
	case err == nil:
		return pullTold, nil
	case !saysNo(err):
		return pullFailed, err
	case k.actor == "":
		b.deaf.put(m.Hold, struct{}{}, b.clock().Add(refusedFor))
	}
	return pullRefused, err
}

// saysNo tells a hold that answered no from one that did not answer.
func saysNo(err error) bool {
	for _, kind := range []error{holdclient.ErrUnauthorized, holdclient.ErrForbidden, holdclient.ErrNotSupported, holdclient.ErrNotFound, holdclient.ErrInvalid} {
		if errors.Is(err, kind) {
			return true
		}
	}
	return false
}
