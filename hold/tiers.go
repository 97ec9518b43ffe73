package hold

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"github.com/atcr-dev/atcr"
	"github.com/atcr-dev/atcr/identity"
	"github.com/atcr-dev/atcr/identity/serviceauth"
)

// maxTiers bounds Config.Tiers.
const maxTiers = 1000

// Tier is a rank of the crew. Its place in Config.Tiers is the rank, from 0. A tier's quota is not enforced yet.
type Tier struct {
	Name        string `json:"name"`                  // at most 32 bytes, as crew records have it
	Description string `json:"description,omitempty"` // for people; at most 1024 bytes
}

func checkTiers(tiers []Tier) error {
	if len(tiers) > maxTiers {
		return fmt.Errorf("hold: Tiers: there are %d, at most %d are allowed", len(tiers), maxTiers)
	}
	seen := map[string]bool{}
	for i, t := range tiers {
		switch {
		case t.Name == "":
			return fmt.Errorf("hold: Tiers[%d] has no name", i)
		case len(t.Name) > 32 || len(t.Description) > 1024:
			return fmt.Errorf("hold: Tiers[%d]: a name has at most 32 bytes and a description 1024", i)
		case seen[t.Name]:
			return fmt.Errorf("hold: Tiers[%d]: %q is there twice: its rank would be in doubt", i, t.Name)
		}
		seen[t.Name] = true
	}
	return nil
}

// listTiers tells the tiers in the order of their ranks. Limits are not told, since none are kept yet.
func (s *Server) listTiers(context.Context, *call) (any, error) {
	tiers := s.cfg.Tiers
	if tiers == nil {
		tiers = []Tier{}
	}
	return map[string]any{"tiers": tiers}, nil
}

// identifyAppView takes a token of the AppView that the hold trusts, in the name of a user (protocol: "Who asks", b). The user
// is what the token is about: it gets none of the user's rights.
func (s *Server) identifyAppView(c *call, claims serviceauth.Claims) error {
	trusted := syntax.DID(s.cfg.AppViewDID)
	switch {
	case trusted == "":
		return unauthorized("AuthRequired", "this hold trusts no AppView; its captain can name one (server.appview_did)")
	case !atcr.SameDID(claims.Issuer.String(), s.cfg.AppViewDID, s.cfg.TestMode):
		return unauthorized("AuthRequired", "the token is of %s; this hold trusts %s", claims.Issuer, trusted)
	case claims.Subject == "" || claims.Subject == claims.Issuer:
		return unauthorized("AuthRequired", "the token names no user: sub is the DID of the member whose tier changes")
	}
	c.caller, c.subject = claims.Issuer.String(), claims.Subject.String()
	return nil
}

// updateCrewTier writes the tier of that rank into a member's crew record. A member whose tier Config.Crew names has that one
// again after a restart: the configuration wins.
func (s *Server) updateCrewTier(ctx context.Context, c *call) (any, error) {
	var in struct {
		UserDID  string `json:"userDid"`
		TierRank *int   `json:"tierRank"`
	}
	if err := c.decode(&in); err != nil {
		return nil, err
	}
	if _, err := syntax.ParseDID(in.UserDID); err != nil {
		return nil, invalid("userDid: %v", err)
	}
	if in.UserDID != c.subject {
		return nil, fail(http.StatusForbidden, "UserMismatch", "userDid is %s, the token is about %s", clip(in.UserDID), c.subject)
	}
	if in.TierRank == nil {
		return nil, invalid("tierRank is missing")
	}
	if n := len(s.cfg.Tiers); *in.TierRank < 0 || *in.TierRank >= n {
		return nil, invalid("tierRank is %d; this hold has %d tiers, ranked from 0 (io.atcr.hold.listTiers)", *in.TierRank, n)
	}
	tier := s.cfg.Tiers[*in.TierRank].Name
	m, ok := s.people.member(in.UserDID)
	if !ok {
		return nil, userNotFound(in.UserDID)
	}
	found := false
	_, written, err := s.records.update(ctx, atcr.NSIDCrew, m.rkey, func(o object, exists bool) bool {
		found = exists && o["member"] == in.UserDID // or it left meanwhile
		return found && len(o.set(object{"tier": tier})) > 0
	})
	switch {
	case err != nil:
		return nil, err
	case !found:
		return nil, userNotFound(in.UserDID)
	case written:
		s.log.Info("a member's tier was changed", "member", in.UserDID, "tier", tier, "by", c.caller)
	}
	return map[string]string{"tierName": tier}, nil
}

func userNotFound(did string) error {
	return fail(http.StatusNotFound, "UserNotFound", "%s is not of the crew", did)
}

// checkAppView fills in the one spelling of the trusted AppView's DID.
func (c *Config) checkAppView() error {
	if c.AppViewDID == "" {
		return nil
	}
	did, err := identity.NormalizeDID(c.AppViewDID)
	if err != nil {
		return fmt.Errorf("hold: AppViewDID %q: want the DID of an AppView, as in did:web:registry.example.com: %w", c.AppViewDID, err)
	}
	if own, err := identity.NormalizeDID(c.Identity.DID); err == nil && own == did {
		return errors.New("hold: AppViewDID is the hold's own DID: name the AppView's, or none")
	}
	c.AppViewDID = did.String()
	return nil
}
