package appview_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/atcr-dev/atcr/internal/realtest"
	"github.com/atcr-dev/atcr/internal/realtest/browser"
	"github.com/atcr-dev/atcr/registry/appview"
)

// TestSignInPages has a person sign in at the reference PDS, approve a device, make a robot, and sign out: with a browser, and where the
// pages are ours without scripts.
func TestSignInPages(t *testing.T) {
	t.Parallel()
	n := realtest.Network(t, realtest.NetworkOptions{})
	alice := n.Account("alice")
	config := appview.Config{
		Dir: t.TempDir(), Addr: fmt.Sprintf("127.0.0.1:%d", realtest.FreePort(t)), DefaultHold: "did:web:hold.example.com", TestMode: true, PLCURL: n.PLC,
		HandleResolverURL: n.PDS[0], Log: slog.New(slog.DiscardHandler),
	}
	app, err := appview.New(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	base := "http://" + config.Addr
	ctx, end := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- app.Run(ctx) }()
	t.Cleanup(func() {
		end()
		if err := errors.Join(<-ran, app.Close()); err != nil {
			t.Error(err)
		}
	})
	p := browser.New(t, browser.Options{}).Page(t)
	ours := func(what, path string) {
		p.WaitURL(what, func(u *url.URL) bool { return "http://"+u.Host == base && u.Path == path })
	}
	form := func(path string, fields url.Values) (status int, answer map[string]any) {
		t.Helper()
		resp, err := http.PostForm(base+path, fields)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
			t.Fatal(path, resp.Status, err)
		}
		return resp.StatusCode, answer
	}
	token := func(secret string) int {
		status, _ := form("/auth/token", url.Values{"grant_type": {"refresh_token"}, "refresh_token": {secret}, "service": {"x"}, "client_id": {"x"}})
		return status
	}
	// atPDS goes on to the account's server by the page between, as it is without scripts, and back.
	atPDS := func() {
		t.Helper()
		p.SignIn(alice)
		p.Consent()
	}

	_, waits := form("/auth/device/code", url.Values{"client_id": {"test"}, "device_name": {"alice's laptop"}})
	p.Open(strings.Replace(waits["verification_uri_complete"].(string), "127.0.0.1", "localhost", 1))
	ours("the form to sign in", "/login")
	p.Fill("#account", alice.Handle)
	p.Press("Go to my account's server")
	atPDS()
	ours("the device", "/device")
	p.Complaints() // the PDS's own
	p.Check("signin-device")
	p.WaitText(waits["user_code"].(string))
	p.WaitText("asks you once more")
	if got := p.Apps(alice); got != 1 {
		t.Errorf("the PDS lists %d sign-ins, want the browser's", got)
	}
	p.Open(waits["verification_uri_complete"].(string))
	p.Press("Approve this device")
	atPDS()
	ours("the end of it", "/auth/oauth/callback")
	p.WaitText("The device is signed in")
	p.Shoot("signin-approved")
	status, device := form("/auth/device/token", url.Values{
		"client_id": {"test"}, "device_code": {waits["device_code"].(string)}, "grant_type": {"urn:ietf:params:oauth:grant-type:device_code"},
	})
	secret, _ := device["access_token"].(string)
	if status != 200 || device["did"] != alice.DID || token(secret) != 200 {
		t.Fatal(status, device)
	}

	p.Open(base + "/settings/access")
	p.Fill("#name", "nightly")
	p.Fill("#repositories", "app-*")
	p.Press("Make it")
	atPDS()
	p.WaitText("This is shown once.")
	robot := strings.TrimSpace(p.Text()[strings.Index(p.Text(), "atcr_robot_"):])
	robot, _, _ = strings.Cut(robot, "\n")
	if got := token(robot); got != 200 {
		t.Errorf("the robot's secret: %d", got)
	}
	if got := p.Apps(alice); got != 3 {
		t.Errorf("the PDS lists %d sign-ins, want browser, device and robot", got)
	}

	// Signing out ends the browser's alone.
	p.Open(base + "/settings/access")
	p.Check("signin-access")
	p.Press("Sign out")
	ours("the form to sign in", "/login")
	p.WaitText("You are signed out.")
	if got := p.Apps(alice); got != 2 {
		t.Errorf("after signing out the PDS lists %d sign-ins, want device and robot", got)
	}
	if got := token(secret); got != 200 {
		t.Errorf("the device after the browser signed out: %d", got)
	}
	p.Open(base + "/settings/access")
	if strings.Contains(p.Text(), "nightly") {
		t.Error("signed out, and the list is shown")
	}

	// Ended on the page, ended at the PDS.
	p.Fill("#account", alice.Handle)
	p.Press("Go to my account's server")
	atPDS()
	ours("the list", "/settings/access")
	p.Click("form[action='/settings/access/devices/end'] button")
	p.WaitText("That device is signed out.")
	if got := token(secret); got != 401 {
		t.Errorf("the device was ended: %d", got)
	}
	if got := p.Apps(alice); got != 2 {
		t.Errorf("after its end the PDS lists %d sign-ins, want browser and robot", got)
	}

	// Who says no there is told so here.
	p.Open(base + "/login")
	p.Fill("#account", alice.Handle)
	p.Press("Go to my account's server")
	p.SignIn(alice)
	p.Deny()
	ours("the refusal", "/auth/oauth/callback")
	p.WaitText("That did not work")
	p.Complaints()
	p.Check("signin-denied")
}
