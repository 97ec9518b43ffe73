package appview

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"github.com/atcr-dev/atcr/hold/holdclient"
	"github.com/atcr-dev/atcr/identity"
	"github.com/atcr-dev/atcr/identity/serviceauth"
)

// ErrNoIdentity: the AppView has no DID, so it can't sign. Its base URL must be one that a did:web can be made of.
var ErrNoIdentity = errors.New("appview: no identity of its own")

// openIdentity makes or finds the AppView's own did:web. A base URL that no did:web can be made of (an address, a port) is
// no error: the AppView works without one.
func (s *Server) openIdentity(ctx context.Context) error {
	if s.cfg.BaseURL == "" {
		return nil
	}
	if _, err := identity.WebDID(s.cfg.BaseURL, s.cfg.TestMode); err != nil {
		s.cfg.Log.Info("the AppView has no identity of its own: its base URL can't be one", "base_url", s.cfg.BaseURL, "reason", err)
		return nil
	}
	id, err := identity.LoadOrCreateDID(ctx, identity.Config{
		Dir: s.cfg.Dir, PublicURL: s.cfg.BaseURL, KeyPath: filepath.Join(s.cfg.Dir, "keys", "appview.key"), KeyType: "p256",
		Services: []identity.Service{{ID: "atcr_appview",
			Type: "AtcrAppView"}}, TestMode: s.cfg.TestMode, AcceptKey: s.cfg.AcceptKey, Clock: s.cfg.Clock, Log: s.cfg.Log,
	})
	if err != nil {
		return fmt.Errorf("appview: identity: %w", err)
	}
	s.id = id
	return nil
}

// DID of the AppView, or empty: see the package comment.
func (s *Server) DID() string {
	if s.id == nil {
		return ""
	}
	return s.id.DID.String()
}

// tokensFor returns a source of service tokens that the AppView signs itself: in its own name, or with a subject in that of
// a user, for holds that trust it.
func (s *Server) tokensFor(subject syntax.DID) holdclient.TokenFunc {
	return func(_ context.Context, aud, lxm string) (string, error) {
		return serviceauth.Mint(s.id.Key, serviceauth.MintOptions{
			Issuer: s.id.DID, Audience: aud, Method: lxm, Subject: subject, Clock: s.cfg.Clock,
		})
	}
}

// UpdateCrewTier gives a member of a hold's crew the tier of a rank, counted from 0 in what the hold lists
// (io.atcr.hold.listTiers), and returns the tier's name. The hold must trust this AppView (its server.appview_did).
// Errors: [ErrNoIdentity]; registry.ErrUnavailable for a hold that can't be found; those of holdclient.Client.UpdateCrewTier.
func (s *Server) UpdateCrewTier(ctx context.Context, hold, user syntax.DID, rank int) (string, error) {
	if s.id == nil {
		return "", ErrNoIdentity
	}
	c, err := s.backend.Hold(ctx, hold.String())
	if err != nil {
		return "", err
	}
	return c.As(s.tokensFor(user)).UpdateCrewTier(ctx, user.String(), rank)
}
