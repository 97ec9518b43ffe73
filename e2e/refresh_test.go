package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/atcr-dev/atcr/internal/realtest"
	chromium "github.com/atcr-dev/atcr/internal/realtest/browser"
)

// TestRefresh: 16 pushes and 4 readers by a device go on while the PDS ends access tokens 20 times, each of which says that it lives
// for half a minute: no request fails, no refresh token is shown twice, counted at the PDS's door.
func TestRefresh(t *testing.T) {
	t.Parallel()
	const ends, writers, readers = 20, 16, 4
	s := startServices(t, servicesOptions{Network: realtest.NetworkOptions{Proxied: true}})
	door := s.net.Proxy[0]
	d := watchDoor(door)
	door.Inject(realtest.Fault{Kind: realtest.Rewrite, Path: "/oauth/token", Times: -1, Rewrite: func(body []byte) []byte {
		return bytes.Replace(body, []byte(`"expires_in":3599`), []byte(`"expires_in":30`), 1)
	}})
	h := helper(t, filepath.Join(t.TempDir(), "atcr"))
	login, path, _ := loginByDevice(t, h, []string{"login", s.Registry, "--no-configure"})
	page := chromium.New(t, chromium.Options{}).Page(t)
	page.Open("http://" + s.Registry + path)
	s.signIn(page)
	page.Press("Approve this device")
	s.consent(page)
	page.WaitText("The device is signed in")
	<-login.Done()
	device := realtest.Login{Registry: s.Registry, Helper: h}
	img := realtest.Image(t, realtest.ImageOptions{SizeMB: 1, Layers: 1, Seed: 1100})
	must(realtest.NewCrane(t, device).Push(img, s.ref("app", ":first")))(t)
	device.User, device.Password = helperSecret(t, h, s.Registry)

	scope := "repository:" + s.name("app") + ":pull,push"
	manifest := "/v2/" + s.name("app") + "/manifests/"
	resp, body := do(t, device, http.MethodGet, manifest+"first", scope, nil)
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s", resp.Status, body)
	}
	kind := resp.Header.Get("Content-Type")
	var stop atomic.Bool
	var workers sync.WaitGroup
	done := make([]atomic.Int64, writers+readers)
	for i := range done {
		workers.Go(func() {
			var token string
			var since time.Time
			for k := 0; !stop.Load(); k++ {
				if time.Since(since) > time.Minute { // they live five
					token, since = registryToken(t, device, scope), time.Now()
				}
				method, path, content := http.MethodPut, fmt.Sprintf("%sw%d-%d", manifest, i, k%10), body
				if i >= writers {
					method, path, content = http.MethodGet, manifest+fmt.Sprintf("w%d-%d", i-writers, 0), nil
				}
				if status, err := s.request(t, token, method, path, kind, content); err != nil ||
					status != http.StatusCreated && (i < writers || status != http.StatusOK && status != http.StatusNotFound) {
					t.Errorf("worker %d, request %d: status %d, %v", i, k, status, err)
					stop.Store(true)
				}
				done[i].Add(1)
			}
		})
	}
	refused := 0
	for end := range ends {
		before := make([]int64, writers)
		for i := range before {
			before[i] = done[i].Load()
		}
		old := "DPoP " + d.newest()
		fault := door.Inject(realtest.Fault{
			Kind: realtest.Fail, Status: http.StatusUnauthorized, Path: "/xrpc/", Times: -1, Body: `{"error":"invalid_token"}`, Optional: true,
			Header: http.Header{"Www-Authenticate": {`DPoP error="invalid_token", error_description="expired"`}},
			Match:  func(r *http.Request) bool { return r.Header.Get("Authorization") == old },
		})
		err := realtest.WaitFor(2*time.Minute, func() error {
			for i := range before {
				if !stop.Load() && done[i].Load() < before[i]+2 {
					return fmt.Errorf("worker %d waits", i)
				}
			}
			return nil
		})
		if err != nil || stop.Load() {
			t.Errorf("end %d: %v", end, err)
			break
		}
		if fault.Fired() > 0 { // else it was renewed by time, just before
			refused++
		}
	}
	stop.Store(true)
	workers.Wait()
	if refused < ends/2 {
		t.Errorf("the PDS refused a token at %d of %d ends: the test asks too little", refused, ends)
	}
	d.check(t, refused, 10*ends)
}

// request is one to the registry; its answer's body is not read.
func (s *services) request(t *testing.T, token, method, path, kind string, body []byte) (status int, err error) {
	req, err := http.NewRequestWithContext(t.Context(), method, "http://"+s.Registry+path, bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Content-Type", kind)
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	return resp.StatusCode, resp.Body.Close()
}

// helperSecret is what a credential helper has for a registry.
func helperSecret(t *testing.T, h *realtest.CredentialHelper, registry string) (user, secret string) {
	t.Helper()
	cmd := exec.Command(filepath.Join(h.Dir, "docker-credential-"+h.Name), "get")
	cmd.Stdin, cmd.Env = strings.NewReader(registry), append(cmd.Environ(), h.Env...)
	out, err := cmd.Output()
	var got struct{ Username, Secret string }
	if err == nil {
		err = json.Unmarshal(out, &got)
	}
	if err != nil || got.Secret == "" {
		t.Fatalf("docker-credential-%s get: %v", h.Name, err)
	}
	return got.Username, got.Secret
}
