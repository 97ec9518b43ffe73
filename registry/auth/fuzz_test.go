package auth

import (
	"encoding/base64"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// FuzzRegistryToken: nothing but what this server signed is a token of it, and everything else is refused alike.
func FuzzRegistryToken(f *testing.F) {
	a := fuzzAuth(f)
	good, _, err := a.mint(account{did: "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa", session: "s", method: "app_password"}, nil)
	if err != nil {
		f.Fatal(err)
	}
	if c, err := a.verify(good, 0); err != nil || c.DID != "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa" {
		f.Fatal(c, err)
	}
	parts := strings.Split(good, ".")
	enc := func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
	for _, seed := range []string{
		good, good + "=", good + ".", strings.ToUpper(good), parts[0] + "." + parts[1] + ".", enc(`{"alg":"none"}`) + "." + parts[1] + ".",
		enc(`{"alg":"HS256","kid":"x"}`) + "." + parts[1] + "." + parts[2], parts[0] + "." + enc(`{"sub":"x"}`) + "." + parts[2], "", "..", "a.b.c",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, token string) {
		c, err := a.verify(token, 0)
		if err == nil && token != good {
			t.Fatalf("%q is taken: %+v", token, c)
		}
		if err != nil && err != errToken {
			t.Fatalf("%q is refused in another way: %v", token, err)
		}
	})
}

// FuzzJoinDID: Basic cuts a DID at its first colon. What is put together is what was typed.
func FuzzJoinDID(f *testing.F) {
	for _, s := range [][2]string{{"did", "plc:aaaaaaaaaaaaaaaaaaaaaaaa:secret"}, {"did", "web:a.example:x:y"}, {"alice.example.com", "p:q"}, {"did", "plc:"},
		{"did", ""}, {"", "did:plc:x:y"}, {"DID", "plc:aaaaaaaaaaaaaaaaaaaaaaaa:x"}, {"did", "web:localhost%3A80:x"}, {"did", "plc::"}} {
		f.Add(s[0], s[1])
	}
	f.Fuzz(func(t *testing.T, user, password string) {
		c := credentials{user: user, secret: password}
		got := c.joinDID()
		if got == c {
			return
		}
		if !strings.EqualFold(user, "did") || got.user+":"+got.secret != "did:"+password || strings.Count(got.user, ":") != 2 {
			t.Fatalf("%q, %q became %q, %q", user, password, got.user, got.secret)
		}
	})
}

// FuzzAccessClaims: a PDS's token is its word alone; no form of it is more than a text and a time within reason.
func FuzzAccessClaims(f *testing.F) {
	enc := func(s string) string { return "h." + base64.RawURLEncoding.EncodeToString([]byte(s)) + ".s" }
	for _, s := range []string{enc(`{"scope":"com.atproto.appPass","exp":1790000000}`), enc(`{"exp":1e99}`), enc(`{"exp":-1}`), enc(`{"exp":"x"}`), enc(`[]`),
		"", "..", "a.b.c", "a.!.c", enc(`{"scope":7}`), enc(`{"exp":99999999999}`)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, token string) {
		scope, expires := accessClaims(token)
		if len(scope) > len(token) || !expires.IsZero() && (expires.Year() < 1970 || expires.After(time.Unix(1e11, 0))) {
			t.Fatalf("%q says %q, %s", token, scope, expires)
		}
	})
}

// fuzzAuth can sign and check tokens, and nothing else.
func fuzzAuth(f *testing.F) *Auth {
	dir := f.TempDir()
	base, err := newBaseURL("https://registry.example.com", "")
	if err != nil {
		f.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "k.pem"), testKey(), 0o600); err != nil {
		f.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	keys, err := loadKeyring(filepath.Join(dir, "k.pem"), filepath.Join(dir, "k.crt"), time.Now(), log)
	if err != nil {
		f.Fatal(err)
	}
	a := &Auth{opts: Options{Clock: time.Now, Log: log}, base: base, tokens: newTokenCache(10)}
	a.ring.Store(keys)
	return a
}

// FuzzTokenForm: whatever form docker's token endpoint is sent, it answers JSON, never by a fault of its own; and who shows neither password
// nor secret is nobody.
func FuzzTokenForm(f *testing.F) {
	fix := newFixture(f, func(o *Options) { o.Log = slog.New(slog.DiscardHandler) })
	secret := fix.login(app)
	_, random, _ := strings.Cut(secret[len(secretPrefix)+len(kindRefresh)+1:], "_")
	for _, seed := range []string{
		"", "grant_type=password&username=alice.test&password=x", "grant_type=refresh_token&refresh_token=atcr_refresh_x_y&scope=a:b:pull",
		"grant_type=refresh_token", "grant_type=refresh_token&refresh_token=atcr_refresh_aaaaaaaaaaaaaaaa_" + strings.Repeat("a", randomLength),
		"offline_token=true&access_type=offline&scope=repository:alice.test/app:*", "%zz", "grant_type=&scope=%00", "a;b=c",
		"grant_type=password&username=did&password=plc:a:atcr_robot_" + strings.Repeat("_", 70), "scope=" + strings.Repeat("repository:a/b:pull ", 70),
	} {
		f.Add(seed, "application/x-www-form-urlencoded")
	}
	f.Add("--x\r\n", "multipart/form-data; boundary=x")
	f.Add(`{"grant_type":"password"}`, "application/json")
	f.Fuzz(func(t *testing.T, body, kind string) {
		if strings.Contains(body, app) || strings.Contains(body, random) {
			t.Skip()
		}
		fix.pass(time.Hour)
		r := httptest.NewRequest(http.MethodPost, "/auth/token", strings.NewReader(body))
		r.Header.Set("Content-Type", kind)
		w := fix.serve(r)
		var out struct {
			Token        string
			RefreshToken string `json:"refresh_token"`
			Errors       []struct{ Code, Message string }
		}
		if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
		switch w.Code {
		case http.StatusOK:
			c, err := fix.verify(out.Token, 0)
			if err != nil || c.DID != "" || c.Session != "" || c.Token != "" || out.RefreshToken != "" {
				t.Fatalf("%q gives %+v, %q, %v", body, c, out.RefreshToken, err)
			}
			for _, a := range c.Access {
				if len(a.Actions) != 1 || a.Actions[0] != "pull" {
					t.Fatalf("%q gives %+v", body, a)
				}
			}
		case http.StatusBadRequest, http.StatusUnauthorized, http.StatusTooManyRequests:
			if len(out.Errors) != 1 || out.Errors[0].Message == "" {
				t.Fatalf("%d %s", w.Code, w.Body)
			}
		default:
			t.Fatalf("%q: %d %s", body, w.Code, w.Body)
		}
	})
}
