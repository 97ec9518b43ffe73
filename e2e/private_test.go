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
						!(strings.Contains(string(body), "DENIED") && strings.Contains(string(body), s.HoldDID) &&
							strings.Contains(string(body), "atcr-hold crew add dave.test")) {
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
		_, err := realtest.NewCrane(t, s.login(t, "bob")).Push(img, s.ref("secret", ":v2"))
		if err == nil || !strings.Contains(err.Error(), "DENIED") {
			t.Errorf("bob pushed into alice's repository: %v", err)
		}
	})

	t.Run("messages", func(t *testing.T) { testMessages(t, s, img) })

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

// testMessages: a refusal names handle, path or tag, and the command that helps.
func testMessages(t *testing.T, s *services, img *realtest.ImageFile) {
	alice, dave := s.Login, s.login(t, "dave")
	host := s.Registry
	for _, tt := range []struct {
		name  string
		login realtest.Login
		args  []string
		want  []string
		not   string
	}{
		{"push, not signed in", s.anonymous(), []string{"push", img.Layout, s.ref("fresh", ":v2")},
			[]string{"UNAUTHORIZED", "docker login " + host + " -u " + alice.User}, ""},
		{"push, not signed in, no handle", s.anonymous(), []string{"push", img.Layout, host + "/app:v1"},
			[]string{"docker login " + host + " -u HANDLE", "push to " + host + "/HANDLE/REPOSITORY", `"app" is no handle`}, ""},
		{"push, no handle", alice, []string{"push", img.Layout, host + "/app:v1"},
			[]string{"DENIED", "signed in as " + alice.User, "push to " + host + "/" + alice.User + "/app"}, ""},
		{"push, a folder that is no handle", alice, []string{"push", img.Layout, host + "/team/app:v1"},
			[]string{"DENIED", "push to " + host + "/" + alice.User + "/app"}, ""},
		{"push, another's", dave, []string{"push", img.Layout, s.ref("fresh", ":v2")},
			[]string{"DENIED", "push to " + host + "/" + dave.User + "/fresh"}, ""},
		{"push, not of the crew", dave, []string{"push", img.Layout, host + "/" + dave.User + "/app:v1"},
			[]string{"DENIED", s.HoldDID, "ask its captain carol.test", "atcr-hold crew add " + dave.User}, "requestCrew"},
		{"push, crew that only reads", s.login(t, "bob"), []string{"push", img.Layout, host + "/bob.test/app:v1"},
			[]string{"DENIED", "atcr-hold crew add --permissions blob:write bob.test"}, ""},
		{"pull, private", s.anonymous(), []string{"manifest", s.ref("secret", ":v1")},
			[]string{"UNAUTHORIZED", "docker login " + host + " -u HANDLE"}, ""},
		{"pull, no handle", s.anonymous(), []string{"manifest", host + "/app:v1"},
			[]string{"NAME_UNKNOWN", "HANDLE/REPOSITORY", `"app" is no handle`}, ""},
		{"missing tag", alice, []string{"manifest", s.ref("secret", ":v9")},
			[]string{"MANIFEST_UNKNOWN", "/secret has no tag v9; it has v1"}, ""},
		{"missing tag, of no concern", dave, []string{"manifest", s.ref("secret", ":v9")},
			[]string{"MANIFEST_UNKNOWN", "/secret has no tag v9"}, "it has"},
		{"missing digest", alice, []string{"manifest", s.ref("secret", "@sha256:"+strings.Repeat("0", 64))},
			[]string{"has no manifest sha256:0000"}, ""},
		{"catalog", alice, []string{"catalog", host}, []string{"UNSUPPORTED", "/v2/HANDLE/REPOSITORY/tags/list"}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := realtest.NewCrane(t, tt.login).Run(tt.args...)
			if err == nil {
				t.Fatal("it succeeded")
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("no %q in: %v", want, err)
				}
			}
			if tt.not != "" && strings.Contains(err.Error(), tt.not) {
				t.Errorf("%q in: %v", tt.not, err)
			}
		})
	}
	resp, _ := do(t, s.anonymous(), http.MethodHead, "/v2/app/manifests/v1", "repository:app:pull", nil)
	if resp.StatusCode != http.StatusNotFound {
		t.Errorf("HEAD without a handle: %s; clients stop there, since a HEAD has no text", resp.Status)
	}
}
