package oauth

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	indigo "github.com/bluesky-social/indigo/atproto/auth/oauth"
)

// CheckURL returns nil when an application at this address can sign people in: https and a name, or http and 127.0.0.1 or [::1].
// Otherwise its error says what is wrong; such an application has app passwords alone.
func CheckURL(address string) error {
	_, _, err := parseAppURL(address)
	return err
}

// parseAppURL returns the origin of the application, and whether it is a loopback one, which is a public client.
func parseAppURL(address string) (origin string, loopback bool, err error) {
	u, err := url.Parse(address)
	if err != nil || u.Hostname() == "" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
		return "", false, fmt.Errorf("%.200q is no scheme and host: give it like https://registry.example.com", address)
	}
	host := strings.ToLower(u.Host)
	addr, ipErr := netip.ParseAddr(u.Hostname())
	switch {
	case u.Scheme == "http" && (host == "127.0.0.1" || strings.HasPrefix(host, "127.0.0.1:") || addr == netip.IPv6Loopback()):
		return "http://" + host, true, nil
	case u.Scheme == "http":
		return "", false, fmt.Errorf("%.200q: by http only 127.0.0.1 and [::1] can be returned to after a sign-in (RFC 8252 §8.3): "+
			"use one of them, or https", address)
	case u.Scheme != "https":
		return "", false, fmt.Errorf("%.200q is neither https nor loopback http", address)
	case ipErr == nil:
		return "", false, fmt.Errorf("%.200q: servers take no application whose address is a number: give it a name", address)
	case u.Port() == "443":
		host = strings.TrimSuffix(host, ":443")
	}
	return "https://" + host, false, nil
}

// self is what the client is to servers.
type self struct {
	id       string // client_id
	redirect string
	public   bool
	asked    []string // scopes
	meta     indigo.ClientMetadata
}

// newSelf works out the client's id, address and metadata from what is configured.
func newSelf(c *Config) (*self, error) {
	origin, loopback, err := parseAppURL(c.URL)
	if err != nil {
		return nil, fmt.Errorf("oauth: Config.URL: %w", err)
	}
	for field, path := range map[string]string{"CallbackPath": c.CallbackPath, "MetadataPath": c.MetadataPath} {
		u, err := url.Parse(path)
		if err != nil || u.Scheme != "" || u.Host != "" || u.EscapedPath() != path || !strings.HasPrefix(path, "/") || len(path) < 2 ||
			strings.HasSuffix(path, "/") {
			return nil, fmt.Errorf("oauth: Config.%s: %.200q is no path like /auth/oauth/callback", field, path)
		}
	}
	s := &self{redirect: origin + c.CallbackPath, public: loopback, asked: askedScopes(c.Scopes)}
	for _, scope := range s.asked {
		if !visible(scope) || strings.ContainsAny(scope, `"\`) {
			return nil, fmt.Errorf("oauth: Config.Scopes: %.200q is no scope (RFC 6749 §3.3)", scope)
		}
	}
	declared := askedScopes(append(slices.Clone(s.asked), scopeTransition)) // asked where the others are refused, and so declared
	var cfg indigo.ClientConfig
	if loopback {
		cfg = indigo.NewLocalhostConfig(s.redirect, declared)
	} else {
		cfg = indigo.NewPublicConfig(origin+c.MetadataPath, s.redirect, declared)
	}
	s.id = cfg.ClientID
	s.meta = cfg.ClientMetadata()
	if loopback {
		s.meta.ApplicationType = new("native")
	} else {
		s.meta.TokenEndpointAuthMethod, s.meta.TokenEndpointAuthSigningAlg = "private_key_jwt", new("ES256")
		s.meta.ClientName, s.meta.ClientURI = orNil(c.Name), &origin
		s.meta.LogoURI, s.meta.PolicyURI, s.meta.TosURI = orNil(c.LogoURL), orNil(c.PolicyURL), orNil(c.TermsURL)
	}
	for field, address := range map[string]string{"LogoURL": c.LogoURL, "PolicyURL": c.PolicyURL, "TermsURL": c.TermsURL} {
		if u, err := url.Parse(address); address != "" && (err != nil || u.Host == "" || u.Scheme != "https" && !loopback) {
			return nil, fmt.Errorf("oauth: Config.%s: %.200q is no https address", field, address)
		}
	}
	return s, nil
}

func orNil(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// metadata is the client's document with the keys that it has now.
func (s *self) metadata(keys []clientKey) ([]byte, error) {
	m := s.meta
	if !s.public {
		set := indigo.JWKS{Keys: []atcrypto.JWK{}}
		for _, k := range keys {
			set.Keys = append(set.Keys, k.jwk)
		}
		m.JWKS = &set
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(m)
	return b.Bytes(), err
}

// Handler serves the client's metadata, its public keys inside, which servers fetch from [Config].MetadataPath: by GET and HEAD,
// whatever the path.
func (c *Client) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Access-Control-Allow-Origin", "*")
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			h.Set("Allow", "GET, HEAD")
			http.Error(w, "only GET and HEAD", http.StatusMethodNotAllowed)
			return
		}
		body, err := c.self.metadata(c.agent.keys.all())
		if err != nil {
			http.Error(w, "internal error", http.StatusInternalServerError)
			return
		}
		h.Set("Content-Type", "application/json")
		h.Set("Cache-Control", "public, max-age=300")
		h.Set("Content-Length", strconv.Itoa(len(body)))
		_, _ = w.Write(body)
	})
}
