package oauth

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
)

// FuzzTokenAnswers: whatever a token endpoint says, tokens that are used are this account's and not for less than before.
func FuzzTokenAnswers(f *testing.F) {
	for _, s := range []string{
		`{"access_token":"a","refresh_token":"r","token_type":"DPoP","scope":"atproto repo:a.b.c","sub":"` + alice.String() + `","expires_in":3600}`,
		`{"access_token":"a","refresh_token":"r","token_type":"dpop","scope":"atproto transition:generic","sub":"` + alice.String() + `","expires_in":-1}`,
		`{"access_token":"a","refresh_token":"r","token_type":"DPoP","scope":"atproto","sub":"` + bob.String() + `","expires_in":1e400}`,
		`{"access_token":"a b","refresh_token":"","expires_in":"x"}`, `{}`, `[]`, `null`, `"`, "", "\x00", `{"scope":"repo:a.b.c?action=create&action=`,
	} {
		f.Add([]byte(s))
	}
	c := &Client{config: Config{URL: "http://127.0.0.1"}}
	f.Fuzz(func(t *testing.T, body []byte) {
		g := &grant{did: alice.String(), server: "https://pds.example.com", scopes: []string{"atproto", "repo:a.b.c"}}
		r := c.judge(g, body)
		if r.err == nil && r.reason == "" && r.tokens == nil {
			t.Fatal("it came to nothing")
		}
		if r.err != nil || r.reason != "" {
			return
		}
		var wire struct {
			Sub    string `json:"sub"`
			Access string `json:"access_token"`
		}
		if err := json.Unmarshal(body, &wire); err != nil || wire.Sub != g.did || wire.Access != r.tokens.Access {
			t.Errorf("taken: %q", body)
		}
		for _, s := range []string{r.tokens.Access, r.tokens.Refresh} {
			if s == "" || len(s) > maxToken || !visible(s) {
				t.Errorf("token %q", s)
			}
		}
		if !slices.Contains(r.tokens.Scopes, "atproto") || r.tokens.Life < 0 || r.tokens.Life > maxLife {
			t.Errorf("scopes %q, life %s", r.tokens.Scopes, r.tokens.Life)
		}
	})
}

// FuzzDPoPHeaders: what a server says of nonces and tokens, in any form.
func FuzzDPoPHeaders(f *testing.F) {
	for _, s := range []string{
		`DPoP error="use_dpop_nonce", error_description="a \" b"`, `Bearer realm="x", DPoP error=invalid_token`, `DPoP`, `error="`, `,,,=`,
		`DPoP realm="error=\"x\"", algs="ES256", error = "invalid_token"`, "DPoP error=\"\x00\"", `Basic abc==`,
	} {
		f.Add(s, "nonce")
	}
	f.Add("", "a b")
	f.Add("", strings.Repeat("n", 1000))
	at := &url.URL{Scheme: "https", Host: "pds.example.com"}
	f.Fuzz(func(t *testing.T, challenge, nonce string) {
		h := http.Header{"Www-Authenticate": {challenge}, "Dpop-Nonce": {nonce}}
		if got := challengeError(h); got != "" && !strings.Contains(strings.ToLower(challenge), "error") {
			t.Errorf("%q in %q", got, challenge)
		}
		var n nonces
		got := n.saw("g", at, h)
		if got != "" && (got != nonce || len(got) > maxNonce || !visible(got)) || n.get("g", at) != got {
			t.Errorf("nonce %q became %q", nonce, got)
		}
		// A quoted value comes back as it is.
		if quoted, err := json.Marshal(nonce); err == nil && visible(nonce) && nonce != "" && !bytes.ContainsAny(quoted, `\`) {
			h := http.Header{"Www-Authenticate": {`DPoP realm="a,b", error=` + string(quoted) + `, error_description="x"`}}
			if got := challengeError(h); got != nonce {
				t.Errorf("%q became %q", nonce, got)
			}
		}
	})
}

func TestChallengeError(t *testing.T) {
	for challenge, want := range map[string]string{
		`DPoP error="use_dpop_nonce", error_description="x"`:                             "use_dpop_nonce",
		`DPoP realm="error=", algs="ES256 ES384", Error="invalid_token"`:                 "invalid_token",
		`Bearer realm="a", DPoP error=invalid_token, error_description="use_dpop_nonce"`: "invalid_token",
		`DPoP error_description="error=\"use_dpop_nonce\""`:                              "",
		`DPoP error_description="no end`:                                                 "",
		`Basic`:                                                                          "",
		``:                                                                               "",
	} {
		if got := challengeError(http.Header{"Www-Authenticate": {challenge}}); got != want {
			t.Errorf("%s: %q, want %q", challenge, got, want)
		}
	}
}
