package auth_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/atcr-dev/atcr/internal/realtest"
	"github.com/atcr-dev/atcr/registry"
	"github.com/atcr-dev/atcr/registry/auth"
	"github.com/atcr-dev/atcr/registry/local"
)

// testDocker: docker login keeps a refresh token in place of the app password, and pushes and pulls by it until it is ended; docker and
// other clients sign in by secrets of robots and are refused with the words that say why.
func testDocker(t *testing.T, network *realtest.Net) {
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
	ref := host + "/alice.test/docker:v1"

	docker := realtest.NewDocker(t, realtest.Login{})
	if _, err := docker.Push(img, ref); err == nil {
		t.Error("docker pushed without signing in")
	}
	config := t.TempDir()
	run := func(args ...string) (string, error) {
		return docker.Run(append([]string{"--config", config}, args...)...)
	}
	if out, err := run("login", "-u", "alice.test", "-p", app, host); err != nil {
		t.Fatal(out, err)
	}
	b, err := os.ReadFile(filepath.Join(config, "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	var kept struct {
		Auths map[string]struct{ Auth, IdentityToken string }
	}
	if err := json.Unmarshal(b, &kept); err != nil || !strings.HasPrefix(kept.Auths[host].IdentityToken, "atcr_refresh_") {
		t.Fatalf("docker keeps %s, %v", b, err)
	}
	for range 2 {
		if out, err := run("push", ref); err != nil {
			t.Error(out, err)
		}
		if out, err := run("pull", ref); err != nil {
			t.Error(out, err)
		}
	}
	logins, err := n.auth.Logins().List(t.Context(), alice.DID)
	if err != nil || len(logins) != 1 {
		t.Fatal(logins, err)
	}
	if err := n.auth.Logins().End(t.Context(), alice.DID, logins[0].ID); err != nil {
		t.Fatal(err)
	}
	if out, err := run("push", ref); err == nil || !strings.Contains(err.Error(), "this sign-in of alice.test was ended on") ||
		!strings.Contains(err.Error(), "docker login "+host+" -u alice.test") {
		t.Error("docker after its sign-in was ended: ", out, err)
	}

	secret, robot, err := n.auth.Robots().Create(t.Context(), alice.DID, alice.Handle, logins[0].Session, auth.Robot{
		Name: "ci", Repositories: []string{"docker", "crane", "skopeo", "podman"}, Actions: []registry.Action{registry.Push}})
	if err != nil {
		t.Fatal(err)
	}
	login := realtest.Login{Registry: host, User: "robot", Password: secret}
	if out, err := run("login", "-u", "robot", "-p", secret, host); err != nil {
		t.Fatal(out, err)
	}
	if b, err := os.ReadFile(filepath.Join(config, "config.json")); err != nil || strings.Contains(string(b), "identitytoken") {
		t.Errorf("docker keeps %s, %v", b, err)
	}
	if out, err := run("push", ref); err != nil {
		t.Error(out, err)
	}
	clients := []realtest.Client{realtest.NewCrane(t, login), realtest.NewSkopeo(t, login), realtest.NewPodman(t, login)}
	for _, c := range clients {
		if _, err := c.Push(img, host+"/alice.test/"+c.Name()+":v1"); err != nil {
			t.Errorf("%s as a robot: %v", c.Name(), err)
		}
		if _, err := c.Pull(ref); err != nil {
			t.Errorf("%s as a robot: %v", c.Name(), err)
		}
		if _, err := c.Push(img, host+"/alice.test/other:v1"); err == nil || !strings.Contains(err.Error(), ` of alice.test may not do this with alice.test/other: it may pull, push docker`) {
			t.Errorf("%s pushed what its robot may not: %v", c.Name(), err)
		}
	}
	if err := n.auth.Robots().End(t.Context(), alice.DID, robot.ID); err != nil {
		t.Fatal(err)
	}
	for _, c := range clients {
		if _, err := c.Push(img, host+"/alice.test/"+c.Name()+":v2"); err == nil || !strings.Contains(err.Error(), "was ended on") {
			t.Errorf("%s after its robot was ended: %v", c.Name(), err)
		}
	}
	if out, err := run("push", ref); err == nil || !strings.Contains(err.Error(), `the robot "ci" of alice.test was ended on`) {
		t.Error("docker after its robot was ended: ", out, err)
	}
}
