package appview_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/atcr-dev/atcr/internal/realtest"
	"github.com/atcr-dev/atcr/registry/appview"
)

// TestPages signs in to the pages by an app password of the reference PDS, and ends there what docker keeps.
func TestPages(t *testing.T) {
	t.Parallel()
	n := realtest.Network(t, realtest.NetworkOptions{})
	alice, password := n.Account("alice"), n.AppPassword(t, "alice")
	app, err := appview.New(t.Context(), appview.Config{
		Dir: t.TempDir(), DefaultHold: "did:web:hold.example.com", TestMode: true, PLCURL: n.PLC, HandleResolverURL: n.PDS[0],
		Company: "Example Ltd.",
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { app.Close() })
	server := httptest.NewServer(app.Handler())
	t.Cleanup(server.Close)
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Jar: jar}
	do := func(resp *http.Response, err error) (int, string, string) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, resp.Request.URL.Path, string(b)
	}
	token := func(user, secret string) (status int, refresh string) {
		t.Helper()
		r, err := http.NewRequest(http.MethodGet, server.URL+"/auth/token?offline_token=true", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.SetBasicAuth(user, secret)
		status, _, body := do(http.DefaultClient.Do(r))
		var out struct {
			Refresh string `json:"refresh_token"`
		}
		if status == http.StatusOK {
			if err := json.Unmarshal([]byte(body), &out); err != nil {
				t.Fatal(err)
			}
		}
		return status, out.Refresh
	}

	if status, path, _ := do(client.Get(server.URL + "/settings/access")); status != 200 || path != "/login" {
		t.Error(status, path)
	}
	form := url.Values{"account": {alice.Handle}, "password": {"wrong"}, "next": {"/settings/access"}}
	if status, path, body := do(client.PostForm(server.URL+"/login", form)); status != 401 || path != "/login" || !strings.Contains(body, "Sign-in failed") {
		t.Error(status, path, body)
	}
	form.Set("password", password)
	status, path, body := do(client.PostForm(server.URL+"/login", form))
	if status != 200 || path != "/settings/access" || !strings.Contains(body, alice.Handle) || !strings.Contains(body, "No docker client keeps a sign-in.") {
		t.Fatal(status, path, body)
	}

	status, refresh := token(alice.Handle, password)
	if status != 200 || refresh == "" {
		t.Fatal(status, "no refresh token")
	}
	_, _, body = do(client.Get(server.URL + "/settings/access"))
	end := regexp.MustCompile(`/settings/access/logins/end"><input type="hidden" name="id" value="([^"]+)"`).FindStringSubmatch(body)
	if end == nil {
		t.Fatal(body)
	}
	if status, _, body := do(client.PostForm(server.URL+"/settings/access/logins/end", url.Values{"id": {end[1]}})); status != 200 || !strings.Contains(body, "That sign-in has ended") {
		t.Error(status, body)
	}
	if status, _ := token("", refresh); status != 401 {
		t.Error("docker's sign-in was ended, and is taken:", status)
	}

	// A device waits, is approved on the page, and ended there.
	var waits struct {
		Device string `json:"device_code"`
		User   string `json:"user_code"`
		Page   string `json:"verification_uri_complete"`
	}
	_, _, body = do(http.PostForm(server.URL+"/auth/device/code", url.Values{"client_id": {"test"}, "device_name": {"alice's laptop"}}))
	if err := json.Unmarshal([]byte(body), &waits); err != nil || waits.User == "" {
		t.Fatal(err, body)
	}
	if status, _, body := do(client.Get(waits.Page)); status != 200 || !strings.Contains(body, waits.User) || !strings.Contains(body, "alice&#39;s laptop") {
		t.Error(status, waits.Page, body)
	}
	approve := url.Values{"user_code": {waits.User}, "answer": {"approve"}}
	if status, _, body := do(client.PostForm(server.URL+"/device", approve)); status != 200 || !strings.Contains(body, "The device is signed in") {
		t.Error(status, body)
	}
	var device struct {
		Secret string `json:"access_token"`
		DID    string
	}
	_, _, body = do(http.PostForm(server.URL+"/auth/device/token", url.Values{
		"client_id": {"test"}, "device_code": {waits.Device}, "grant_type": {"urn:ietf:params:oauth:grant-type:device_code"},
	}))
	if err := json.Unmarshal([]byte(body), &device); err != nil || device.DID != alice.DID {
		t.Fatal(err, body)
	}
	if status, _ := token("", device.Secret); status != 200 {
		t.Error("the device's secret is refused:", status)
	}
	_, _, body = do(client.Get(server.URL + "/settings/access"))
	end = regexp.MustCompile(`/settings/access/devices/end"><input type="hidden" name="id" value="([^"]+)"`).FindStringSubmatch(body)
	if end == nil || !strings.Contains(body, "alice&#39;s laptop") {
		t.Fatal(body)
	}
	if status, _, _ := do(client.PostForm(server.URL+"/settings/access/devices/end", url.Values{"id": {end[1]}})); status != 200 {
		t.Error(status)
	}
	if status, _ := token("", device.Secret); status != 401 {
		t.Error("the device was ended, and is taken:", status)
	}

	if status, path, _ := do(client.PostForm(server.URL+"/logout", nil)); status != 200 || path != "/login" {
		t.Error(status, path)
	}
	if _, path, _ := do(client.Get(server.URL + "/settings/access")); path != "/login" {
		t.Error("signed out, and still in")
	}
	if status, _ := token(alice.Handle, password); status != 200 {
		t.Error("signing out of the pages took docker's sign-in away:", status)
	}
	for path, want := range map[string]string{"/v2/": "{}", "/health": "ok", "/terms": "Example Ltd.", "/auth/nothing": "404", "/x": "There is no such page"} {
		if _, _, body := do(client.Get(server.URL + path)); !strings.Contains(body, want) {
			t.Errorf("%s: %s", path, body)
		}
	}
}
