package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/atcr-dev/atcr/internal/realtest"
)

// 200 pushes, half of them with the app password and half with the refresh token that docker login got, the AppView killed among them, cost
// at most two createSession calls at the PDS; and neither the database nor its log has a secret that can be used.
func TestAppPassword(t *testing.T) {
	t.Parallel()
	const pushes = 200
	s := startServices(t, servicesOptions{Network: realtest.NetworkOptions{Proxied: true}})
	s.net.Proxy[0].Requests() // what made the app password
	refresh := dockerLogin(t, s.Login)
	push := func(i int) error {
		ref, err := name.ParseReference(s.ref("pushed", fmt.Sprintf(":v%d", i)), name.Insecure)
		if err != nil {
			return err
		}
		img, err := random.Image(1000, 1)
		if err != nil {
			return err
		}
		auth := authn.AuthConfig{Username: s.User, Password: s.Password}
		if i%2 == 0 {
			auth = authn.AuthConfig{IdentityToken: refresh}
		}
		return remote.Write(ref, img, remote.WithAuth(authn.FromConfig(auth)))
	}
	all := func(from, to int) {
		var next sync.Mutex
		var pushing sync.WaitGroup
		for range 8 {
			pushing.Go(func() {
				for {
					next.Lock()
					i := from
					from++
					next.Unlock()
					if i >= to {
						return
					}
					if err := push(i); err != nil {
						t.Errorf("push %d: %v", i, err)
						return
					}
				}
			})
		}
		pushing.Wait()
	}
	all(0, pushes/2)
	_ = s.app.Kill()
	s.startAppView(t)
	all(pushes/2, pushes)
	if n := len(s.records(t, "io.atcr.manifest")); n != pushes {
		t.Errorf("%d manifests", n)
	}
	sessions := 0
	for _, r := range s.net.Proxy[0].Requests() {
		if strings.HasPrefix(r, "POST /xrpc/com.atproto.server.createSession") {
			sessions++
		}
	}
	if sessions < 1 || sessions > 2 {
		t.Errorf("%d createSession calls", sessions)
	}
	_ = s.app.Stop()
	if fileWith(t, s.dir, s.DID) == "" {
		t.Error("the files that were searched are not the database's")
	}
	for _, secret := range []string{s.Password, refresh, refresh[len(refresh)-52:]} {
		if file := fileWith(t, s.dir, secret); file != "" {
			t.Errorf("%s has a secret", file)
		}
		if strings.Contains(s.app.Log(), secret) {
			t.Error("the log has a secret")
		}
	}
}

// dockerLogin does what docker login does, and returns the refresh token.
func dockerLogin(t *testing.T, login realtest.Login) string {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, "http://"+login.Registry+"/auth/token?offline_token=true&client_id=docker", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth(login.User, login.Password)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var answer struct {
		RefreshToken string `json:"refresh_token"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil || !strings.HasPrefix(answer.RefreshToken, "atcr_refresh_") {
		t.Fatalf("%s: %+v %v", resp.Status, answer, err)
	}
	return answer.RefreshToken
}

// fileWith returns a file below a folder that holds a text, or "".
func fileWith(t *testing.T, dir, text string) (found string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		if err == nil && strings.Contains(string(b), text) {
			found = path
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}
