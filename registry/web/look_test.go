package web

import (
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/atcr-dev/atcr/internal/realtest/browser"
)

// TestLook has a browser look at every page: nothing that axe-core finds, in light, dark and 390 pixels wide; nothing wider than a phone;
// nothing in the console. Names are as long as they may be.
func TestLook(t *testing.T) {
	f := newFixture(t, func(o *Options) { o.BaseURL, o.Company, o.Jurisdiction, o.Clock = "", "Example Ltd.", "Utopia", nil })
	server := httptest.NewServer(f.Handler())
	t.Cleanup(server.Close)
	p := browser.New(t, browser.Options{}).Page(t)
	look := func(name, path, want string) {
		t.Helper()
		status := p.Open(server.URL + path)
		p.WaitText(want)
		if status >= 400 {
			p.Complaints() // that it is
		}
		p.Check(name)
	}
	look("home", "/", "Push an image")
	look("login", "/login?next=/device", "Sign in by an app password")
	look("privacy", "/privacy", "Example Ltd.")
	look("terms", "/terms", "Utopia")
	// The rest by hand, without scripts.
	p.Scripts(false)
	p.Open(strings.Replace(server.URL, "127.0.0.1", "localhost", 1) + "/settings/access")
	at := p.WaitURL("the form to sign in, by 127.0.0.1", func(u *url.URL) bool { return u.Path == "/login" })
	if at.Hostname() != "127.0.0.1" || at.Query().Get("next") != "/settings/access" {
		t.Error(at)
	}
	p.Click("summary")
	p.Fill("#account-2", "alice.test")
	p.Fill("#password", "wrong")
	p.Click("form:has(#password) button")
	p.WaitText("Sign-in failed")
	p.Shoot("login-refused")
	p.Fill("#password", "right")
	p.Click("form:has(#password) button")
	p.WaitURL("the list", func(u *url.URL) bool { return u.Path == "/settings/access" })
	p.Scripts(true)
	look("access-empty", "/settings/access", "There is no robot.")

	now, long := time.Now(), strings.Repeat("long-name-", 6)
	f.devices[alice] = []Token{
		{ID: "d1", Name: "alice's laptop", Address: "192.0.2.9", Created: now.Add(-99 * time.Hour), Used: now.Add(-time.Hour), Ends: now.Add(4000 * time.Hour)},
		{ID: "d2", Name: long + long, Address: "2001:db8:1234:5678::", Created: now, Used: now},
	}
	f.robots[alice] = []Token{
		{ID: "r1", Name: "deploy", Repositories: []string{"app-*", "web", long + long + long}, Actions: []string{"pull", "push"}, Created: now,
			Used: now.Add(time.Hour), Address: "192.0.2.1", Ends: now.Add(80 * 24 * time.Hour)},
		{ID: "r2", Name: "nightly", Repositories: []string{"*"}, Actions: []string{"pull"}, Created: now, Ends: now.Add(13 * 24 * time.Hour), OldUntil: now.Add(time.Hour)},
		{ID: "r3", Name: "of last year", Repositories: []string{"*"}, Actions: []string{"pull"}, Created: now, Ends: now.Add(-time.Hour)},
	}
	f.waiting["BCDF-GHJK"] = Waiting{Code: "BCDF-GHJK", Name: "alice's laptop " + evil, Address: "127.0.0.1", Since: now}
	look("access", "/settings/access?done=device", "ends soon")
	look("device-code", "/device", "The eight letters")
	look("device-wrong", "/device?user_code=XXXX", "No device waits")
	look("device", "/device?user_code=BCDF-GHJK", "Is this your device?")
	p.Scripts(false)
	p.Open(server.URL + "/device?user_code=BCDF-GHJK")
	p.Press("Approve this device")
	p.WaitText("The device is signed in")
	p.Shoot("device-done")
	p.Open(server.URL + "/settings/access")
	p.Fill("#name", "ci")
	p.Fill("#repositories", "app-*")
	p.Press("Make it")
	p.WaitText("atcr_robot_the-secret")
	p.Scripts(true)
	p.Shoot("robot")
	look("missing", "/nothing", "There is no such page")
	if len(f.decided) != 2 || len(f.specs) != 1 {
		t.Errorf("%q %v", f.decided, f.specs)
	}
	p.Press("Sign out")
	p.WaitText("You are signed out.")
	p.Check("signed-out")
}
