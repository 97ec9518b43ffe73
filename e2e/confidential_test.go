package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/atcr-dev/atcr/internal/realtest"
	chromium "github.com/atcr-dev/atcr/internal/realtest/browser"
	"github.com/atcr-dev/atcr/sqldb/sqlite"
)

// An AppView by https is a confidential client: it proves itself by a key that its metadata shows. A device that signed in before that key
// was replaced pushes after it, its tokens renewed by the key that it began with.
func TestConfidential(t *testing.T) {
	t.Parallel()
	w := startWorld(t)
	const base = "https://registry.atcr-tests.net"
	keys := func() int {
		t.Helper()
		var m struct {
			ClientID string `json:"client_id"`
			Method   string `json:"token_endpoint_auth_method"`
			JWKS     struct {
				Keys []map[string]string `json:"keys"`
			} `json:"jwks"`
		}
		if err := json.Unmarshal(must(w.get(base+"/oauth-client-metadata.json", ""))(t), &m); err != nil {
			t.Fatal(err)
		}
		if m.ClientID != base+"/oauth-client-metadata.json" || m.Method != "private_key_jwt" {
			t.Errorf("metadata: %+v", m)
		}
		for _, k := range m.JWKS.Keys {
			if k["d"] != "" || k["kid"] == "" {
				t.Errorf("a key of the metadata: %v", k)
			}
		}
		return len(m.JWKS.Keys)
	}
	if n := keys(); n != 1 {
		t.Errorf("%d keys at the first start", n)
	}

	form := func(path string, fields url.Values, out any) error {
		resp, err := w.client.PostForm(base+path, fields)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return errors.New(resp.Status)
		}
		return json.NewDecoder(resp.Body).Decode(out)
	}
	var code struct {
		Device string `json:"device_code"`
		Page   string `json:"verification_uri_complete"`
	}
	if err := form("/auth/device/code", url.Values{"client_id": {"e2e"}, "device_name": {"server"}}, &code); err != nil {
		t.Fatal(err)
	}
	alice := w.net.Account("alice")
	page := chromium.New(t, chromium.Options{On: w.hosts.Host("client")}).Page(t)
	consent := func() {
		t.Helper()
		page.WaitURL("the account's server", func(u *url.URL) bool { return u.Host == "pds.test" })
		page.SignIn(alice)
		page.Consent()
	}
	page.Open(code.Page)
	page.Fill("#account", alice.Handle)
	page.Press("Go to my account's server")
	consent()
	page.WaitText("Is this your device?")
	page.Press("Approve this device")
	consent()
	page.WaitText("The device is signed in")
	var device struct {
		Secret string `json:"access_token"`
	}
	if err := form("/auth/device/token", url.Values{"client_id": {"e2e"}, "device_code": {code.Device},
		"grant_type": {"urn:ietf:params:oauth:grant-type:device_code"}}, &device); err != nil {
		t.Fatal(err)
	}
	crane := w.hosts.Host("client").Crane(t, realtest.Login{Registry: "registry.atcr-tests.net", User: alice.Handle, Password: device.Secret})
	img := realtest.Image(t, realtest.ImageOptions{Layers: 1, Seed: 1440})
	must(crane.Push(img, "registry.atcr-tests.net/alice.test/app:v1"))(t)

	rotate := realtest.Start(t, realtest.Command{
		Path: realtest.Build(t, programs, "./cmd/atcr-appview"), Args: []string{"keys", "rotate-oauth", "--config", w.appView}})
	<-rotate.Done()
	if err := rotate.Stop(); err != nil {
		t.Fatalf("%v\n%s", err, rotate.Log())
	}
	if err := realtest.WaitFor(startLimit, func() error {
		if n := keys(); n != 2 {
			return fmt.Errorf("%d keys after the rotation", n)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}

	// The device's access token comes to its end.
	db := must(sqlite.Open(t.Context(), w.database))(t)
	defer db.Close()
	_, err := db.Write().ExecContext(t.Context(), "update oauth_grant set expires_at = $1", time.Now().Add(-time.Minute).Unix())
	if err != nil {
		t.Fatal(err)
	}
	must(crane.Push(img, "registry.atcr-tests.net/alice.test/app:v2"))(t)
	var renewed int
	var ended string
	if err := db.Read().QueryRowContext(t.Context(), "select count(*), coalesce(max(ended), '') from oauth_grant where expires_at > $1",
		time.Now().Unix()).Scan(&renewed, &ended); err != nil || renewed == 0 || ended != "" {
		t.Errorf("%d grants were renewed, ended: %q, %v", renewed, ended, err)
	}
	if names := must(crane.Run("ls", "registry.atcr-tests.net/alice.test/app"))(t); strings.Join(strings.Fields(names), " ") != "v1 v2" {
		t.Errorf("tags: %s", names)
	}
}
