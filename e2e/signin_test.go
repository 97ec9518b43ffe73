package e2e

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/atcr-dev/atcr/internal/realtest"
	chromium "github.com/atcr-dev/atcr/internal/realtest/browser"
	"github.com/atcr-dev/atcr/sqldb/sqlite"
)

// From nothing: a device signs in by a page, at the account's own server; docker and podman push and pull by the helper; the device is
// ended on the page, and the next push says why it is refused and what to do.
func TestSignIn(t *testing.T) {
	t.Parallel()
	s := startServices(t, servicesOptions{})
	login := realtest.Login{Registry: s.Registry, Helper: helper(t, filepath.Join(t.TempDir(), "atcr"))}
	login.Helper.Name = "" // the clients' configuration does not name it yet
	docker, podman := realtest.NewDocker(t, login), realtest.NewPodman(t, login)
	img := realtest.Image(t, realtest.ImageOptions{Layers: 2, Seed: 1400})
	if _, err := docker.Push(img, s.ref("none", ":v1")); err == nil {
		t.Fatal("a push went through before anybody had signed in")
	}

	page := chromium.New(t, chromium.Options{}).Page(t)
	device, path, code := loginByDevice(t, login.Helper, []string{"login", s.Registry, "--name", "laptop"},
		append(podman.Environ(), docker.Environ()...)...)
	page.Open("http://" + s.Registry + path)
	s.signIn(page)
	page.WaitText("Is this your device?")
	if !strings.Contains(page.Text(), code) {
		t.Errorf("the page does not show the code %s: %s", code, page.Text())
	}
	page.Press("Approve this device")
	s.consent(page) // of the device's own
	page.WaitText("The device is signed in")
	<-device.Done()
	if err := device.Stop(); err != nil || !strings.Contains(device.Log(), "Signed in to "+s.Registry+" as "+s.User) {
		t.Fatalf("docker-credential-atcr login: %v\n%s", err, device.Log())
	}

	for _, c := range []realtest.Client{docker, podman} {
		pushed := must(c.Push(img, s.ref("by-"+c.Name(), ":v1")))(t)
		if got := must(c.Pull(s.ref("by-"+c.Name(), ":v1")))(t); got != pushed {
			t.Errorf("%s pulled %s, pushed %s", c.Name(), got, pushed)
		}
	}

	// The account is deactivated at its server, and comes back.
	account := func(method string, in any) {
		t.Helper()
		err := s.net.Call(t.Context(), http.MethodPost, s.PDS, "com.atproto.server."+method, s.net.Session(t, "alice"), in, nil)
		if err != nil {
			t.Fatal(err)
		}
	}
	account("deactivateAccount", struct{}{})
	_, err := docker.Push(realtest.Image(t, realtest.ImageOptions{Layers: 1, Seed: 1401}), s.ref("by-docker", ":away"))
	says(t, "a push of a deactivated account", err, "deactivated")
	account("activateAccount", nil)

	// The browser signs out: the device has a sign-in of its own.
	page.Open("http://" + s.Registry + "/settings/access")
	page.Press("Sign out")
	page.WaitText("You are signed out.")
	must(docker.Push(img, s.ref("by-docker", ":v2")))(t)

	page.Open("http://" + s.Registry + "/login?next=/settings/access")
	s.signIn(page)
	page.WaitText("laptop")
	page.Click(`form[action="/settings/access/devices/end"] button`)
	page.WaitText("That device is signed out.")
	ended := time.Now()
	for _, c := range []realtest.Client{docker, podman} {
		var refused error
		for n := 0; refused == nil && time.Since(ended) < 10*time.Second; n++ {
			_, refused = c.Push(img, s.ref("by-"+c.Name(), fmt.Sprintf(":after-%d", n)))
		}
		if refused == nil {
			t.Fatalf("%s pushes 10 s after its device was ended", c.Name())
		}
		says(t, "a push of "+c.Name()+" after its device was ended", refused,
			fmt.Sprintf("the device %q of %s was ended", "laptop", s.User), "docker-credential-atcr login "+s.Registry)
	}
}

// A CI job's life: it has the robot's secret in a variable, which is renewed with both taken for a day, ends, and says so. Nobody is
// signed in in a browser meanwhile.
func TestRobot(t *testing.T) {
	t.Parallel()
	s := startServices(t, servicesOptions{})
	page := chromium.New(t, chromium.Options{}).Page(t)
	access := "http://" + s.Registry + "/settings/access"
	page.Open(access)
	s.signIn(page)
	page.Fill("#name", "nightly")
	page.Fill("#repositories", "app*")
	page.Fill("#days", "10")
	page.Click("input[value=push]")
	page.Press("Make it")
	s.consent(page)
	first := robotSecret(t, page)
	page.Open(access)
	page.WaitText("ends soon") // within 14 days
	page.Press("Sign out")
	page.WaitText("You are signed out.")

	img := realtest.Image(t, realtest.ImageOptions{Layers: 1, Seed: 1410})
	job := func(secret string) *realtest.Crane {
		h := helper(t, filepath.Join(t.TempDir(), "none"), "ATCR_TOKEN="+secret)
		return realtest.NewCrane(t, realtest.Login{Registry: s.Registry, Helper: h})
	}
	before := job(first)
	must(before.Push(img, s.ref("app", ":v1")))(t)
	_, err := before.Push(img, s.ref("other", ":v1"))
	says(t, "a push beyond what the robot may", err, "nightly", "app*")

	page.Open(access)
	s.signIn(page)
	page.Click(`form[action="/settings/access/robots/renew"] button`)
	second := robotSecret(t, page)
	after := job(second)
	must(after.Push(img, s.ref("app", ":v2")))(t)
	must(before.Push(img, s.ref("app", ":v3")))(t) // for a day longer

	// The account's owner revokes everything at the account's server; the robot gets another grant there.
	page.RevokeApps(s.net.Account("alice"))
	_, err = after.Push(img, s.ref("app", ":v4"))
	says(t, "a push after the grant was revoked", err, "nightly", "revoked", "renew it at "+access)
	page.Open(access)
	page.Click(`form[action="/settings/access/robots/renew"] button`)
	s.consent(page)
	before, after = after, job(robotSecret(t, page))
	must(after.Push(img, s.ref("app", ":v4")))(t)

	// Its end comes.
	if err := s.app.Stop(); err != nil {
		t.Fatal(err)
	}
	over := time.Now().Add(-time.Hour)
	db := must(sqlite.Open(t.Context(), filepath.Join(s.dir, "appview", "appview.db")))(t)
	_, err = db.Write().ExecContext(t.Context(), "update auth_token set ends_at = $1, old_until = $1", over.Unix())
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	s.startAppView(t)
	_, err = after.Push(img, s.ref("app", ":v5"))
	says(t, "a push after the robot's end", err, `the robot "nightly" of `+s.User+" ended on "+over.UTC().Format(time.DateOnly),
		"renew it at "+access)
	_, err = before.Push(img, s.ref("app", ":v5"))
	says(t, "a push by the secret of before", err, "nightly", "ended on")
}

// signIn signs alice in to the pages: from /login, over her own server, back to where she wanted to go.
func (s *services) signIn(page *chromium.Page) {
	page.Fill("#account", s.net.Account("alice").Handle)
	page.Press("Go to my account's server")
	s.consent(page)
	page.WaitURL("the registry", func(u *url.URL) bool { return u.Host == s.Registry && !strings.HasPrefix(u.Path, "/login") })
}

// consent signs alice in at her server, to which the page is on its way, and grants what is asked.
func (s *services) consent(page *chromium.Page) {
	alice := s.net.Account("alice")
	page.WaitURL("the account's server", func(u *url.URL) bool { return u.Scheme+"://"+u.Host == alice.PDS })
	page.SignIn(alice)
	page.Consent()
}

var robotWords = regexp.MustCompile(`atcr_robot_[a-z2-7]{16}_[a-z2-7]{52}`)

// robotSecret is the one that a page shows, once.
func robotSecret(t *testing.T, page *chromium.Page) string {
	t.Helper()
	page.WaitText("atcr_robot_")
	return robotWords.FindString(page.Text())
}

// says fails the test when an error does not have all words.
func says(t *testing.T, what string, err error, words ...string) {
	t.Helper()
	if err == nil {
		t.Errorf("%s went through", what)
		return
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%s does not say %q: %v", what, w, err)
		}
	}
}
