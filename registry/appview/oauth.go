package appview

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"github.com/atcr-dev/atcr/identity/oauth"
	"github.com/atcr-dev/atcr/internal/durable"
	"github.com/atcr-dev/atcr/registry/auth"
)

// openOAuth makes the OAuth client, and returns it for package auth: nil, which is no error, where the AppView's address is none that
// people could be sent back to. There they sign in by app password.
func (s *Server) openOAuth(ctx context.Context, accounts *http.Client) (auth.OAuth, error) {
	base := s.oauthURL()
	if err := oauth.CheckURL(base); err != nil {
		s.cfg.Log.Info("people can sign in by app password alone: OAuth needs server.base_url (BaseURL) to be https, or loopback",
			"base_url", s.cfg.BaseURL, "reason", err)
		return nil, nil
	}
	if err := durable.MkdirAll(filepath.Dir(s.cfg.OAuthKeyPath), 0o700); err != nil {
		return nil, fmt.Errorf("appview: folder of OAuthKeyPath: %w", err)
	}
	var err error
	s.oauth, err = oauth.New(ctx, oauth.Config{
		DB: s.db, Directory: s.cfg.Directory, URL: base, Scopes: Scopes(),
		KeyPath: s.cfg.OAuthKeyPath, SealPath: s.sessionKey(),
		Name: s.cfg.Name, LogoURL: base + "/static/icon.png", PolicyURL: base + "/privacy", TermsURL: base + "/terms",
		TestMode: s.cfg.TestMode, HTTP: accounts, Clock: s.cfg.Clock, Log: s.cfg.Log,
	})
	if err != nil {
		return nil, err
	}
	s.close = append(s.close, s.oauth.Close)
	return s.oauth, nil
}

// sessionKey is the file of the keys that everything is sealed under by which the AppView acts at accounts' servers.
func (s *Server) sessionKey() string {
	return filepath.Join(filepath.Dir(s.cfg.KeyPath), "session.key")
}

// oauthURL is where people's servers send browsers back to: the base URL, or loopback by number, since they take no localhost.
func (s *Server) oauthURL() string {
	if s.cfg.BaseURL == "" {
		host, port, err := net.SplitHostPort(s.port.Addr())
		if err != nil {
			return "" // the caller listens, and only it knows where
		}
		if ip, err := netip.ParseAddr(host); err != nil || ip.IsUnspecified() {
			host = "127.0.0.1"
		}
		return "http://" + net.JoinHostPort(host, port)
	}
	u, err := url.Parse(s.cfg.BaseURL)
	if err == nil && u.Scheme == "http" && u.Hostname() == "localhost" {
		u.Host = strings.Replace(u.Host, "localhost", "127.0.0.1", 1)
		return u.String()
	}
	return s.cfg.BaseURL
}

// endGrant ends what a browser acted by. The session of an app password goes on: docker may use it, too.
func (s *Server) endGrant(ctx context.Context, did, grant string) {
	if s.oauth == nil || !strings.HasPrefix(grant, "oauth-") {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, endWithin)
	defer cancel()
	if err := s.oauth.End(ctx, grant); err != nil {
		s.cfg.Log.Warn("a grant that is used no more could not be ended", "did", did, "err", err)
	}
}

const endWithin = 20 * time.Second
