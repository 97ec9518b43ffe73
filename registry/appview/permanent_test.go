package appview_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/atcr-dev/atcr/registry/appview"
	"github.com/atcr-dev/atcr/registry/pds"
)

// TestHoldOfAnotherName: an image whose hold can never be found is refused with the reason, which clients show, not as an outage, at
// which they wait and hide the text; one whose hold can't be found now is an outage.
func TestHoldOfAnotherName(t *testing.T) {
	t.Parallel()
	const cid = "bafyreidykglsfhoixmivffc5uwhcgshx4j465xwqntbmu43nb2dzqwfvae"
	digest := "sha256:" + strings.Repeat("ab", 32)
	did := func(letter string) string { return "did:plc:" + strings.Repeat(letter, 24) }
	hold := "" // what the manifest names
	mux := http.NewServeMux()
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	answer := func(w http.ResponseWriter, v any) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(v)
	}
	document := func(id, service string) map[string]any {
		doc := map[string]any{"id": id}
		if service != "" {
			doc["service"] = []map[string]string{{"id": "#" + service, "type": "x", "serviceEndpoint": server.URL}}
		}
		return doc
	}
	mux.HandleFunc("GET /{did}", func(w http.ResponseWriter, r *http.Request) {
		switch who := r.PathValue("did"); who[8:9] {
		case "c": // another's
			answer(w, document(did("d"), "atcr_hold"))
		case "e": // neither hold nor PDS
			answer(w, document(who, ""))
		case "f":
			http.NotFound(w, r)
		case "g":
			http.Error(w, "down", http.StatusBadGateway)
		case "h":
			doc := document(who, "atcr_hold")
			doc["service"].([]map[string]string)[0]["serviceEndpoint"] = "https://10.0.0.1"
			answer(w, doc)
		default:
			answer(w, document(who, "atproto_pds"))
		}
	})
	mux.HandleFunc("GET /xrpc/com.atproto.sync.getLatestCommit", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, map[string]string{"cid": cid, "rev": "3kaaaaaaaaa22"})
	})
	mux.HandleFunc("GET /xrpc/com.atproto.repo.getRecord", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, map[string]any{"uri": "at://" + did("a") + "/io.atcr.sailor.profile/self", "cid": cid, "value": map[string]string{
			"$type": "io.atcr.sailor.profile", "defaultHold": hold, "createdAt": "2026-01-01T00:00:00Z", "updatedAt": "2026-01-01T00:00:00Z",
		}})
	})
	mux.HandleFunc("POST /xrpc/com.atproto.server.createSession", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, map[string]any{"did": did("a"), "accessJwt": "e30.e30.x", "refreshJwt": "e30.e30.y", "active": true})
	})
	mux.HandleFunc("GET /xrpc/com.atproto.repo.listRecords", func(w http.ResponseWriter, r *http.Request) {
		list := []any{}
		if owner := r.URL.Query().Get("repo"); strings.HasSuffix(r.URL.Query().Get("collection"), "manifest") {
			list = append(list, map[string]any{"uri": "at://" + owner + "/io.atcr.manifest/" + digest[7:], "cid": cid, "value": map[string]any{
				"$type": "io.atcr.manifest", "repository": "app", "digest": digest, "schemaVersion": 2, "createdAt": "2026-01-01T00:00:00Z",
				"mediaType": "application/vnd.oci.image.manifest.v1+json", "holdDid": hold, "layers": []any{},
			}})
		}
		answer(w, map[string]any{"records": list})
	})
	for name, c := range map[string]struct {
		hold, text string
		status     int
	}{
		"another's document":  {did("c"), "the document's id is", http.StatusForbidden},
		"no hold":             {did("e"), "names no hold service", http.StatusForbidden},
		"no such DID":         {did("f"), "no such DID", http.StatusForbidden},
		"a port":              {"did:web:hold.example.com%3A8080", "has a port", http.StatusForbidden},
		"a private address":   {did("h"), "its address is not public", http.StatusForbidden},
		"the directory fails": {did("g"), "try again later", http.StatusServiceUnavailable},
	} {
		hold = c.hold
		app, err := appview.New(t.Context(), appview.Config{
			Dir: t.TempDir(), BaseURL: "http://registry.test", DefaultHold: c.hold, TestMode: true, PLCURL: server.URL,
			Verify: pds.VerifyNever, Log: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			t.Fatal(err)
		}
		ask := func(method, path string, sign func(*http.Request)) *httptest.ResponseRecorder {
			req := httptest.NewRequest(method, "http://registry.test"+path, nil)
			sign(req)
			w := httptest.NewRecorder()
			app.Handler().ServeHTTP(w, req)
			return w
		}
		owner := "did-plc-" + strings.Repeat("a", 24)
		for _, r := range []struct{ method, path, actions string }{
			{http.MethodGet, "/manifests/" + digest, "pull"}, {http.MethodPost, "/blobs/uploads/", "pull,push"},
		} {
			var out struct{ Token string }
			w := ask(http.MethodGet, fmt.Sprintf("/auth/token?service=registry.test&scope=repository:%s/app:%s", owner, r.actions),
				func(req *http.Request) {
					if r.actions != "pull" {
						req.SetBasicAuth(owner, "app-pass-word-aaaa")
					}
				})
			if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil || out.Token == "" {
				t.Fatalf("no token: %d %s", w.Code, w.Body)
			}
			w = ask(r.method, "/v2/"+owner+"/app"+r.path, func(req *http.Request) { req.Header.Set("Authorization", "Bearer "+out.Token) })
			if w.Code != c.status || !strings.Contains(w.Body.String(), c.text) || !strings.Contains(w.Body.String(), c.hold) ||
				strings.Contains(w.Body.String(), "10.0.0.1") {
				t.Errorf("%s, %s: %d %s, want %d %q", name, r.actions, w.Code, w.Body, c.status, c.text)
			}
		}
		if err := app.Close(); err != nil {
			t.Error(err)
		}
	}
}
