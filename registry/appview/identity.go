package appview

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/atcr-dev/atcr/identity"
)

// openIdentity makes or finds the AppView's own did:web. A base URL that no did:web can be made of (an address, a port) is no error: the AppView
// works without one.
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
		Services: []identity.Service{{ID: "atcr_appview", Type: "AtcrAppView"}}, TestMode: s.cfg.TestMode, Clock: s.cfg.Clock, Log: s.cfg.Log,
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
