package hold

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/atcr-dev/atcr"
	"github.com/atcr-dev/atcr/repo"
)

func isNotFound(err error) bool { return errors.Is(err, repo.ErrNotFound) }

// statsOf are the keys of a user's stats records.
func (r *records) statsOf(ctx context.Context, did string) (rkeys []string, err error) {
	for rec, err := range r.repo.List(ctx, atcr.NSIDStats, "", false) {
		if err != nil {
			return nil, err
		}
		var st struct {
			OwnerDID string `json:"ownerDid"`
		}
		if js, err := rec.JSON(); err == nil && json.Unmarshal(js, &st) == nil && st.OwnerDID == did {
			rkeys = append(rkeys, rec.RKey)
		}
	}
	return rkeys, nil
}

// deleteUserData deletes the caller's records. A crew record that gives less than requestCrew would stays where everybody may
// join: it is the captain's word on the member, and leaving must not undo it. Layers stay until nobody's record names them and
// the collector comes.
func (s *Server) deleteUserData(ctx context.Context, c *call) (any, error) {
	layersDeleted, err := s.ledger.RemoveUser(ctx, c.caller)
	if err != nil {
		return nil, err
	}
	stats, err := s.records.statsOf(ctx, c.caller)
	if err != nil {
		return nil, err
	}
	statsDeleted, err := s.records.delete(ctx, atcr.NSIDStats, stats...)
	if err != nil {
		return nil, err
	}
	crew := false
	if m, ok := s.people.member(c.caller); ok && !c.rights.Captain && (c.rights.Write || !s.people.record().AllowAllCrew) {
		if _, err := s.records.delete(ctx, atcr.NSIDCrew, m.rkey); err != nil {
			return nil, err
		}
		crew = true
	}
	if err := s.ledger.ForgetUser(ctx, c.caller); err != nil {
		return nil, err
	}
	return map[string]any{"success": true, "crewDeleted": crew, "layersDeleted": layersDeleted, "statsDeleted": statsDeleted}, nil
}

// exportUserData returns all records about the caller.
func (s *Server) exportUserData(ctx context.Context, c *call) (any, error) {
	layers, err := s.ledger.LayersOfUser(ctx, c.caller)
	if err != nil {
		return nil, err
	}
	stats, err := s.records.statsOf(ctx, c.caller)
	if err != nil {
		return nil, err
	}
	out := map[string]any{
		"exportedAt": timestamp(s.clock()), "holdDid": s.DID(), "userDid": c.caller, "isCaptain": c.rights.Captain,
		"blueskyPosts": []any{},
	}
	for name, keys := range map[string][]string{"layerRecords": layers, "statsRecords": stats} {
		collection := atcr.NSIDLayer
		if name == "statsRecords" {
			collection = atcr.NSIDStats
		}
		list := []object{}
		for _, k := range keys {
			o, _, err := s.records.get(ctx, collection, k)
			if isNotFound(err) {
				continue
			}
			if err != nil {
				return nil, err
			}
			list = append(list, o)
		}
		out[name] = list
	}
	if m, ok := s.people.member(c.caller); ok {
		out["crewRecord"] = m
	}
	return out, nil
}
