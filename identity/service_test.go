package identity

import (
	"encoding/json"
	"errors"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"github.com/atcr-dev/atcr/identity/internal/plclog"
)

func TestNormalizeDID(t *testing.T) {
	for in, want := range map[string]string{
		"did:web:127.0.0.1:8080":     "did:web:127.0.0.1%3A8080",
		"did:web:127.0.0.1%3a8080":   "did:web:127.0.0.1%3A8080",
		"did:web:Hold.Example.COM\n": "did:web:hold.example.com",
		"did:web:hold.test:path":     "",
		"did:web:hold.test:99999":    "",
		string(aliceDID):             string(aliceDID),
		"alice.test":                 "", "": "", "did:web:": "", "did:": "", "did:web:a b": "",
	} {
		got, err := NormalizeDID(in)
		if string(got) != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q %v, want %q", in, got, err, want)
		}
	}
}

func TestWebDID(t *testing.T) {
	for _, c := range []struct {
		url, public, test string
	}{
		{"https://hold.example.com", "did:web:hold.example.com", "did:web:hold.example.com"},
		{"https://Hold.example.com:443/", "did:web:hold.example.com", "did:web:hold.example.com"},
		{"http://hold.test", "", "did:web:hold.test"},
		{"https://hold.example.com:8443", "", ""},
		{"https://hold.example.com/path", "", ""},
		{"https://u:p@hold.example.com", "", ""},
		{"http://127.0.0.1:8080", "", "did:web:localhost%3A8080"},
		{"http://[::1]:8080", "", "did:web:localhost%3A8080"},
		{"http://localhost:8080/", "", "did:web:localhost%3A8080"},
		{"http://localhost", "", "did:web:localhost"},
		{"https://10.0.0.1", "", ""},
		{"ftp://hold.example.com", "", ""},
		{"hold.example.com", "", ""},
		{"", "", ""},
	} {
		for mode, want := range map[bool]string{false: c.public, true: c.test} {
			got, err := WebDID(c.url, mode)
			if string(got) != want || (err == nil) != (want != "") {
				t.Errorf("%q, test mode %v: %q %v, want %q", c.url, mode, got, err, want)
			}
		}
	}
}

func TestSameDID(t *testing.T) {
	for _, c := range []struct {
		a, b         string
		public, test bool
	}{
		{"did:web:127.0.0.1:8080", "did:web:127.0.0.1%3A8080", true, true},
		{"did:web:127.0.0.1:8080", "did:web:localhost%3A8080", false, true},
		{"did:web:127.0.0.1", "did:web:localhost", false, true},
		{"did:web:127.0.0.1:8080", "did:web:localhost%3A8081", false, false},
		{"did:web:hold.test", "did:web:HOLD.test", true, true},
		{"did:web:hold.test", "did:web:localhost", false, false},
	} {
		for mode, want := range map[bool]bool{false: c.public, true: c.test} {
			if got := sameDID(syntax.DID(c.a), syntax.DID(c.b), mode); got != want {
				t.Errorf("%s, %s, test mode %v: %v", c.a, c.b, mode, got)
			}
		}
	}
	if got := spellings("did:web:127.0.0.1:8080", true); len(got) != 2 || got[1] != "did:web:localhost%3A8080" {
		t.Error(got)
	}
}

func load(t *testing.T, cfg Config) *Identity {
	t.Helper()
	id, err := LoadOrCreateDID(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestLoadOrCreateDID(t *testing.T) {
	dir := t.TempDir()
	cfg := Config{Dir: dir, PublicURL: "https://hold.example.com/", Services: HoldServices()}
	first := load(t, cfg)
	if first.DID != "did:web:hold.example.com" || first.Handle != "hold.example.com" || first.PublicURL != "https://hold.example.com" {
		t.Fatalf("%+v", first)
	}
	for path, mode := range map[string]fs.FileMode{"keys": 0o700, "keys/signing.key": 0o600} {
		if st, err := os.Stat(filepath.Join(dir, path)); err != nil || st.Mode().Perm() != mode {
			t.Errorf("%s: %v %v", path, st.Mode(), err)
		}
	}
	same := func(cfg Config) {
		t.Helper()
		if again := load(t, cfg); again.DID != first.DID || !again.Key.Equal(first.Key) {
			t.Fatalf("another start is %s", again.DID)
		}
	}
	same(cfg)
	cfg.PublicURL = "https://elsewhere.example.com" // the stored DID is not derived again
	same(cfg)
	cfg.DID = "did:web:hold.example.com"
	same(cfg)
	cfg.DID, cfg.Method = "", "plc" // matters only when a DID is made
	same(cfg)

	cfg.DID = "did:web:other.example.com"
	_, err := LoadOrCreateDID(t.Context(), cfg)
	if !errors.Is(err, ErrContradiction) {
		t.Fatal(err)
	}
	for _, part := range []string{"did:web:other.example.com", "did:web:hold.example.com", filepath.Join(dir, "did.txt"), "either", "or,"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q lacks %q", err, part)
		}
	}
	cfg.DID = ""
	if err := os.Remove(filepath.Join(dir, "keys/signing.key")); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadOrCreateDID(t.Context(), cfg); !errors.Is(err, ErrKeyMissing) {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "keys/signing.key")); !errors.Is(err, fs.ErrNotExist) {
		t.Error("a lost key was replaced by a new one")
	}
}

func TestMethodUnknown(t *testing.T) {
	dir := t.TempDir()
	if _, err := LoadOrCreateDID(t.Context(), Config{Dir: dir, PublicURL: "https://h.test", Method: "key"}); err == nil {
		t.Error("did_method key was taken")
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 0 {
		t.Errorf("a refused start left %v", entries)
	}
}

// A start that died after the key was written goes on with that key.
func TestLoadOrCreateDIDAfterCrash(t *testing.T) {
	dir := t.TempDir()
	key, _, err := plclog.LoadOrCreateKey(filepath.Join(dir, "keys", "signing.key"), "")
	if err != nil {
		t.Fatal(err)
	}
	if id := load(t, Config{Dir: dir, PublicURL: "https://h.example.com"}); !id.Key.Equal(key) {
		t.Error("another key")
	}
}

func TestTestModeIdentity(t *testing.T) {
	id := load(t, Config{Dir: t.TempDir(), PublicURL: "http://127.0.0.1:8080", TestMode: true, Services: HoldServices()})
	if id.DID != "did:web:localhost%3A8080" || id.Handle != "" {
		t.Fatalf("%+v", id)
	}
	if !id.Is("did:web:127.0.0.1:8080") || id.Is("did:web:127.0.0.1:8081") {
		t.Error("spellings")
	}
	want := "did:web:localhost%3A8080 did:web:localhost%3A8080#atcr_hold " +
		"did:web:127.0.0.1%3A8080 did:web:127.0.0.1%3A8080#atcr_hold"
	if got := strings.Join(id.Audiences(), " "); got != want {
		t.Errorf("audiences %s", got)
	}
	cfg := Config{Dir: t.TempDir(), PublicURL: "http://127.0.0.1:8080", TestMode: true, DID: "did:web:127.0.0.1:8080"}
	load(t, cfg)
	cfg.DID = "did:web:localhost%3A8080" // the same host: no contradiction
	load(t, cfg)
}

func TestWellKnown(t *testing.T) {
	id := load(t, Config{Dir: t.TempDir(), PublicURL: "https://hold.example.com", Services: HoldServices()})
	h := WellKnown(id)
	get := func(method, path string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(method, path, nil))
		return w
	}
	w := get(http.MethodGet, "/.well-known/did.json")
	acc, err := ParseDocument(w.Body.Bytes(), id.DID)
	if err != nil {
		t.Fatal(err)
	}
	pub, _ := id.Key.PublicKey()
	if key, err := acc.PublicKey(); err != nil || !key.Equal(pub) || acc.Keys["atproto"].Type != "Multikey" {
		t.Error(err)
	}
	if acc.PDSEndpoint() != id.PublicURL || acc.GetServiceEndpoint("atcr_hold") != id.PublicURL {
		t.Errorf("%+v", acc.Services)
	}
	if h, err := acc.DeclaredHandle(); err != nil || h != "hold.example.com" {
		t.Error(h, err)
	}
	var raw map[string]any
	if err := json.Unmarshal(w.Body.Bytes(), &raw); err != nil || raw["@context"] == nil {
		t.Error("no @context", err)
	}
	if w := get(http.MethodGet, "/.well-known/atproto-did"); w.Body.String() != "did:web:hold.example.com" ||
		!strings.HasPrefix(w.Header().Get("Content-Type"), "text/plain") {
		t.Errorf("%q", w.Body)
	}
	for path, code := range map[string]int{"/.well-known/other": 404, "/": 404} {
		if w := get(http.MethodGet, path); w.Code != code {
			t.Errorf("%s: %d", path, w.Code)
		}
	}
	if w := get(http.MethodPost, "/.well-known/did.json"); w.Code != 405 {
		t.Error(w.Code)
	}
}
