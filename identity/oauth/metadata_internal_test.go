package oauth

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	indigo "github.com/bluesky-social/indigo/atproto/auth/oauth"

	"github.com/atcr-dev/atcr/identity"
	"github.com/atcr-dev/atcr/internal/realtest"
)

func testClient(t *testing.T, change func(*Config)) (*Client, error) {
	t.Helper()
	dir := t.TempDir()
	c := Config{
		DB: realtest.OpenDatabase(t, filepath.Join(dir, "oauth.db")), Directory: identity.NewMockDirectory(),
		URL: "https://registry.example.com", Scopes: testScopes, KeyPath: filepath.Join(dir, "client.key"),
		SealPath: filepath.Join(dir, "seal.key"),
	}
	change(&c)
	return New(t.Context(), c)
}

func fetchMetadata(t *testing.T, c *Client) (indigo.ClientMetadata, *httptest.ResponseRecorder) {
	t.Helper()
	w := httptest.NewRecorder()
	c.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, c.config.MetadataPath, nil))
	var m indigo.ClientMetadata
	if err := json.Unmarshal(w.Body.Bytes(), &m); err != nil || w.Code != 200 {
		t.Fatalf("status %d, %v", w.Code, err)
	}
	return m, w
}

func TestConfidentialMetadata(t *testing.T) {
	c, err := testClient(t, func(c *Config) {
		c.Name, c.LogoURL = "A Registry", "https://registry.example.com/logo.png?a=1&b=2"
		c.PolicyURL, c.TermsURL = "https://registry.example.com/privacy", "https://registry.example.com/terms"
	})
	if err != nil {
		t.Fatal(err)
	}
	m, w := fetchMetadata(t, c)
	const id = "https://registry.example.com/oauth-client-metadata.json"
	if err := m.Validate(id); err != nil {
		t.Error(err)
	}
	if !m.IsConfidential() || *m.ApplicationType != "web" || *m.TokenEndpointAuthSigningAlg != "ES256" {
		t.Errorf("%+v", m)
	}
	if !slices.Equal(m.RedirectURIs, []string{"https://registry.example.com/auth/oauth/callback"}) {
		t.Errorf("redirects are %q", m.RedirectURIs)
	}
	if want := append(slices.Clone(testScopes), scopeTransition); !slices.Equal(strings.Fields(m.Scope), want) {
		t.Errorf("scopes are %q, want %q", m.Scope, want)
	}
	if *m.ClientName != "A Registry" || *m.ClientURI != "https://registry.example.com" || *m.LogoURI != c.config.LogoURL ||
		*m.PolicyURI != c.config.PolicyURL || *m.TosURI != c.config.TermsURL {
		t.Errorf("%+v", m)
	}
	for name, want := range map[string]string{
		"Content-Type": "application/json", "Access-Control-Allow-Origin": "*", "Cache-Control": "public, max-age=300",
		"X-Content-Type-Options": "nosniff",
	} {
		if got := w.Header().Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if strings.Contains(w.Body.String(), `"d"`) || strings.Contains(w.Body.String(), `\u0026`) {
		t.Errorf("the document is %s", w.Body)
	}

	if _, err := RotateKey(c.config.KeyPath); err != nil {
		t.Fatal(err)
	}
	again, err := New(t.Context(), c.config)
	if err != nil {
		t.Fatal(err)
	}
	both, _ := fetchMetadata(t, again)
	if len(both.JWKS.Keys) != 2 || *both.JWKS.Keys[1].KeyID != *m.JWKS.Keys[0].KeyID || *both.JWKS.Keys[0].KeyID == *m.JWKS.Keys[0].KeyID {
		t.Errorf("after a rotation: %+v", both.JWKS)
	}

	w = httptest.NewRecorder()
	c.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/", nil))
	if w.Code != http.StatusMethodNotAllowed || w.Header().Get("Allow") != "GET, HEAD" {
		t.Errorf("POST: %d %v", w.Code, w.Header())
	}
}

func TestLoopbackMetadata(t *testing.T) {
	for _, address := range []string{"http://127.0.0.1:5000", "http://[::1]:5000", "http://127.0.0.1/"} {
		c, err := testClient(t, func(c *Config) { c.URL, c.CallbackPath = address, "/back" })
		if err != nil {
			t.Fatal(err)
		}
		m, _ := fetchMetadata(t, c)
		if !strings.HasPrefix(m.ClientID, "http://localhost?") || m.IsConfidential() || *m.ApplicationType != "native" || m.JWKS != nil {
			t.Errorf("%+v", m)
		}
		if want := strings.TrimSuffix(address, "/") + "/back"; !slices.Equal(m.RedirectURIs, []string{want}) || c.self.redirect != want {
			t.Errorf("redirects are %q, want %q", m.RedirectURIs, want)
		}
	}
}

func TestWrongConfiguration(t *testing.T) {
	for words, change := range map[string]func(*Config){
		"Config.URL: \"http://registry.example.com\"": func(c *Config) { c.URL = "http://registry.example.com" },
		"use one of them":     func(c *Config) { c.URL = "http://localhost:5000" },
		"neither https":       func(c *Config) { c.URL = "ftp://registry.example.com" },
		"is a number":         func(c *Config) { c.URL = "https://192.0.2.1" },
		"no scheme and host":  func(c *Config) { c.URL = "https://registry.example.com/path" },
		"Config.CallbackPath": func(c *Config) { c.CallbackPath = "https://evil.example/" },
		"Config.MetadataPath": func(c *Config) { c.MetadataPath = "/a?b" },
		"Config.Scopes":       func(c *Config) { c.Scopes = []string{"a b"} },
		"Config.LogoURL":      func(c *Config) { c.LogoURL = "http://registry.example.com/logo.png" },
		"Config.PolicyURL":    func(c *Config) { c.PolicyURL = "/privacy" },
		"Config.TermsURL":     func(c *Config) { c.TermsURL = "javascript:alert(1)" },
	} {
		if _, err := testClient(t, change); err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("error is %v, want %q", err, words)
		}
	}
	if err := CheckURL("https://registry.example.com:443"); err != nil {
		t.Error(err)
	}
	if err := CheckURL("http://10.0.0.1:5000"); err == nil {
		t.Error("plain http was taken")
	}
}
