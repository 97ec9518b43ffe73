package oauth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	indigo "github.com/bluesky-social/indigo/atproto/auth/oauth"

	"github.com/atcr-dev/atcr/internal/httpx"
)

const maxURL = 2048

// server is an authorization server as its metadata describe it (RFC 8414), as far as it is used.
type server struct {
	Issuer    string `json:"issuer"`
	PAR       string `json:"par,omitempty"`
	Authorize string `json:"authorize,omitempty"`
	Token     string `json:"token"`
	Revoke    string `json:"revoke,omitempty"` // "" where it has none
}

// discover finds the authorization server of a PDS: what the PDS names, and what that server says of itself. pds is an origin as
// [agent.origin] returns it. Errors: ErrUnsupported when there is none that could be used, ErrUnavailable, ErrTooManyRequests.
func (a *agent) discover(ctx context.Context, pds string) (*server, error) {
	ctx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	body, err := a.document(ctx, pds, "/.well-known/oauth-protected-resource")
	if err != nil {
		return nil, err
	}
	issuer, err := a.parseResource(pds, body)
	if err != nil {
		return nil, failed(ErrUnsupported, err, "the account's server %s names no sign-in that could be used (%v): use an app password",
			hostOf(pds), err)
	}
	if body, err = a.document(ctx, issuer, "/.well-known/oauth-authorization-server"); err != nil {
		return nil, err
	}
	s, err := a.parseServer(issuer, body)
	if err != nil {
		return nil, failed(ErrUnsupported, err, "the sign-in server %s of the account can't be used (%v): use an app password",
			hostOf(issuer), err)
	}
	return s, nil
}

// document gets a well-known document. A server that has none has no OAuth.
func (a *agent) document(ctx context.Context, origin, path string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, origin+path, nil)
	if err != nil {
		return nil, failed(ErrUnsupported, err, "the account's server %s can't be asked", hostOf(origin))
	}
	req.Header.Set("Accept", "application/json")
	resp, err := a.http.Do(req)
	if err != nil {
		return nil, a.serverError(origin, err)
	}
	body, err := httpx.ReadLimited(resp, maxAnswer)
	switch {
	case errors.Is(err, httpx.ErrTooLarge) && resp.StatusCode == http.StatusOK:
		return nil, failed(ErrUnsupported, err, "the account's server %s describes its sign-in in more than %d bytes",
			hostOf(origin), maxAnswer)
	case resp.StatusCode == http.StatusOK && err == nil:
		return body, nil
	case resp.StatusCode == http.StatusOK:
		return nil, a.serverError(origin, err)
	}
	r := &refused{status: resp.StatusCode}
	r.retryAfter, _ = httpx.RetryAfter(resp.Header, a.clock())
	if r.status == http.StatusTooManyRequests || r.status >= 500 && r.status != http.StatusNotImplemented {
		return nil, a.serverError(origin, r)
	}
	return nil, failed(ErrUnsupported, r, "the account's server %s has no sign-in by OAuth (status %d): use an app password",
		hostOf(origin), r.status)
}

// parseResource reads a protected resource's metadata (RFC 9728) and returns the origin of its authorization server.
func (a *agent) parseResource(pds string, body []byte) (issuer string, err error) {
	var doc struct {
		Resource             string   `json:"resource"`
		AuthorizationServers []string `json:"authorization_servers"`
	}
	if err := json.Unmarshal(body, &doc); err != nil {
		return "", fmt.Errorf("it is no JSON of the kind: %w", err)
	}
	if got := strings.TrimSuffix(doc.Resource, "/"); doc.Resource != "" && got != pds {
		return "", fmt.Errorf("it describes %.200q", got)
	}
	if len(doc.AuthorizationServers) == 0 {
		return "", errors.New("no authorization_servers")
	}
	issuer, err = a.origin(doc.AuthorizationServers[0])
	if err != nil {
		return "", fmt.Errorf("authorization_servers: %w", err)
	}
	return issuer, nil
}

// parseServer reads and checks an authorization server's metadata. indigo's Validate takes neither ports nor, in test mode, loopback.
func (a *agent) parseServer(issuer string, body []byte) (*server, error) {
	var m indigo.AuthServerMetadata
	if err := json.Unmarshal(body, &m); err != nil {
		return nil, fmt.Errorf("it is no JSON of the kind: %w", err)
	}
	if m.Issuer != issuer {
		return nil, fmt.Errorf("issuer is %.200q", m.Issuer)
	}
	for _, e := range []struct{ name, address string }{
		{"authorization_endpoint", m.AuthorizationEndpoint},
		{"token_endpoint", m.TokenEndpoint},
		{"pushed_authorization_request_endpoint", m.PushedAuthorizationRequestEndpoint},
		{"revocation_endpoint", m.RevocationEndpoint},
	} {
		if e.address == "" && e.name == "revocation_endpoint" {
			continue
		}
		if err := a.checkEndpoint(e.address); err != nil {
			return nil, fmt.Errorf("%s: %w", e.name, err)
		}
	}
	for _, l := range []struct {
		name string
		list []string
		want string
	}{
		{"response_types_supported", m.ResponseTypesSupported, "code"},
		{"grant_types_supported", m.GrantTypesSupported, "authorization_code"},
		{"grant_types_supported", m.GrantTypesSupported, "refresh_token"},
		{"code_challenge_methods_supported", m.CodeChallengeMethodsSupported, "S256"},
		{"token_endpoint_auth_methods_supported", m.TokenEndpointAuthMethodsSupoorted, "none"},
		{"token_endpoint_auth_methods_supported", m.TokenEndpointAuthMethodsSupoorted, "private_key_jwt"},
		{"token_endpoint_auth_signing_alg_values_supported", m.TokenEndpointAuthSigningAlgValuesSupported, "ES256"},
		{"dpop_signing_alg_values_supported", m.DPoPSigningAlgValuesSupported, "ES256"},
		{"scopes_supported", m.ScopesSupported, scopeBase},
	} {
		if !slices.Contains(l.list, l.want) {
			return nil, fmt.Errorf("%s lacks %s", l.name, l.want)
		}
	}
	for name, ok := range map[string]bool{
		"authorization_response_iss_parameter_supported": m.AuthorizationReponseISSParameterSupported,
		"require_pushed_authorization_requests":          m.RequirePushedAuthorizationRequests,
		"client_id_metadata_document_supported":          m.ClientIDMetadataDocumentSupported,
		"require_request_uri_registration":               m.RequireRequestURIRegistration == nil || *m.RequireRequestURIRegistration,
	} {
		if !ok {
			return nil, fmt.Errorf("%s is not true", name)
		}
	}
	return &server{
		Issuer: m.Issuer, PAR: m.PushedAuthorizationRequestEndpoint, Authorize: m.AuthorizationEndpoint,
		Token: m.TokenEndpoint, Revoke: m.RevocationEndpoint,
	}, nil
}

// origin returns scheme, host and port of a server's address, which must be nothing else: https, or in test mode http.
func (a *agent) origin(address string) (string, error) {
	u, err := a.parseAddress(address)
	if err != nil {
		return "", err
	}
	if strings.Trim(u.Path, "/") != "" || strings.HasPrefix(u.Path, "//") {
		return "", fmt.Errorf("%.200q has a path", address)
	}
	return u.Scheme + "://" + strings.ToLower(u.Host), nil
}

func (a *agent) checkEndpoint(address string) error {
	_, err := a.parseAddress(address)
	return err
}

func (a *agent) parseAddress(address string) (*url.URL, error) {
	if address == "" {
		return nil, errors.New("it is missing")
	}
	if len(address) > maxURL {
		return nil, fmt.Errorf("it has more than %d bytes", maxURL)
	}
	u, err := url.Parse(address)
	if err != nil || u.Hostname() == "" || u.User != nil || strings.ContainsAny(address, "?#") {
		return nil, fmt.Errorf("%.200q is no address of a server", address)
	}
	if u.Scheme != "https" && !(a.testMode && u.Scheme == "http") {
		return nil, fmt.Errorf("%.200q is not https", address)
	}
	port := u.Port()
	if strings.HasSuffix(u.Host, ":") || u.Scheme == "https" && port == "443" || u.Scheme == "http" && port == "80" {
		return nil, fmt.Errorf("%.200q names the port that it has anyway", address)
	}
	return u, nil
}
