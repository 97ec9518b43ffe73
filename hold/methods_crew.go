package hold

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"github.com/atcr-dev/atcr"
	"github.com/atcr-dev/atcr/internal/oci"
	"github.com/atcr-dev/atcr/repo"
)

// requestCrew makes the caller a member with a subset of reading and writing, where the hold lets everyone in.
func (s *Server) requestCrew(ctx context.Context, c *call) (any, error) {
	in := struct {
		Role        string   `json:"role"`
		Permissions []string `json:"permissions"`
	}{}
	if len(c.body) > 0 {
		if err := c.decode(&in); err != nil {
			return nil, err
		}
	}
	if in.Role != "" && in.Role != "member" {
		return nil, invalid("role is %q: one can ask for member only", clip(in.Role))
	}
	if in.Permissions == nil {
		in.Permissions = []string{atcr.PermissionBlobRead, atcr.PermissionBlobWrite}
	}
	for _, p := range in.Permissions {
		if p != atcr.PermissionBlobRead && p != atcr.PermissionBlobWrite {
			return nil, invalid("permissions: one can ask for %s and %s, not for %q", atcr.PermissionBlobRead, atcr.PermissionBlobWrite,
				clip(p))
		}
	}
	slices.Sort(in.Permissions)
	in.Permissions = slices.Compact(in.Permissions)
	if c.rights.Captain {
		return map[string]string{"status": "already_member", "message": "you are the captain"}, nil
	}
	if !c.rights.Crew && !s.people.record().AllowAllCrew {
		return nil, fail(http.StatusForbidden, "RegistrationDisabled", "%s takes no members by itself; ask its captain, %s", s.DID(),
			s.people.record().Owner)
	}
	res, created, err := s.people.add(ctx, c.caller, "member", in.Permissions)
	if err != nil {
		return nil, err
	}
	status := "already_member"
	if created {
		status = "created"
	}
	return map[string]string{"status": status, "uri": res.URI(s.DID()), "cid": res.CID.String()}, nil
}

// getQuota tells a user's use; one's own, or anyone's to captain and crew:admin.
func (s *Server) getQuota(ctx context.Context, c *call) (any, error) {
	did, err := queryOne(c.r, "userDid")
	if err != nil {
		return nil, err
	}
	if _, err := syntax.ParseDID(did); err != nil {
		return nil, fail(http.StatusBadRequest, "InvalidUserDid", "userDid: %v", err)
	}
	if did != c.caller && !c.rights.Admin {
		return nil, forbidden("only the captain and %s see the quota of others", atcr.PermissionCrewAdmin)
	}
	blobs, size, err := s.ledger.Usage(ctx, did)
	if err != nil {
		return nil, err
	}
	out := map[string]any{"userDid": did, "uniqueBlobs": blobs, "totalSize": size}
	if m, ok := s.people.member(did); ok && m.Tier != "" {
		out["tier"] = m.Tier
	}
	return out, nil
}

// setStats puts absolute values, for moves between holds.
func (s *Server) setStats(ctx context.Context, c *call) (any, error) {
	var in struct {
		OwnerDID   string `json:"ownerDid"`
		Repository string `json:"repository"`
		PullCount  *int64 `json:"pullCount"`
		PushCount  *int64 `json:"pushCount"`
		LastPull   string `json:"lastPull"`
		LastPush   string `json:"lastPush"`
	}
	if err := c.decode(&in); err != nil {
		return nil, err
	}
	if _, err := syntax.ParseDID(in.OwnerDID); err != nil {
		return nil, fail(http.StatusBadRequest, "InvalidOwner", "ownerDid: %v", err)
	}
	if err := oci.CheckName(in.Repository); err != nil {
		return nil, fail(http.StatusBadRequest, "InvalidRepository", "repository: %v", err)
	}
	for name, n := range map[string]*int64{"pullCount": in.PullCount, "pushCount": in.PushCount} {
		if n != nil && *n < 0 {
			return nil, invalid("%s is %d, want 0 or more", name, *n)
		}
	}
	for name, t := range map[string]string{"lastPull": in.LastPull, "lastPush": in.LastPush} {
		if t == "" {
			continue
		}
		if _, err := syntax.ParseDatetime(t); err != nil {
			return nil, invalid("%s: %v", name, err)
		}
	}
	_, _, err := s.records.update(ctx, atcr.NSIDStats, atcr.StatsRKey(in.OwnerDID, in.Repository), func(o object, _ bool) bool {
		set := object{
			"ownerDid": in.OwnerDID, "repository": in.Repository, "updatedAt": timestamp(s.clock()),
			"pullCount": o.number("pullCount"), "pushCount": o.number("pushCount"),
		}
		if in.PullCount != nil {
			set["pullCount"] = *in.PullCount
		}
		if in.PushCount != nil {
			set["pushCount"] = *in.PushCount
		}
		if in.LastPull != "" {
			set["lastPull"] = in.LastPull
		}
		if in.LastPush != "" {
			set["lastPush"] = in.LastPush
		}
		o.set(set)
		return true
	})
	if err != nil {
		return nil, err
	}
	return map[string]bool{"success": true}, nil
}

// deleteRecord deletes a record of the hold's repository. crew:admin manages crew, but touches neither the captain's
// record nor its own, nor layer records of others; the captain's record is never deleted.
func (s *Server) deleteRecord(ctx context.Context, c *call) (any, error) {
	var in struct {
		Repo       string   `json:"repo"`
		Collection string   `json:"collection"`
		RKey       string   `json:"rkey"`
		SwapRecord repo.CID `json:"swapRecord"`
		SwapCommit repo.CID `json:"swapCommit"`
	}
	if err := c.decode(&in); err != nil {
		return nil, err
	}
	if did, err := syntax.ParseDID(in.Repo); (err != nil || !s.keeper.self().Is(did)) && in.Repo != s.cfg.host() {
		return nil, invalid("repo is %q, this is %s", clip(in.Repo), s.DID())
	}
	if _, err := syntax.ParseNSID(in.Collection); err != nil {
		return nil, invalid("collection: %v", err)
	}
	if _, err := syntax.ParseRecordKey(in.RKey); err != nil {
		return nil, invalid("rkey: %v", err)
	}
	if in.Collection == atcr.NSIDCaptain {
		return nil, forbidden("the captain record can't be deleted; change the hold's configuration")
	}
	if !c.rights.Captain && in.Collection == atcr.NSIDCrew && s.people.whose(in.RKey) == c.caller {
		return nil, forbidden("%s can't change its own rights", atcr.PermissionCrewAdmin)
	}
	var guards []repo.Guard
	if in.SwapCommit.Defined() {
		guards = append(guards, repo.SwapCommit(in.SwapCommit))
	}
	if !c.rights.Captain && in.Collection == atcr.NSIDLayer {
		guards = append(guards, ownLayer(in.RKey, c.caller))
	}
	commit, err := s.records.apply(ctx, []repo.Write{{Action: repo.Delete, Collection: in.Collection, RKey: in.RKey,
		Swap: in.SwapRecord}}, guards...)
	if isNotFound(err) {
		return map[string]any{}, nil // as PDSes do: deleting what is gone is no error
	}
	if err != nil {
		return nil, err
	}
	return map[string]any{"commit": map[string]string{"cid": commit.CID.String(), "rev": commit.Rev}}, nil
}

// ownLayer holds where a layer record is the caller's, or isn't there.
func ownLayer(rkey, caller string) repo.Guard {
	return func(now repo.Snapshot) error {
		rec, err := now.Get(atcr.NSIDLayer, rkey)
		if isNotFound(err) {
			return nil
		}
		if err != nil {
			return err
		}
		var layer struct {
			UserDID string `json:"userDid"`
		}
		js, err := rec.JSON()
		if err != nil || json.Unmarshal(js, &layer) != nil || layer.UserDID != caller {
			return forbidden("layer records of others are the captain's alone to delete")
		}
		return nil
	}
}
