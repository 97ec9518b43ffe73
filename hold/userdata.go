package hold

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/atcr-dev/atcr"
	"github.com/atcr-dev/atcr/internal/sqlx"
	"github.com/atcr-dev/atcr/repo"
)

func isNotFound(err error) bool { return errors.Is(err, repo.ErrNotFound) }

// userRecords are the keys of a user's layer and stats records.
func (s *Server) userRecords(ctx context.Context, did string) (layers, stats []string, err error) {
	if err := s.ensureIndex(ctx); err != nil {
		return nil, nil, err
	}
	rows, err := s.db.Read().QueryContext(ctx, `select rkey from hold_layer where did = $1 order by rkey`, did)
	if err != nil {
		return nil, nil, fmt.Errorf("records of %s: %w", did, sqlx.Wrap(err))
	}
	defer rows.Close()
	for rows.Next() {
		var rkey string
		if err := rows.Scan(&rkey); err != nil {
			return nil, nil, fmt.Errorf("records of %s: %w", did, sqlx.Wrap(err))
		}
		layers = append(layers, rkey)
	}
	if err := rows.Err(); err != nil {
		return nil, nil, fmt.Errorf("records of %s: %w", did, sqlx.Wrap(err))
	}
	for rec, err := range s.repo.List(ctx, atcr.NSIDStats, "", false) {
		if err != nil {
			return nil, nil, err
		}
		var st struct {
			OwnerDID string `json:"ownerDid"`
		}
		if js, err := rec.JSON(); err == nil && json.Unmarshal(js, &st) == nil && st.OwnerDID == did {
			stats = append(stats, rec.RKey)
		}
	}
	return layers, stats, nil
}

// deleteUserData deletes the caller's records. A crew record that gives less than requestCrew would stays where everybody may
// join: it is the captain's word on the member, and leaving must not undo it. Layers stay until nobody's record names them and the collector comes.
func (s *Server) deleteUserData(ctx context.Context, c *call) (any, error) {
	var layersDeleted, statsDeleted int
	err := s.onIndex(ctx, func(same repo.Guard) error {
		layers, stats, err := s.userRecords(ctx, c.caller)
		if err != nil {
			return err
		}
		n, err := s.deleteRecords(ctx, atcr.NSIDLayer, layers, same)
		layersDeleted += n
		if err != nil {
			return err
		}
		n, err = s.deleteRecords(ctx, atcr.NSIDStats, stats)
		statsDeleted += n
		return err
	})
	if err != nil {
		return nil, err
	}
	crew := false
	if m, ok := s.access.member(c.caller); ok && !c.rights.Captain && (c.rights.Write || !s.access.record().AllowAllCrew) {
		if _, err := s.deleteRecords(ctx, atcr.NSIDCrew, []string{m.rkey}); err != nil {
			return nil, err
		}
		crew = true
	}
	for _, table := range []string{"hold_lease", "hold_manifest", "hold_counted"} {
		if _, err := s.db.Write().ExecContext(ctx, `delete from `+table+` where did = $1`, c.caller); err != nil {
			return nil, fmt.Errorf("forget %s: %w", c.caller, sqlx.Wrap(err))
		}
	}
	return map[string]any{"success": true, "crewDeleted": crew, "layersDeleted": layersDeleted, "statsDeleted": statsDeleted}, nil
}

// exportUserData answers all records about the caller.
func (s *Server) exportUserData(ctx context.Context, c *call) (any, error) {
	layers, stats, err := s.userRecords(ctx, c.caller)
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
			o, _, err := s.getObject(ctx, collection, k)
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
	if m, ok := s.access.member(c.caller); ok {
		out["crewRecord"] = m
	}
	return out, nil
}
