package web

import (
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/atcr-dev/atcr/registry"
)

// A device gets a grant of its own: the browser goes to the account's server once more, and the browser's grant stays.
func TestDevice(t *testing.T) {
	f := newFixture(t, nil)
	b := f.person()
	f.waiting["BCDF-GHJK"] = Waiting{Code: "BCDF-GHJK", Name: "laptop " + evil, Address: "192.0.2.1", Since: f.now}
	resp, _ := b.get("/device?user_code=BCDF-GHJK")
	if resp.StatusCode != http.StatusSeeOther || where(resp) != "/login?next=%2Fdevice%3Fuser_code%3DBCDF-GHJK" {
		t.Fatal(resp.StatusCode, where(resp))
	}
	b.signIn()
	_, body := b.get("/device")
	if !strings.Contains(body, `name="user_code"`) {
		t.Error(body)
	}
	resp, body = b.get("/device?user_code=BCDF-GHJK")
	for _, want := range []string{"BCDF-GHJK", "laptop &lt;script&gt;", "192.0.2.1 (your address)", "15 Jan 2027, 08:00 UTC", "once more"} {
		if resp.StatusCode != 200 || !strings.Contains(body, want) || strings.Contains(body, "<script") || strings.Contains(body, "<img src=x") {
			t.Errorf("%q is missing, or runs: %d\n%s", want, resp.StatusCode, body)
		}
	}
	resp, body = b.post("/device", "user_code", "BCDF-GHJK", "answer", "approve")
	if resp.StatusCode != http.StatusSeeOther || where(resp) != "/login/go" || len(f.decided) > 0 {
		t.Fatal(resp.StatusCode, body, f.decided)
	}
	if o := f.begun[0]; o.Account != alice || !o.Keep || o.Browser != "browser-secret" {
		t.Errorf("%+v", o)
	}
	f.grant = "oauth-device"
	cookie := b.cookies["__Host-atcr"]
	resp, body = b.get("/auth/oauth/callback?state=s&code=c")
	if resp.StatusCode != 200 || !strings.Contains(body, "The device is signed in") ||
		!slices.Equal(f.decided, []string{"approved BCDF-GHJK alice.test oauth-device"}) {
		t.Error(resp.StatusCode, body, f.decided)
	}
	if b.cookies["__Host-atcr"] != cookie || !b.signedIn() || len(f.endedGrants()) > 0 {
		t.Error("the browser's own session changed")
	}

	f.waiting["LMNP-QRST"] = Waiting{Code: "LMNP-QRST"}
	if resp, body := b.post("/device", "user_code", "LMNP-QRST", "answer", "deny"); resp.StatusCode != 200 || !strings.Contains(body, "refused") {
		t.Error(resp.StatusCode, body)
	}
	if got := f.decided[len(f.decided)-1]; got != "denied LMNP-QRST" {
		t.Error(got)
	}
	for _, answer := range []string{"approve", "", "x"} {
		if resp, _ := b.post("/device", "user_code", "XXXX-XXXX", "answer", answer); resp.StatusCode < 400 || len(f.begun) > 0 {
			t.Errorf("%q for a code that is none: %d", answer, resp.StatusCode)
		}
	}
	if resp, body := b.get("/device?user_code=%3Cb%3E"); resp.StatusCode != 404 || !strings.Contains(body, "No device waits") || strings.Contains(body, "<b>") {
		t.Error(resp.StatusCode, body)
	}
}

// A grant for a device counts in the browser session that asked for it, and for its account; else it ends.
func TestDeviceOfAnother(t *testing.T) {
	for name, meanwhile := range map[string]func(*fixture, *person){
		"signed out":       func(_ *fixture, b *person) { b.post("/logout") },
		"signed in anew":   func(f *fixture, b *person) { b.post("/login", "account", "alice.test", "password", "right") },
		"another account":  func(f *fixture, _ *person) { f.as = bob },
		"the code is over": func(f *fixture, _ *person) { delete(f.waiting, "BCDF-GHJK") },
	} {
		f := newFixture(t, nil)
		b := f.person()
		b.signIn()
		f.waiting["BCDF-GHJK"] = Waiting{Code: "BCDF-GHJK"}
		b.post("/device", "user_code", "BCDF-GHJK", "answer", "approve")
		f.grant = "oauth-device"
		meanwhile(f, b)
		resp, body := b.get("/auth/oauth/callback?state=s&code=c")
		if resp.StatusCode < 400 || len(f.decided) > 0 {
			t.Errorf("%s: %d, %q\n%s", name, resp.StatusCode, f.decided, body)
		}
		if got := f.endedGrants(); !slices.ContainsFunc(got, func(s string) bool { return strings.HasSuffix(s, " oauth-device") }) {
			t.Errorf("%s: the grant stays: %q", name, got)
		}
	}
}

// Where the browser acts by an app password, so does what it approves, at once.
func TestByAppPassword(t *testing.T) {
	f := newFixture(t, nil)
	b := f.person()
	b.post("/login", "account", "alice.test", "password", "right")
	f.waiting["BCDF-GHJK"] = Waiting{Code: "BCDF-GHJK", Address: "203.0.113.9"}
	if _, body := b.get("/device?user_code=BCDF-GHJK"); strings.Contains(body, "once more") || strings.Contains(body, "your address") {
		t.Error(body)
	}
	resp, _ := b.post("/device", "user_code", "BCDF-GHJK", "answer", "approve")
	if resp.StatusCode != 200 || !slices.Equal(f.decided, []string{"approved BCDF-GHJK alice.test password-session"}) || len(f.begun) > 0 {
		t.Error(resp.StatusCode, f.decided)
	}
	resp, body := b.post("/settings/access/robots/make", "name", "ci", "repositories", "*", "action", "pull", "days", "90")
	if resp.StatusCode != 200 || !strings.Contains(body, "atcr_robot_the-secret") || resp.Header.Get("Cache-Control") != "no-store" {
		t.Error(resp.StatusCode, body)
	}
}

func TestRobots(t *testing.T) {
	f := newFixture(t, nil)
	b := f.person()
	b.signIn()
	good := []string{"name", " ci job ", "repositories", "app-*\r\nweb, api", "action", "pull", "action", "push", "days", "30"}
	resp, body := b.post("/settings/access/robots/make", good...)
	if resp.StatusCode != http.StatusSeeOther || where(resp) != "/login/go" || len(f.specs) > 0 {
		t.Fatal(resp.StatusCode, body)
	}
	f.grant = "oauth-robot"
	resp, body = b.get("/auth/oauth/callback?state=s&code=c")
	if resp.StatusCode != 200 || !strings.Contains(body, "atcr_robot_the-secret") || !strings.Contains(body, "shown once") ||
		resp.Header.Get("Cache-Control") != "no-store" {
		t.Error(resp.StatusCode, body)
	}
	want := RobotSpec{Name: "ci job", Repositories: []string{"app-*", "web", "api"}, Actions: []string{"pull", "push"}, Days: 30}
	if len(f.specs) != 1 || fmt.Sprint(f.specs[0]) != fmt.Sprint(want) || f.decided[0] != "robot oauth-robot" {
		t.Errorf("%+v, %q", f.specs, f.decided)
	}
	if resp, body := b.get("/auth/oauth/callback?state=s&code=c"); resp.StatusCode != 400 || strings.Contains(body, "atcr_robot_") {
		t.Error("shown twice", resp.StatusCode)
	}

	for name, form := range map[string][]string{
		"no name":      {"repositories", "*", "action", "pull", "days", "1"},
		"long name":    {"name", strings.Repeat("x", 65), "repositories", "*", "action", "pull", "days", "1"},
		"nothing":      {"name", "x", "repositories", " , \n", "action", "pull", "days", "1"},
		"too many":     {"name", "x", "repositories", strings.Repeat("a ", 101), "action", "pull", "days", "1"},
		"long pattern": {"name", "x", "repositories", strings.Repeat("a", 256), "action", "pull", "days", "1"},
		"no action":    {"name", evil, "repositories", "*", "days", "1"},
		"four":         {"name", "x", "repositories", "*", "action", "a", "action", "b", "action", "c", "action", "d", "days", "1"},
		"no end":       {"name", "x", "repositories", "*", "action", "pull", "days", "0"},
		"for ever":     {"name", "x", "repositories", "*", "action", "pull", "days", "367"},
		"no number":    {"name", "x", "repositories", "*", "action", "pull", "days", "1e2"},
	} {
		resp, body := b.post("/settings/access/robots/make", form...)
		if resp.StatusCode != 400 || !strings.Contains(body, `role="alert"`) || len(f.begun) > 0 || strings.Contains(body, "<script") {
			t.Errorf("%s: %d\n%s", name, resp.StatusCode, body)
		}
		if name == "no action" && !strings.Contains(body, `value="&lt;script&gt;`) {
			t.Error("the form is empty again")
		}
	}
	// What the registry refuses is shown beside the form, and the grant ends.
	f.noRobots = (&registry.Error{Code: "DENIED", Status: 403}).With("an account has at most 100 robots")
	b.post("/settings/access/robots/make", good...)
	resp, body = b.get("/auth/oauth/callback?state=s&code=c")
	if resp.StatusCode != 403 || !strings.Contains(body, "An account has at most 100 robots.") || !strings.Contains(body, `value="ci job"`) {
		t.Error(resp.StatusCode, body)
	}
	if got := f.endedGrants(); !slices.Equal(got, []string{"a oauth-robot"}) {
		t.Errorf("ended: %q", got)
	}
}

var idInForm = regexp.MustCompile(`name="id" value="([^"]*)"`)

func TestAccessList(t *testing.T) {
	f := newFixture(t, nil)
	b, other := f.person(), f.person()
	other.signIn()
	f.grant = "oauth-2"
	b.signIn()
	now := f.now
	f.devices[alice] = []Token{{ID: "d1", Name: evil, Address: "192.0.2.9", Created: now, Used: now.Add(time.Hour), Ends: now.Add(99 * time.Hour)}}
	f.devices[bob] = []Token{{ID: "d2", Name: "bob's laptop"}}
	f.robots[alice] = []Token{
		{ID: "r1", Name: "fresh", Repositories: []string{"app-*"}, Actions: []string{"pull"}, Created: now, Used: now, Ends: now.Add(80 * 24 * time.Hour)},
		{ID: "r2", Name: "soon over", Created: now, Ends: now.Add(13 * 24 * time.Hour), OldUntil: now.Add(time.Hour)},
		{ID: "r3", Name: "over", Created: now, Ends: now.Add(-time.Hour)},
	}
	resp, body := b.get("/settings/access?done=device")
	if resp.StatusCode != 200 || strings.Contains(body, "<script") || strings.Contains(body, "bob") {
		t.Error(resp.StatusCode, body)
	}
	for _, want := range []string{"That device is signed out", "&lt;script&gt;", "192.0.2.9", "app-*", "never", "ends soon", ">ended<",
		"Secret of before", "Sign out all other browsers", "Remove"} {
		if !strings.Contains(body, want) {
			t.Errorf("%q is missing", want)
		}
	}
	if n := strings.Count(body, "ends soon"); n != 1 {
		t.Errorf("%d end soon", n)
	}
	if _, body := b.get("/settings/access?done=" + "%3Cb%3E"); strings.Contains(body, "role=\"status\"") {
		t.Error("a notice of the address's making")
	}

	if resp, _ := b.post("/settings/access/devices/end", "id", "d2"); resp.StatusCode != 404 || len(f.devices[bob]) != 1 {
		t.Error("another account's device:", resp.StatusCode)
	}
	for _, c := range []struct{ path, id, done string }{
		{"devices/end", "d1", "device"}, {"robots/end", "r3", "robot"},
	} {
		resp, body := b.post("/settings/access/"+c.path, "id", c.id)
		if resp.StatusCode != http.StatusSeeOther || where(resp) != "/settings/access?done="+c.done {
			t.Errorf("%s: %d %s\n%s", c.path, resp.StatusCode, where(resp), body)
		}
	}
	if len(f.devices[alice]) != 0 || len(f.robots[alice]) != 2 {
		t.Errorf("%v %v", f.devices, f.robots)
	}
	if resp, body := b.post("/settings/access/robots/renew", "id", "r1", "name", evil); resp.StatusCode != 200 ||
		!strings.Contains(body, "atcr_robot_another-secret") || !strings.Contains(body, "one more day") || strings.Contains(body, "<script") {
		t.Error(resp.StatusCode, body)
	}
	resp, _ = b.post("/settings/access/robots/renew", "id", "no grant", "name", "nightly")
	if resp.StatusCode != http.StatusSeeOther || where(resp) != "/login/go" {
		t.Error("its grant has ended:", resp.StatusCode, where(resp))
	}
	f.grant = "oauth-3"
	if resp, body := b.get("/auth/oauth/callback?state=s&code=c"); resp.StatusCode != 200 || !strings.Contains(body, "atcr_robot_by-another-grant") ||
		!strings.Contains(body, "nightly") || !slices.Equal(f.decided, []string{"renewed by oauth-3"}) {
		t.Error(resp.StatusCode, f.decided, body)
	}
	if resp, _ := b.post("/settings/access/robots/renew", "id", "none"); resp.StatusCode != 404 {
		t.Error(resp.StatusCode)
	}
}

func TestEndBrowsers(t *testing.T) {
	f := newFixture(t, nil)
	var all []*person
	for i := range 4 {
		f.grant = fmt.Sprint("oauth-", i)
		all = append(all, f.person())
		all[i].signIn()
		f.advance(time.Minute)
	}
	_, body := all[3].get("/settings/access")
	ids := idInForm.FindAllStringSubmatch(body, -1) // the last used first
	if len(ids) != 4 {
		t.Fatalf("%d browsers\n%s", len(ids), body)
	}
	if resp, _ := all[3].post("/settings/access/browsers/end", "id", ids[1][1]); resp.StatusCode != http.StatusSeeOther || all[2].signedIn() || !all[1].signedIn() {
		t.Error(resp.StatusCode, "the wrong one, or none")
	}
	if got := f.endedGrants(); !slices.Equal(got, []string{"a oauth-2"}) {
		t.Errorf("ended %q", got)
	}
	if resp, _ := all[3].post("/settings/access/browsers/end", "id", ids[1][1]); resp.StatusCode != 404 {
		t.Error("again:", resp.StatusCode)
	}
	all[3].post("/settings/access/browsers/end", "all", "others")
	if all[0].signedIn() || all[1].signedIn() || !all[3].signedIn() {
		t.Error("all others")
	}
	if got := f.endedGrants(); !slices.Equal(got, []string{"a oauth-0", "a oauth-1"}) {
		t.Errorf("ended %q", got)
	}
	if resp, _ := all[3].post("/settings/access/browsers/end", "id", ids[0][1]); resp.StatusCode != http.StatusSeeOther || all[3].signedIn() ||
		where(resp) != "/login?done=signed-out" {
		t.Error("this one:", resp.StatusCode, where(resp))
	}
}

// What isn't there is not shown, and its forms are no pages.
func TestWithoutParts(t *testing.T) {
	f := newFixture(t, func(o *Options) { o.Devices, o.Robots, o.Logins = nil, nil, nil })
	b := f.person()
	b.signIn()
	_, body := b.get("/settings/access")
	for _, heading := range []string{"Devices", "Robots", "Docker"} {
		if strings.Contains(body, "<h2>"+heading) {
			t.Errorf("%s are shown", heading)
		}
	}
	if resp, _ := b.get("/device"); resp.StatusCode != 404 {
		t.Error(resp.StatusCode)
	}
	for _, path := range []string{"/device", "/settings/access/devices/end", "/settings/access/logins/end", "/settings/access/robots/make",
		"/settings/access/robots/renew", "/settings/access/robots/end"} {
		if resp, _ := b.post(path, "id", "x", "answer", "approve", "user_code", "x"); resp.StatusCode != 404 {
			t.Errorf("%s: %d", path, resp.StatusCode)
		}
	}
}
