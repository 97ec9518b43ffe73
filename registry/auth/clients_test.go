package auth_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/atcr-dev/atcr/internal/realtest"
	"github.com/atcr-dev/atcr/registry"
	"github.com/atcr-dev/atcr/registry/local"
)

// testClients: real clients sign in, push, are refused and pull anonymously, by the challenge and the token endpoint alone.
func testClients(t *testing.T, network *realtest.Net) {
	n := newRealNet(t, network)
	alice := n.Account("alice")
	app := n.AppPassword(t, "alice")
	backend, err := local.Open(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { backend.Close() })
	mux := http.NewServeMux()
	mux.Handle("/auth/", n.auth.Handler())
	server := httptest.NewServer(registry.NewHandler(backend, &registry.Options{Authorizer: n.auth}).WithFallback(mux))
	t.Cleanup(server.Close)
	host := strings.TrimPrefix(server.URL, "http://")
	img := realtest.Image(t, realtest.ImageOptions{SizeMB: 1, Layers: 2})
	byDID := "did-plc-" + strings.TrimPrefix(alice.DID, "did:plc:")

	anonymous := []realtest.Client{realtest.NewCrane(t, realtest.Login{Registry: host})}
	for _, user := range []string{"alice.test", byDID} {
		login := realtest.Login{Registry: host, User: user, Password: app}
		clients := []realtest.Client{realtest.NewCrane(t, login)}
		if user == alice.Handle {
			clients = append(clients, realtest.NewSkopeo(t, login), realtest.NewPodman(t, login))
		}
		for _, c := range clients {
			ref := host + "/" + user + "/" + c.Name() + ":v1"
			pushed, err := c.Push(img, ref)
			if err != nil {
				t.Errorf("%s as %s: %v", c.Name(), user, err)
				continue
			}
			for _, who := range append([]realtest.Client{c}, anonymous...) {
				if pulled, err := who.Pull(ref); err != nil || pulled != pushed {
					t.Errorf("pull by %s of what %s pushed: %q, want %q: %v", who.Name(), c.Name(), pulled, pushed, err)
				}
			}
			if _, err := c.Push(img, host+"/bob.test/app:v1"); err == nil || !strings.Contains(strings.ToLower(err.Error()), "denied") {
				t.Errorf("%s pushed into bob's namespace: %v", c.Name(), err)
			}
		}
	}
	if _, err := anonymous[0].Push(img, host+"/alice.test/app:v1"); err == nil {
		t.Error("an anonymous push")
	}
	wrong := realtest.NewCrane(t, realtest.Login{Registry: host, User: "alice.test", Password: "wrong"})
	if _, err := wrong.Push(img, host+"/alice.test/app:v1"); err == nil || !strings.Contains(err.Error(), "sign-in failed") {
		t.Error("wrong password:", err)
	}
	deleter := realtest.NewCrane(t, realtest.Login{Registry: host, User: "alice.test", Password: app})
	if out, err := deleter.Run("delete", host+"/alice.test/crane:v1"); err != nil {
		t.Error("delete:", out, err)
	}
}
