package hold

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"github.com/atcr-dev/atcr"
	"github.com/atcr-dev/atcr/repo"
)

// alignRecords reads captain and crew into memory and brings them in line with the configuration, which wins. Fields and
// members it doesn't name stay as they are.
func (s *Server) alignRecords(ctx context.Context) error {
	if err := s.loadCrew(ctx); err != nil {
		return err
	}
	if err := s.alignCaptain(ctx); err != nil {
		return err
	}
	if err := s.alignProfile(ctx); err != nil {
		return err
	}
	for _, m := range s.cfg.Crew {
		if err := s.alignMember(ctx, m); err != nil {
			return err
		}
	}
	return nil
}

func (s *Server) loadCrew(ctx context.Context) error {
	s.peopleMu.Lock()
	defer s.peopleMu.Unlock()
	all := newAccess()
	for rec, err := range s.repo.List(ctx, atcr.NSIDCrew, "", false) {
		if err != nil {
			return err
		}
		js, err := rec.JSON()
		if err == nil {
			err = all.setCrew(rec.RKey, js)
		}
		if err != nil {
			s.log.Warn("a crew record is passed over", "rkey", rec.RKey, "error", err)
		}
	}
	s.access.takeCrew(all)
	return nil
}

func (s *Server) alignCaptain(ctx context.Context) error {
	want := object{
		"owner": s.cfg.OwnerDID, "public": s.cfg.Public, "allowAllCrew": s.cfg.AllowAllCrew,
		"enableBlueskyPosts": s.cfg.EnableBlueskyPosts,
	}
	if s.cfg.Region != "" {
		want["region"] = s.cfg.Region
	}
	if s.cfg.Successor != "" {
		want["successor"] = s.cfg.Successor
	}
	_, written, err := s.update(ctx, atcr.NSIDCaptain, "self", func(o object, exists bool) bool {
		if !exists {
			o["deployedAt"] = timestamp(s.clock())
		}
		changed := o.set(want)
		if exists && len(changed) > 0 {
			s.log.Warn("the captain record differed from the configuration, which wins", "fields", strings.Join(changed, " "))
		}
		return len(changed) > 0
	})
	if err != nil || written {
		return err
	}
	o, _, err := s.getObject(ctx, atcr.NSIDCaptain, "self")
	if err != nil {
		return err
	}
	js, err := encodeObject(o)
	if err != nil {
		return err
	}
	return s.access.setCaptain(js)
}

// alignMember writes one configured member's record, at the key where the member's record is or, for a new one, at
// the key made from the DID. A handle that can't be resolved now is passed over: the hold must start.
func (s *Server) alignMember(ctx context.Context, m CrewMember) error {
	did := m.Member
	if !strings.HasPrefix(did, "did:") {
		who, err := s.dir.LookupHandle(ctx, syntax.Handle(did).Normalize())
		if err != nil {
			s.log.Warn("a configured crew member's handle can't be resolved; its record is left as it is. Name its DID instead, or start again later", "handle", did, "error", err)
			return nil
		}
		did = who.DID.String()
	}
	rkey := atcr.CrewRKey(did)
	if have, ok := s.access.member(did); ok {
		rkey = have.rkey
	}
	want := object{"member": did, "role": m.Role, "permissions": permissions(m.Permissions)}
	if m.Tier != "" {
		want["tier"] = m.Tier
	}
	_, _, err := s.update(ctx, atcr.NSIDCrew, rkey, func(o object, exists bool) bool {
		if !exists {
			o["addedAt"] = timestamp(s.clock())
		}
		changed := o.set(want)
		if exists && len(changed) > 0 {
			s.log.Warn("a crew record differed from the configuration, which wins", "member", did, "fields", strings.Join(changed, " "))
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

// addMember makes the crew record of somebody who asks to join. created is false when there is one.
func (s *Server) addMember(ctx context.Context, did, role string, perms []string) (res repo.Result, created bool, err error) {
	if m, ok := s.access.member(did); ok {
		res, err := s.memberRecord(ctx, m.rkey)
		return res, false, err
	}
	if n := s.access.members(); n >= s.cfg.MaxCrew {
		return repo.Result{}, false, forbidden("the hold has %d members, which is its limit", n)
	}
	value, err := repo.RecordFrom(object{
		"$type": atcr.NSIDCrew, "member": did, "role": role, "permissions": permissions(perms), "addedAt": timestamp(s.clock()),
	})
	if err != nil {
		return repo.Result{}, false, err
	}
	commit, err := s.apply(ctx, []repo.Write{{Action: repo.Create, Collection: atcr.NSIDCrew, RKey: atcr.CrewRKey(did), Record: value}})
	if errors.Is(err, repo.ErrExists) { // somebody was faster
		res, err := s.memberRecord(ctx, atcr.CrewRKey(did))
		return res, false, err
	}
	if err != nil {
		return repo.Result{}, false, fmt.Errorf("add member: %w", err)
	}
	return commit.Results[0], true, nil
}

func (s *Server) memberRecord(ctx context.Context, rkey string) (repo.Result, error) {
	rec, err := s.repo.Get(ctx, atcr.NSIDCrew, rkey)
	return repo.Result{Collection: atcr.NSIDCrew, RKey: rkey, CID: rec.CID}, err
}
