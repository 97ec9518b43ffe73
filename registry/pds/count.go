package pds

import (
	"context"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/atcr-dev/atcr/hold/holdclient"
	"github.com/atcr-dev/atcr/registry"
)

const (
	maxPulls   = 10_000 // counted and not yet sent
	pullsAfter = 10 * time.Second
)

// pull is one manifest that one account got; the hold counts it once an hour.
type pull struct {
	actor, owner, repository string
	digest                   digest.Digest
}

type pulled struct {
	session string
	since   time.Time
}

// pulled counts the pull of a manifest: a GET by a client that was answered with its bytes. It costs nothing now; holds are told
// in batches. Pulls of anonymous clients are not counted, and what a crash loses is lost.
func (b *Backend) pulled(actor registry.Actor, owner, repository string, d digest.Digest) {
	if actor.ID == "" || actor.Session == "" {
		return
	}
	b.pullsMu.Lock()
	defer b.pullsMu.Unlock()
	k := pull{actor.ID, owner, repository, d}
	if _, ok := b.pulls[k]; !ok && len(b.pulls) < maxPulls {
		b.pulls[k] = pulled{session: actor.Session, since: b.clock()}
	}
}

// sendPulls tells holds of pulls that have waited, or of all.
func (b *Backend) sendPulls(all bool) {
	now := b.clock()
	b.pullsMu.Lock()
	due := map[pull]pulled{}
	for k, p := range b.pulls {
		if all || now.Sub(p.since) >= pullsAfter {
			due[k] = p
			delete(b.pulls, k)
		}
	}
	b.pullsMu.Unlock()
	for k, p := range due {
		leave := b.gate.enter(bound{"counts", maxCounts}, bound{"counts " + k.owner, tailsOfOwner})
		if leave == nil {
			b.pullsMu.Lock()
			b.pulls[k] = p // later
			b.pullsMu.Unlock()
			continue
		}
		b.work.Go(func() {
			defer leave()
			ctx, cancel := context.WithTimeout(b.life, callTimeout)
			defer cancel()
			if err := b.sendPull(ctx, k, p); err != nil && ctx.Err() == nil {
				b.log.Debug("a pull was not counted", "owner", k.owner, "repository", k.repository, "err", err)
			}
		})
	}
}

func (b *Backend) sendPull(ctx context.Context, k pull, p pulled) error {
	o, err := b.owner(ctx, k.owner)
	if err != nil {
		return err
	}
	m, ok, err := manifestByDigest(ctx, b.db.Read(), o.DID, k.repository, k.digest)
	if err != nil || !ok {
		return err
	}
	c, err := b.holdAs(ctx, m.Hold, p.session)
	if err != nil {
		return err
	}
	n := holdclient.Notice{Operation: holdclient.Pull, Repository: k.repository, UserDID: o.DID, Digest: k.digest}
	if c, ok, err := b.cachedBody(ctx, k.digest); err == nil && ok {
		n.Manifest = c.bytes
	}
	_, err = c.NotifyManifest(ctx, n)
	return err
}
