package hold

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"github.com/atcr-dev/atcr"
	"github.com/atcr-dev/atcr/hold/internal/upload"
	"github.com/atcr-dev/atcr/identity"
	"github.com/atcr-dev/atcr/repo"
)

// people are captain, crew and profile: records that the configuration decides about, and who reads them by.
type people struct {
	*access
	cfg     *Config
	records *records
	uploads *upload.Uploads
	joins   joins
	dir     identity.Directory
	clock   func() time.Time
	log     *slog.Logger

	as uint64 // Foreign of the repository before they were last read; of who aligns and then follows
}

// align reads captain and crew into memory and brings them in line with the configuration, which wins. Fields and
// members it doesn't name stay as they are.
func (p *people) align(ctx context.Context) error {
	as := p.records.repo.Foreign()
	if err := p.load(ctx); err != nil {
		return err
	}
	if err := p.alignCaptain(ctx); err != nil {
		return err
	}
	if err := p.alignProfile(ctx); err != nil {
		return err
	}
	for _, m := range p.cfg.Crew {
		if err := p.alignMember(ctx, m); err != nil {
			return err
		}
	}
	p.as = as
	return nil
}

func (p *people) load(ctx context.Context) error {
	p.access.writing.Lock()
	defer p.access.writing.Unlock()
	all := newAccess()
	for rec, err := range p.records.repo.List(ctx, atcr.NSIDCrew, "", false) {
		if err != nil {
			return err
		}
		js, err := rec.JSON()
		if err == nil {
			err = all.setCrew(rec.RKey, js)
		}
		if err != nil {
			p.log.Warn("a crew record is passed over", "rkey", rec.RKey, "error", err)
		}
	}
	p.takeCrew(all)
	return nil
}

func (p *people) alignCaptain(ctx context.Context) error {
	want := object{
		"owner": p.cfg.OwnerDID, "public": p.cfg.Public, "allowAllCrew": p.cfg.AllowAllCrew,
		"enableBlueskyPosts": p.cfg.EnableBlueskyPosts,
	}
	if p.cfg.Region != "" {
		want["region"] = p.cfg.Region
	}
	if p.cfg.Successor != "" {
		want["successor"] = p.cfg.Successor
	}
	_, written, err := p.records.update(ctx, atcr.NSIDCaptain, "self", func(o object, exists bool) bool {
		if !exists {
			o["deployedAt"] = timestamp(p.clock())
		}
		changed := o.set(want)
		if exists && len(changed) > 0 {
			p.log.Warn("the captain record differed from the configuration, which wins", "fields", strings.Join(changed, " "))
		}
		return len(changed) > 0
	})
	if err != nil || written {
		return err
	}
	o, _, err := p.records.get(ctx, atcr.NSIDCaptain, "self")
	if err != nil {
		return err
	}
	js, err := encodeObject(o)
	if err != nil {
		return err
	}
	return p.setCaptain(js)
}

// alignMember writes one configured member's record, at the key where the member's record is or, for a new one, at
// the key made from the DID. A handle that can't be resolved now is passed over: the hold must start.
func (p *people) alignMember(ctx context.Context, m CrewMember) error {
	did := m.Member
	if !strings.HasPrefix(did, "did:") {
		who, err := p.dir.LookupHandle(ctx, syntax.Handle(did).Normalize())
		if err != nil {
			p.log.Warn("a configured crew member's handle can't be resolved; its record is left as it is. "+
				"Name its DID instead, or start again later", "handle", did, "error", err)
			return nil
		}
		did = who.DID.String()
	}
	rkey := atcr.CrewRKey(did)
	if have, ok := p.member(did); ok {
		rkey = have.rkey
	}
	want := object{"member": did, "role": m.Role, "permissions": permissions(m.Permissions)}
	if m.Tier != "" {
		want["tier"] = m.Tier
	}
	_, _, err := p.records.update(ctx, atcr.NSIDCrew, rkey, func(o object, exists bool) bool {
		if !exists {
			o["addedAt"] = timestamp(p.clock())
		}
		changed := o.set(want)
		if _, ok := o["joined"]; ok {
			delete(o, "joined")
			changed = append(changed, "joined")
		}
		if exists && len(changed) > 0 {
			p.log.Warn("a crew record differed from the configuration, which wins", "member", did, "fields", strings.Join(changed, " "))
		}
		return len(changed) > 0
	})
	if err != nil {
		return fmt.Errorf("crew member %s: %w", did, err)
	}
	return nil
}

// permissions is never null in a record.
func permissions(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}

// add makes the crew record of somebody who asks to join. created is false when there is one.
func (p *people) add(ctx context.Context, did, role string, perms []string) (res repo.Result, created bool, err error) {
	if m, ok := p.member(did); ok {
		res, err := p.memberRecord(ctx, m.rkey)
		return res, false, err
	}
	if err := p.joins.take(ctx, did, p.clock()); err != nil {
		return repo.Result{}, false, err
	}
	if n := p.members(); n >= p.cfg.MaxCrew {
		room, err := p.makeRoom(ctx)
		if err != nil {
			return repo.Result{}, false, fmt.Errorf("make room for a member: %w", err)
		}
		if !room {
			return repo.Result{}, false, forbidden("the hold has %d members, which is its limit", n)
		}
	}
	value, err := repo.RecordFrom(object{
		"$type": atcr.NSIDCrew, "member": did, "role": role, "permissions": permissions(perms), "addedAt": timestamp(p.clock()),
		"joined": true,
	})
	if err != nil {
		return repo.Result{}, false, err
	}
	commit, err := p.records.apply(ctx, []repo.Write{{Action: repo.Create, Collection: atcr.NSIDCrew, RKey: atcr.CrewRKey(did),
		Record: value}})
	if errors.Is(err, repo.ErrExists) { // somebody was faster
		res, err := p.memberRecord(ctx, atcr.CrewRKey(did))
		return res, false, err
	}
	if err != nil {
		return repo.Result{}, false, fmt.Errorf("add member: %w", err)
	}
	return commit.Results[0], true, nil
}

func (p *people) memberRecord(ctx context.Context, rkey string) (repo.Result, error) {
	rec, err := p.records.repo.Get(ctx, atcr.NSIDCrew, rkey)
	return repo.Result{Collection: atcr.NSIDCrew, RKey: rkey, CID: rec.CID}, err
}

const followAgain = 5 * time.Second

// follow has captain and crew follow what other processes write to the repository (datadir.OpenRepo, where it lies in a database), within
// a second, until ctx ends; the configuration wins again as at a start. also is called after each such change.
func (p *people) follow(ctx context.Context, also func(context.Context) error) {
	for {
		changed := p.records.repo.Changed()
		var again <-chan time.Time
		if p.records.repo.Foreign() != p.as {
			p.log.Info("another process has written to the repository; captain, crew and the index of layers are read again")
			was := p.as
			err := p.align(ctx)
			if err == nil {
				err = also(ctx)
			}
			if err != nil {
				p.as = was
			}
			if err != nil && ctx.Err() == nil {
				p.log.Error("another process has written to the repository, and it can't be read; it is tried again",
					"error", err, "in", followAgain.String())
				again = time.After(followAgain)
			}
		}
		select {
		case <-changed:
		case <-again:
		case <-ctx.Done():
			return
		}
	}
}
