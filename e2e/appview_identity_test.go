package e2e

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"testing"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"github.com/atcr-dev/atcr/hold/holdclient"
	"github.com/atcr-dev/atcr/identity/plc"
	"github.com/atcr-dev/atcr/identity/serviceauth"
	"github.com/atcr-dev/atcr/internal/realtest"
)

// pullCount is what the hold's public record of a repository says; 0 without one.
func (s *stack) pullCount(t *testing.T, repository string) int {
	t.Helper()
	for _, r := range must(realtest.ListRecords(t.Context(), s.Hold, s.HoldDID, "io.atcr.hold.stats"))(t) {
		if n, ok := r.Value["pullCount"].(float64); ok && r.Value["repository"] == repository && r.Value["ownerDid"] == s.DID {
			return int(n)
		}
	}
	return 0
}

// Pulls by people who are not signed in are counted at the hold, in the AppView's own name: once an hour, beside those of accounts.
func TestAnonymousPullsCounted(t *testing.T) {
	t.Parallel()
	s := startServices(t, servicesOptions{})
	img := realtest.Image(t, realtest.ImageOptions{Layers: 2, Seed: 4300})
	anonymous := realtest.NewCrane(t, s.anonymous())
	ref := s.ref("counted", ":v1")
	must(realtest.NewCrane(t, s.Login).Push(img, ref))(t)
	for range 2 {
		must(anonymous.Pull(ref))(t)
	}
	eventually(t, func() error { // told after ten seconds
		if n := s.pullCount(t, "counted"); n != 1 {
			return fmt.Errorf("two anonymous pulls count as %d", n)
		}
		return nil
	})
	// The same again, without sign-in and with it; what waits is told when the AppView stops.
	must(realtest.NewDocker(t, s.anonymous()).Pull(ref))(t)
	must(realtest.NewCrane(t, s.Login).Pull(ref))(t)
	if err := s.app.Stop(); err != nil {
		t.Fatal(err)
	}
	if n := s.pullCount(t, "counted"); n != 2 {
		t.Errorf("after three anonymous pulls and one of alice's the count is %d, want 2 in one hour", n)
	}
}

// The hold takes from the AppView that it trusts a member's tier, signed by the key behind the document that the AppView serves.
func TestTrustedAppViewSetsTiers(t *testing.T) {
	t.Parallel()
	s := startServices(t, servicesOptions{Tiers: []string{"deckhand", "bosun"}, Crew: map[string][]string{"bob": {"blob:read"}}})
	var doc struct{ ID string }
	if err := getJSON("http://"+s.Registry+"/.well-known/did.json", &doc); err != nil {
		t.Fatal(err)
	}
	key := must(plc.LoadKey(filepath.Join(s.dir, "appview", "keys", "appview.key")))(t)
	bob := s.net.Account("bob").DID
	c := holdclient.New(holdclient.Options{
		DID: s.HoldDID, URL: s.Hold, HasHoldService: true, HTTP: http.DefaultClient,
		Token: func(_ context.Context, aud, lxm string) (string, error) {
			return serviceauth.Mint(key, serviceauth.MintOptions{Issuer: syntax.DID(doc.ID), Audience: aud, Method: lxm, Subject: syntax.DID(bob)})
		},
	})
	if tiers := must(c.ListTiers(t.Context()))(t); len(tiers) != 2 || tiers[1].Name != "bosun" {
		t.Errorf("tiers %+v", tiers)
	}
	if name := must(c.UpdateCrewTier(t.Context(), bob, 1))(t); name != "bosun" {
		t.Errorf("bob is now %q", name)
	}
	find(t, must(realtest.ListRecords(t.Context(), s.Hold, s.HoldDID, "io.atcr.hold.crew"))(t), map[string]any{"member": bob, "tier": "bosun"})
}
