package e2e

import (
	"net/http"
	"strings"
	"testing"

	"github.com/atcr-dev/atcr/internal/realtest"
)

// A private hold: everything of an image is for those who may read the hold, and
// pushing for those who may write it.
func TestPrivateHold(t *testing.T) {
	t.Parallel()
	s := startServices(t, servicesOptions{
		Network: realtest.NetworkOptions{Accounts: []string{"alice", "bob", "carol", "dave"}},
		Captain: "carol", Private: true,
		Crew: map[string][]string{"alice": {"blob:read", "blob:write"}, "bob": {"blob:read"}},
	})
	img := realtest.Image(t, realtest.ImageOptions{Layers: 2, Seed: 700})
	must(realtest.NewCrane(t, s.Login).Push(img, s.ref("secret", ":v1")))(t)

	readers := []struct {
		name   string
		login  realtest.Login
		status int // 0: may read
	}{
		{"anonymous", s.anonymous(), http.StatusUnauthorized},
		{"stranger", s.login(t, "dave"), http.StatusForbidden},
		{"crew with blob:read", s.login(t, "bob"), 0},
		{"owner", s.Login, 0},
		{"captain", s.login(t, "carol"), 0},
	}
	name := s.name("secret")
	paths := []string{
		"/manifests/v1", "/manifests/" + img.Digest, "/tags/list", "/referrers/" + img.Digest,
		"/blobs/" + img.Blobs[0], "/blobs/" + img.Blobs[len(img.Blobs)-1],
	}
	for _, r := range readers {
		t.Run(r.name, func(t *testing.T) {
			for _, path := range paths {
				for _, method := range []string{http.MethodGet, http.MethodHead} {
					if method == http.MethodHead && (strings.HasSuffix(path, "list") || strings.HasPrefix(path, "/referrers")) {
						continue
					}
					resp, body := do(t, r.login, method, "/v2/"+name+path, "repository:"+name+":pull", nil)
					want := r.status
					if want == 0 {
						want = http.StatusOK
					}
					if resp.StatusCode != want {
						t.Errorf("%s %s: %s, want %d\n%.300s", method, path, resp.Status, want, body)
					}
					if r.status == http.StatusUnauthorized && resp.Header.Get("WWW-Authenticate") == "" {
						t.Errorf("%s %s: no challenge", method, path)
					}
					if r.status == http.StatusForbidden && method == http.MethodGet &&
						!(strings.Contains(string(body), "DENIED") && strings.Contains(string(body), s.HoldDID) && strings.Contains(string(body), "requestCrew")) {
						t.Errorf("%s %s: the refusal does not name the hold and the remedy: %s", method, path, body)
					}
				}
			}
		})
	}

	t.Run("clients", func(t *testing.T) {
		if got := must(realtest.NewPodman(t, s.login(t, "bob")).Pull(s.ref("secret", ":v1")))(t); got != img.Digest {
			t.Errorf("crew pulled %s, want %s", got, img.Digest)
		}
		for _, login := range []realtest.Login{s.anonymous(), s.login(t, "dave")} {
			if got, err := realtest.NewSkopeo(t, login).Pull(s.ref("secret", ":v1")); err == nil {
				t.Errorf("%q pulled %s", login.User, got)
			}
		}
		for _, who := range []string{"bob", "dave"} {
			login := s.login(t, who)
			ref := s.Registry + "/" + login.User + "/app:v1"
			if _, err := realtest.NewCrane(t, login).Push(img, ref); err == nil || !strings.Contains(err.Error(), "DENIED") {
				t.Errorf("%s has no blob:write and pushed: %v", who, err)
			}
		}
		if _, err := realtest.NewCrane(t, s.login(t, "bob")).Push(img, s.ref("secret", ":v2")); err == nil || !strings.Contains(err.Error(), "DENIED") {
			t.Errorf("bob pushed into alice's repository: %v", err)
		}
	})

	t.Run("made public", func(t *testing.T) {
		if err := s.hold.Stop(); err != nil {
			t.Fatalf("hold: %v", err)
		}
		if err := s.app.Stop(); err != nil {
			t.Fatalf("AppView: %v", err)
		}
		s.o.Private = false
		s.startHold(t)
		s.startAppView(t)
		if got := must(realtest.NewSkopeo(t, s.anonymous()).Pull(s.ref("secret", ":v1")))(t); got != img.Digest {
			t.Errorf("pulled %s without sign-in, want %s", got, img.Digest)
		}
	})
}
