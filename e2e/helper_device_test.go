package e2e

import (
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/atcr-dev/atcr/internal/realtest"
)

// plainBrowser is one without scripts, as the sandbox's pages need no more.
type plainBrowser struct {
	*http.Client
	base string
}

func newPlainBrowser(t *testing.T, base string) *plainBrowser {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &plainBrowser{&http.Client{Jar: jar, Timeout: time.Minute}, base}
}

// page reads what a path, or a form that is sent there, shows after all redirects.
func (b *plainBrowser) page(t *testing.T, path string, form url.Values) string {
	t.Helper()
	var resp *http.Response
	var err error
	if form == nil {
		resp, err = b.Get(b.base + path)
	} else {
		resp, err = b.PostForm(b.base+path, form)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s, %v\n%s", path, resp.Status, err, body)
	}
	return string(body)
}

var pageLine = regexp.MustCompile(`^ {4}(http://\S+\?user_code=(\S+))$`)

// readmeLines are the three lines of README.md by which one signs in to the sandbox, pushes and pulls, for a registry elsewhere.
func readmeLines(t *testing.T, registry string) (login, push, pull []string) {
	t.Helper()
	text, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`(?m)^    docker-credential-atcr (login 127\.0\.0\.1:5000)$\n^    docker (push \S+)$\n^    docker (pull \S+)$`).
		FindStringSubmatch(string(text))
	if m == nil {
		t.Fatal("README.md has no three lines that sign in to the sandbox, push and pull")
	}
	args := func(s string) []string { return strings.Fields(strings.ReplaceAll(s, "127.0.0.1:5000", registry)) }
	return args(m[1]), args(m[2]), args(m[3])
}

// loginByDevice starts docker-credential-atcr login, and returns it with the code that it shows and the page's path.
func loginByDevice(t *testing.T, h *realtest.CredentialHelper, args []string, env ...string) (p *realtest.Process, path, code string) {
	t.Helper()
	pages := make(chan []string, 1)
	p = realtest.Start(t, realtest.Command{
		Path: filepath.Join(h.Dir, "docker-credential-atcr"), Args: args, Env: append(h.Env, env...),
		Each: func(line string) {
			if m := pageLine.FindStringSubmatch(line); m != nil {
				pages <- m
			}
		},
	})
	select {
	case m := <-pages:
		u, err := url.Parse(m[1])
		if err != nil {
			t.Fatal(err)
		}
		return p, u.RequestURI(), m[2]
	case <-time.After(startLimit):
		t.Fatalf("it shows no page:\n%s", p.Log())
	}
	return nil, "", ""
}

// A device from nothing to its end: login, approval on the pages, push and pull by docker, ended, refused with the reason.
func TestHelperDevice(t *testing.T) {
	t.Parallel()
	s, _ := sandbox(t, t.TempDir())
	home := t.TempDir()
	login := s.anonymous()
	login.Helper = helper(t, filepath.Join(home, "atcr"))
	b := newPlainBrowser(t, "http://"+s.Registry)

	loginLine, push, pull := readmeLines(t, s.Registry)
	env := []string{"HOME=" + home, "DOCKER_CONFIG=" + home}
	p, path, code := loginByDevice(t, login.Helper, append(loginLine, "--name", "my laptop"), env...)
	page := b.page(t, path, nil) // leads to sign-in
	if !strings.Contains(page, "Sign in to approve your device") {
		t.Fatalf("no sign-in at the page of the device:\n%s", page)
	}
	page = b.page(t, "/login", url.Values{"account": {s.User}, "password": {s.Password}, "next": {path}})
	if !strings.Contains(page, code) || !strings.Contains(page, "my laptop") {
		t.Fatalf("the page does not show %s and the device:\n%s", code, page)
	}
	b.page(t, "/device", url.Values{"user_code": {code}, "answer": {"approve"}})
	select {
	case <-p.Done():
	case <-time.After(startLimit):
		t.Fatalf("it goes on after it was approved:\n%s", p.Log())
	}
	for _, want := range []string{"Signed in to " + s.Registry + " as " + s.User, "Clients ask this program for " + s.Registry + " now"} {
		if !strings.Contains(p.Log(), want) {
			t.Errorf("it does not say %q:\n%s", want, p.Log())
		}
	}
	if strings.Contains(p.Log(), "atcr_device_") {
		t.Error("the secret was shown")
	}

	img := realtest.Image(t, realtest.ImageOptions{Layers: 2, Seed: 1310})
	docker := realtest.NewDocker(t, login)
	for i, c := range []realtest.Client{docker, realtest.NewCrane(t, login), realtest.NewSkopeo(t, login), realtest.NewPodman(t, login)} {
		ref := s.ref("device", fmt.Sprintf(":v%d", i))
		pushed := must(c.Push(img, ref))(t)
		if got := must(c.Pull(ref))(t); got != pushed {
			t.Errorf("%s pulled %s, pushed %s", c.Name(), got, pushed)
		}
	}

	must(docker.Run("tag", s.ref("device", ":v0"), push[1]))(t)
	must(docker.Run(push...))(t)
	must(docker.Run("rmi", push[1]))(t)
	must(docker.Run(pull...))(t)

	// Refused on the page: nothing changes.
	refused, _, code := loginByDevice(t, login.Helper, append(loginLine, "--name", "stranger"), env...)
	b.page(t, "/device", url.Values{"user_code": {code}, "answer": {"deny"}})
	<-refused.Done()
	if !strings.Contains(refused.Log(), "was refused on the page") {
		t.Errorf("refused, it says:\n%s", refused.Log())
	}

	// Ended on the page: docker is told within seconds.
	access := b.page(t, "/settings/access", nil)
	if !strings.Contains(access, "my laptop") || strings.Contains(access, "stranger") {
		t.Errorf("the list of devices:\n%s", access)
	}
	id := regexp.MustCompile(`action="/settings/access/devices/end"><input type="hidden" name="id" value="([^"]+)"`).FindStringSubmatch(access)
	if id == nil {
		t.Fatalf("no device to end:\n%s", access)
	}
	b.page(t, "/settings/access/devices/end", url.Values{"id": {id[1]}})
	err := realtest.WaitFor(15*time.Second, func() error {
		_, err := realtest.NewCrane(t, login).Push(img, s.ref("device", ":late"))
		if err == nil {
			return fmt.Errorf("a device that was ended pushes")
		}
		if !strings.Contains(err.Error(), "was ended on") || !strings.Contains(err.Error(), "docker-credential-atcr login "+s.Registry) {
			return fmt.Errorf("the refusal does not say why and what to do: %w", err)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}
