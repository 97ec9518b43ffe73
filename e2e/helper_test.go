package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/atcr-dev/atcr/internal/realtest"
)

// helper is docker-credential-atcr with a folder of its own, and no keyring: a bus that would have to be started is none.
func helper(t *testing.T, dir string, env ...string) *realtest.CredentialHelper {
	t.Helper()
	realtest.Build(t, programs, "./cmd/docker-credential-atcr")
	return &realtest.CredentialHelper{Name: "atcr", Dir: programs,
		Env: append([]string{"ATCR_HELPER_DIR=" + dir, "DBUS_SESSION_BUS_ADDRESS=autolaunch:"}, env...)}
}

// Each client signs in by docker-credential-atcr with what docker login had it store.
func TestHelperClients(t *testing.T) {
	t.Parallel()
	s, _ := sandbox(t, t.TempDir())
	dir := filepath.Join(t.TempDir(), "atcr")
	file := filepath.Join(dir, "credentials.json")
	login := s.Login
	login.Helper = helper(t, dir)
	img := realtest.Image(t, realtest.ImageOptions{Layers: 2, Seed: 1300})

	crane, skopeo, podman := realtest.NewCrane(t, login), realtest.NewSkopeo(t, login), realtest.NewPodman(t, login)
	if _, err := crane.Push(img, s.ref("none", ":v1")); err == nil {
		t.Fatal("a push went through before anybody had signed in")
	}
	docker := realtest.NewDocker(t, login) // signs in
	clients := []realtest.Client{docker, crane, skopeo, podman}
	pushed := map[string]string{}
	for _, c := range clients {
		pushed[c.Name()] = must(c.Push(img, s.ref("by-"+c.Name(), ":v1")))(t)
		if got := must(c.Pull(s.ref("by-"+c.Name(), ":v1")))(t); got != pushed[c.Name()] {
			t.Errorf("%s pulled %s, pushed %s", c.Name(), got, pushed[c.Name()])
		}
	}

	// The helper has something and can't read it: each client shows why, and docker goes on with what needs no sign-in.
	if err := os.Chmod(file, 0o640); err != nil {
		t.Fatal(err)
	}
	for _, c := range clients {
		if _, err := c.Push(img, s.ref("unread", ":v1")); err == nil || !strings.Contains(err.Error(), "chmod 600 "+file) {
			t.Errorf("%s does not show why it has no secret: %v", c.Name(), err)
		}
	}
	if _, err := docker.Pull(s.ref("by-docker", ":v1")); err != nil {
		t.Errorf("docker pulls nothing public any more: %v", err)
	}
	if err := os.Chmod(file, 0o600); err != nil {
		t.Fatal(err)
	}

	// Signed out, everybody still pulls, and nobody pushes.
	must(docker.Run("logout", s.Registry))(t)
	raw, err := os.ReadFile(file)
	if err != nil || strings.Contains(string(raw), s.Password) || strings.Contains(string(raw), "accounts") {
		t.Errorf("after docker logout: %s, %v", raw, err)
	}
	for _, c := range clients {
		if got := must(c.Pull(s.ref("by-"+c.Name(), ":v1")))(t); got != pushed[c.Name()] {
			t.Errorf("%s pulled %s without sign-in, pushed %s", c.Name(), got, pushed[c.Name()])
		}
		if _, err := c.Push(img, s.ref("after", ":v1")); err == nil {
			t.Errorf("%s pushed after docker logout", c.Name())
		}
	}

	// A CI job has variables alone.
	login.Helper = helper(t, filepath.Join(t.TempDir(), "empty"), "ATCR_TOKEN="+s.Password, "ATCR_ACCOUNT="+s.User)
	for _, c := range []realtest.Client{realtest.NewCrane(t, login), realtest.NewSkopeo(t, login)} {
		must(c.Push(img, s.ref("by-ci", ":"+c.Name())))(t)
	}
}
