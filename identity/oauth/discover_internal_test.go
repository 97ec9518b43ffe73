package oauth

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	indigo "github.com/bluesky-social/indigo/atproto/auth/oauth"

	"github.com/atcr-dev/atcr/internal/realtest"
)

// serverDocument is an authorization server's metadata, as a map to be changed.
func serverDocument(origin string) map[string]any {
	return map[string]any{
		"issuer": origin, "authorization_endpoint": origin + "/authorize", "token_endpoint": origin + "/token",
		"pushed_authorization_request_endpoint": origin + "/par", "revocation_endpoint": origin + "/revoke",
		"response_types_supported": []string{"code"}, "grant_types_supported": []string{"authorization_code", "refresh_token"},
		"code_challenge_methods_supported":                 []string{"S256"},
		"token_endpoint_auth_methods_supported":            []string{"none", "private_key_jwt"},
		"token_endpoint_auth_signing_alg_values_supported": []string{"ES256"},
		"dpop_signing_alg_values_supported":                []string{"ES256"}, "scopes_supported": []string{"atproto"},
		"authorization_response_iss_parameter_supported": true, "require_pushed_authorization_requests": true,
		"client_id_metadata_document_supported": true,
	}
}

func encoded(t testing.TB, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestServerMetadata(t *testing.T) {
	public, test := &agent{}, &agent{testMode: true}
	const origin = "https://pds.example.com"
	s, err := public.parseServer(origin, encoded(t, serverDocument(origin)))
	if err != nil || s.Token != origin+"/token" || s.PAR != origin+"/par" || s.Authorize != origin+"/authorize" || s.Revoke != origin+"/revoke" {
		t.Fatalf("%+v, %v", s, err)
	}
	for field, values := range map[string][]any{
		"issuer": {nil, "", "https://pds.example.com/", "https://PDS.example.com", "https://evil.example", "http://pds.example.com", 1},
		"authorization_endpoint": {nil, "", "javascript:alert(1)", "http://pds.example.com/a", "/authorize", "https://u:p@pds.example.com/a",
			"https://pds.example.com/a#b", "https://pds.example.com/a?b=c", "https://pds.example.com/a?", "https://", "https://pds.example.com:443/a",
			"https://pds.example.com/" + strings.Repeat("a", maxURL), []string{"x"}},
		"token_endpoint":                                   {nil, "http://pds.example.com/t", "https:///t", "ftp://pds.example.com/t"},
		"pushed_authorization_request_endpoint":            {nil, "http://pds.example.com/t"},
		"revocation_endpoint":                              {"http://pds.example.com/t", "x"},
		"response_types_supported":                         {nil, []string{"token"}, "code"},
		"grant_types_supported":                            {nil, []string{"authorization_code"}, []string{"refresh_token"}},
		"code_challenge_methods_supported":                 {nil, []string{"plain"}},
		"token_endpoint_auth_methods_supported":            {nil, []string{"none"}, []string{"private_key_jwt"}},
		"token_endpoint_auth_signing_alg_values_supported": {nil, []string{"none"}},
		"dpop_signing_alg_values_supported":                {nil, []string{"RS256"}},
		"scopes_supported":                                 {nil, []string{"openid"}},
		"authorization_response_iss_parameter_supported":   {nil, false, "true"},
		"require_pushed_authorization_requests":            {nil, false},
		"client_id_metadata_document_supported":            {nil, false},
		"require_request_uri_registration":                 {false},
	} {
		for _, v := range values {
			doc := serverDocument(origin)
			if doc[field] = v; v == nil {
				delete(doc, field)
			}
			if _, err := public.parseServer(origin, encoded(t, doc)); err == nil {
				t.Errorf("%s: %v was taken", field, v)
			}
		}
	}
	// without a revocation endpoint it works, too; with a port, and in test mode by http
	doc := serverDocument(origin)
	delete(doc, "revocation_endpoint")
	if s, err := public.parseServer(origin, encoded(t, doc)); err != nil || s.Revoke != "" {
		t.Error(err)
	}
	if _, err := public.parseServer(origin+":8443", encoded(t, serverDocument(origin+":8443"))); err != nil {
		t.Error(err)
	}
	const loopback = "http://localhost:2583"
	if _, err := test.parseServer(loopback, encoded(t, serverDocument(loopback))); err != nil {
		t.Error(err)
	}
	if _, err := public.parseServer(loopback, encoded(t, serverDocument(loopback))); err == nil {
		t.Error("loopback was taken outside of test mode")
	}
}

// TestServerMetadataOfTheNetwork: documents of the public network, as indigo has them in its tests.
func TestServerMetadataOfTheNetwork(t *testing.T) {
	a := &agent{}
	for _, origin := range []string{"https://bsky.social", "https://pds.robocracy.org"} {
		doc, err := os.ReadFile(filepath.Join("testdata", strings.TrimPrefix(origin, "https://")+".json"))
		if err != nil {
			t.Fatal(err)
		}
		s, err := a.parseServer(origin, doc)
		if err != nil || s.Revoke != origin+"/oauth/revoke" {
			t.Errorf("%s: %+v, %v", origin, s, err)
		}
		var theirs indigo.AuthServerMetadata
		if err := json.Unmarshal(doc, &theirs); err != nil {
			t.Fatal(err)
		}
		if err := theirs.Validate(origin); err != nil {
			t.Errorf("indigo: %s: %v", origin, err)
		}
	}
}

func TestResourceMetadata(t *testing.T) {
	a := &agent{}
	const pds = "https://pds.example.com"
	for body, want := range map[string]string{
		`{"resource":"https://pds.example.com","authorization_servers":["https://entry.example.com"]}`:   "https://entry.example.com",
		`{"resource":"https://pds.example.com/","authorization_servers":["https://Entry.example.com/"]}`: "https://entry.example.com",
		`{"authorization_servers":["https://pds.example.com:8443","https://other.example"]}`:             "https://pds.example.com:8443",
		`{"resource":"https://other.example","authorization_servers":["https://entry.example.com"]}`:     "",
		`{"resource":"https://pds.example.com","authorization_servers":[]}`:                              "",
		`{"authorization_servers":"https://entry.example.com"}`:                                          "",
		`{"authorization_servers":["http://entry.example.com"]}`:                                         "",
		`{"authorization_servers":["https://entry.example.com/path"]}`:                                   "",
		`{"authorization_servers":["https://entry.example.com//"]}`:                                      "",
		`{"authorization_servers":["https://entry.example.com:"]}`:                                       "",
		`{"authorization_servers":[""]}`:                                                                 "",
		`[]`:                                                                                             "",
		``:                                                                                               "",
	} {
		got, err := a.parseResource(pds, []byte(body))
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%s: %q, %v, want %q", body, got, err, want)
		}
	}
}

// TestDiscoverFaults: what a server may do wrong before anything is sent to it.
func TestDiscoverFaults(t *testing.T) {
	type answers struct {
		resource, server http.HandlerFunc
	}
	say := func(status int, body string, header ...string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			for i := 0; i < len(header); i += 2 {
				w.Header().Set(header[i], header[i+1])
			}
			w.WriteHeader(status)
			io.WriteString(w, body)
		}
	}
	long := say(200, `{"x":"`+strings.Repeat("x", maxAnswer)+`"}`)
	elsewhere := served(t, func(w http.ResponseWriter, _ *http.Request) { t.Error("a redirect was followed") })
	for name, c := range map[string]struct {
		answers
		kind  error
		words string
	}{
		"no OAuth":            {answers{say(404, ""), nil}, ErrUnsupported, "app password"},
		"an XRPC error":       {answers{say(501, `{"error":"MethodNotImplemented"}`), nil}, ErrUnsupported, "app password"},
		"down":                {answers{say(502, ""), nil}, ErrUnavailable, "try again later"},
		"busy":                {answers{say(429, ""), nil}, ErrTooManyRequests, "asks to wait"},
		"redirect":            {answers{say(302, "", "Location", elsewhere), nil}, ErrUnsupported, "status 302"},
		"HTML":                {answers{say(200, "<html>"), nil}, ErrUnsupported, "no JSON"},
		"long":                {answers{long, nil}, ErrUnsupported, "more than"},
		"server: none":        {answers{nil, say(404, "")}, ErrUnsupported, "status 404"},
		"server: down":        {answers{nil, say(500, "")}, ErrUnavailable, ""},
		"server: long":        {answers{nil, long}, ErrUnsupported, "more than"},
		"server: redirect":    {answers{nil, say(308, "", "Location", elsewhere)}, ErrUnsupported, "status 308"},
		"server: not ours":    {answers{nil, say(200, string(encoded(t, serverDocument("https://evil.example"))))}, ErrUnsupported, "issuer"},
		"server: HTML":        {answers{nil, say(200, "<html>")}, ErrUnsupported, "no JSON"},
		"server: another way": {answers{nil, say(200, `{"issuer":"ORIGIN"}`)}, ErrUnsupported, ""},
	} {
		t.Run(name, func(t *testing.T) {
			var origin string
			mux := http.NewServeMux()
			mux.HandleFunc("/.well-known/oauth-protected-resource", func(w http.ResponseWriter, r *http.Request) {
				if c.resource != nil {
					c.resource(w, r)
					return
				}
				io.WriteString(w, `{"resource":"`+origin+`","authorization_servers":["`+origin+`"]}`)
			})
			mux.HandleFunc("/.well-known/oauth-authorization-server", func(w http.ResponseWriter, r *http.Request) { c.server(w, r) })
			s := httptest.NewServer(mux)
			t.Cleanup(s.Close)
			origin = s.URL
			_, err := testAgent(t).discover(t.Context(), origin)
			kindIs(t, err, c.kind, c.words)
		})
	}
	_, err := testAgent(t).discover(t.Context(), "http://127.0.0.1:1")
	kindIs(t, err, ErrUnavailable, "127.0.0.1:1")
	public := newAgent(nil, false, time.Now, testAgent(t).log, nil)
	_, err = public.discover(t.Context(), "https://127.0.0.1:1")
	kindIs(t, err, ErrUnsupported, "not public")
}

// FuzzServerMetadata: what is taken has addresses that may be asked, and nothing makes it fail in another way than by an error.
func FuzzServerMetadata(f *testing.F) {
	const origin = "https://pds.example.com"
	f.Add(encoded(f, serverDocument(origin)), []byte(`{"resource":"https://pds.example.com","authorization_servers":["https://pds.example.com"]}`))
	f.Add([]byte(`{"issuer":null}`), []byte(`{"authorization_servers":[null]}`))
	a := &agent{}
	f.Fuzz(func(t *testing.T, server, resource []byte) {
		if s, err := a.parseServer(origin, server); err == nil {
			for _, address := range []string{s.PAR, s.Authorize, s.Token, s.Revoke} {
				if !strings.HasPrefix(strings.ToLower(address), "https://") && (address != "" || s.Revoke != "") {
					t.Errorf("%q is to be asked", address)
				}
			}
			if s.Issuer != origin {
				t.Errorf("issuer is %q", s.Issuer)
			}
		}
		if issuer, err := a.parseResource(origin, resource); err == nil {
			if again, err := a.origin(issuer); err != nil || again != issuer {
				t.Errorf("%q is an issuer, and as an address %q, %v", issuer, again, err)
			}
		}
	})
}

func testDiscovery(t *testing.T, network *realtest.Net) {
	s, err := testAgent(t).discover(t.Context(), network.PDS[0])
	if err != nil || s.Issuer != network.PDS[0] || s.Revoke == "" {
		t.Errorf("%+v, %v", s, err)
	}
	// in its own ways it is checked as strictly as by indigo, which takes https alone
	doc, err := testAgent(t).document(t.Context(), s.Issuer, "/.well-known/oauth-authorization-server")
	if err != nil {
		t.Fatal(err)
	}
	public := strings.ReplaceAll(string(doc), s.Issuer, "https://pds.example.com")
	var theirs indigo.AuthServerMetadata
	if err := json.Unmarshal([]byte(public), &theirs); err != nil {
		t.Fatal(err)
	}
	if err := theirs.Validate("https://pds.example.com"); err != nil {
		t.Error(err)
	}
}
