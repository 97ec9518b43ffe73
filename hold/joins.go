package hold

import (
	"context"
	"slices"
	"time"

	"github.com/atcr-dev/atcr"
	"github.com/atcr-dev/atcr/internal/httpx"
	"github.com/atcr-dev/atcr/internal/limit"
	"github.com/atcr-dev/atcr/internal/party"
	"github.com/atcr-dev/atcr/repo"
)

// Anybody makes as many DIDs as they like, and each that joins costs a record and a commit that relays follow.
const (
	joinsOfClient = 200 // at once, then one a second: an AppView is one client
	joinsOfDomain = 20  // at once, then one a minute: names of did:web under one registered domain
	joinIdle      = time.Hour
	dropAtOnce    = 100 // members that make room
)

// joins bounds how fast members come by themselves.
type joins struct{ clients, domains *limit.Rates }

func newJoins() joins {
	return joins{clients: limit.NewRates(1, joinsOfClient), domains: limit.NewRates(1.0/60, joinsOfDomain)}
}

// take is an error for one who has to wait.
func (j joins) take(ctx context.Context, did string, now time.Time) error {
	wait := time.Duration(0)
	if domain := party.Of(did); domain != did {
		wait = j.domains.Take(domain, now)
	}
	if a := httpx.Client(ctx); wait == 0 && a.IsValid() {
		wait = j.clients.Take(a.String(), now)
	}
	if wait > 0 {
		return &xrpcError{status: 429, name: "RateLimitExceeded", message: "too many have joined from there: try again later",
			retryAfter: max(wait.Round(time.Second), time.Second)}
	}
	return nil
}

// makeRoom removes some members that came by themselves and have nothing here, the newest of those who came an hour ago or earlier: they
// may join again. It reports whether there is room now.
func (p *people) makeRoom(ctx context.Context) (bool, error) {
	busy, err := p.inUse(ctx)
	if err != nil {
		return false, err
	}
	idle := p.idle(busy, p.clock().Add(-joinIdle))
	if len(idle) > dropAtOnce {
		idle = idle[:dropAtOnce]
	}
	if len(idle) == 0 {
		return false, nil
	}
	var writes []repo.Write
	for _, rkey := range idle {
		writes = append(writes, repo.Write{Action: repo.Delete, Collection: atcr.NSIDCrew, RKey: rkey})
	}
	if _, err := p.records.apply(ctx, writes); err != nil && !isNotFound(err) {
		return false, err
	}
	p.log.Warn("the crew is full: members that joined by themselves and have nothing here make room", "members", p.members(),
		"removed", len(idle))
	return true, nil
}

// inUse are those who have something here.
func (p *people) inUse(ctx context.Context) (map[string]bool, error) {
	dids, err := p.records.ledger.Users(ctx)
	if err != nil {
		return nil, err
	}
	begun, err := p.uploads.Users(ctx)
	if err != nil {
		return nil, err
	}
	busy := map[string]bool{}
	for _, did := range append(dids, begun...) {
		busy[did] = true
	}
	for _, m := range p.cfg.Crew {
		busy[m.Member] = true
	}
	return busy, nil
}

// asJoined reports whether a record is one that requestCrew makes: with both permissions, or with fewer and the mark that the member asked
// for no more.
func asJoined(m member) bool {
	for _, p := range m.Permissions {
		if p != atcr.PermissionBlobRead && p != atcr.PermissionBlobWrite {
			return false
		}
	}
	both := len(m.Permissions) == 2 && m.Can(atcr.PermissionBlobRead) && m.Can(atcr.PermissionBlobWrite)
	return m.Role == "member" && m.Tier == "" && (both || m.Joined)
}

// idle are the keys of records as requestCrew makes them, of members who are not busy and were added before a time, the newest first.
// What the captain gave in any other way is left alone: joining again must not undo it.
func (a *access) idle(busy map[string]bool, before time.Time) (rkeys []string) {
	type one struct {
		rkey  string
		added time.Time
	}
	var list []one
	a.mu.RLock()
	for did, records := range a.crew {
		m := records[0]
		added, err := time.Parse(time.RFC3339, string(m.AddedAt))
		if asJoined(m) && len(records) == 1 && !busy[did] && err == nil && added.Before(before) {
			list = append(list, one{m.rkey, added})
		}
	}
	a.mu.RUnlock()
	slices.SortFunc(list, func(x, y one) int { return y.added.Compare(x.added) })
	for _, m := range list {
		rkeys = append(rkeys, m.rkey)
	}
	return rkeys
}
