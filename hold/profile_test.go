package hold_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/atcr-dev/atcr"
	"github.com/atcr-dev/atcr/hold"
	"github.com/atcr-dev/atcr/hold/datadir"
	"github.com/atcr-dev/atcr/repo"
)

// profileOf asks getProfile without a token.
func profileOf(h *testHold, actor string) (int, map[string]any) {
	h.t.Helper()
	return h.callWith("", http.MethodGet, "app.bsky.actor.getProfile", "actor="+url.QueryEscape(actor), nil)
}

func TestProfile(t *testing.T) {
	h := newHold(t, newNetwork(t), func(c *hold.Config) { c.Public = true })
	status, bare := profileOf(h, h.did)
	if status != http.StatusOK || bare["did"] != h.did || bare["displayName"] != nil {
		t.Errorf("without a profile: %d %v", status, bare)
	}
	h.stop()
	h.cfg.Profile = hold.Profile{DisplayName: "Harbour ⚓", Description: "Layers of friends"}
	h.start()
	if _, p := profileOf(h, h.did); p["displayName"] != "Harbour ⚓" || p["description"] != "Layers of friends" || p["createdAt"] == nil {
		t.Errorf("configured: %v", p)
	}

	h.stop()
	picture := []byte("\x89PNG")
	o, err := datadir.OpenRepo(t.Context(), dataDir(t, h.cfg))
	must(t, err)
	rec, err := repo.RecordFrom(map[string]any{
		"$type": atcr.NSIDBskyProfile, "displayName": "by hand", "description": strings.Repeat("long",
			1000), "createdAt": "yesterday", "pinned": "kept",
		"avatar": map[string]any{"$type": "blob", "ref": map[string]string{"$link": repo.BlobCID(picture).String()},
			"mimeType": "image/png", "size": json.Number("4")},
	})
	must(t, err)
	_, err = o.Repo.Apply(t.Context(), []repo.Write{{
		Action: repo.Put, Collection: atcr.NSIDBskyProfile, RKey: "self", Record: rec, Blobs: []repo.Blob{{MediaType: "image/png",
			Data: picture}},
	}})
	must(t, err)
	must(t, o.Close())
	h.cfg.Profile = hold.Profile{DisplayName: "Harbour"}
	h.start()
	_, p := profileOf(h, h.did)
	if p["displayName"] != "Harbour" || p["description"] != nil || p["createdAt"] != nil {
		t.Errorf("the configuration wins, and what is against the lexicon isn't shown: %v", p)
	}
	resp, err := http.Get(p["avatar"].(string))
	must(t, err)
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("avatar: %s", resp.Status)
	}
	var kept struct{ Value struct{ Pinned string } }
	h.getJSON("/xrpc/com.atproto.repo.getRecord?repo="+h.did+"&collection="+atcr.NSIDBskyProfile+"&rkey=self", &kept)
	if kept.Value.Pinned != "kept" {
		t.Errorf("a field of somebody else's was lost: %+v", kept)
	}

	h.stop()
	h.cfg.Public = false
	h.start()
	if _, p := profileOf(h, h.did); p["avatar"] != nil {
		t.Errorf("a private hold names a picture that can't be fetched: %v", p)
	}
}

func TestProfileRefusals(t *testing.T) {
	h := newHold(t, newNetwork(t))
	for _, actor := range []string{"did:web:other.example.com", "other.example.com", "", "\x00"} {
		if status, e := profileOf(h, actor); status != http.StatusBadRequest || !strings.Contains(e["message"].(string), "actor") {
			t.Errorf("actor %q: %d %v", actor, status, e)
		}
	}
	profiles := func(n int) (int, map[string]any) {
		q := "actors=" + h.did + strings.Repeat("&actors=did:web:other.example.com", n-1)
		return h.callWith("", http.MethodGet, "app.bsky.actor.getProfiles", q, nil)
	}
	if status, e := profiles(26); status != http.StatusBadRequest {
		t.Errorf("26 actors: %d %v", status, e)
	}
	if status, p := profiles(25); status != http.StatusOK || len(p["profiles"].([]any)) != 1 {
		t.Errorf("25 actors: %d %v", status, p)
	}
	if status, e := h.callWith("", http.MethodGet, "app.bsky.actor.getProfiles", "", nil); status != http.StatusBadRequest {
		t.Errorf("no actors: %d %v", status, e)
	}

	for _, p := range []hold.Profile{{DisplayName: strings.Repeat("é", 65)}, {Description: strings.Repeat("é", 257)},
		{DisplayName: strings.Repeat("👩‍👩‍👧‍👧", 60)}} {
		cfg := h.cfg
		cfg.Dir, cfg.Profile = t.TempDir(), p
		if _, err := hold.New(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "Profile.") {
			t.Errorf("a profile that is too long: %v", err)
		}
	}
}
