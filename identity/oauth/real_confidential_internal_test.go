package oauth

import (
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/atcr-dev/atcr/identity"
	"github.com/atcr-dev/atcr/internal/realtest"
)

// TestConfidential: an application with a name and TLS, whose metadata the reference PDS fetches, and whose assertions it checks by the
// keys in it. The name is neither below .test nor example.com:
// servers refuse names that can't be on the network. It exists on these hosts alone.
func TestConfidential(t *testing.T) {
	const name = "registry.atcr-tests.net"
	hosts := realtest.NewHosts(t, "home", "registry", "client")
	home, registry, client := hosts.Host("home"), hosts.Host("registry"), hosts.Host("client")
	hosts.DNS(t, map[string]string{"plc.test": home.IP, "pds.test": home.IP, "alice.test": home.IP, name: registry.IP}, nil)
	home.TLS(t, map[string]int{"pds.test": realtest.PDSPort, "alice.test": realtest.PDSPort, "plc.test": realtest.PLCPort})
	registry.TLS(t, map[string]int{name: 5000})
	network := realtest.Network(t, realtest.NetworkOptions{Accounts: []string{"alice"}, On: home, Hostname: "pds.test", PLCName: "plc.test"})

	at := client.Client(t)
	directory := identity.NewResolver(identity.ResolverOptions{HTTP: at, DNS: client.Resolver(), PLCURL: network.PLC})
	clock := newTestClock()
	c, err := testClient(t, func(c *Config) {
		c.Clock = clock.Now
		c.Directory, c.HTTP, c.URL, c.Name = directory, registry.Client(t), "https://"+name, "A Registry"
		c.PolicyURL, c.TermsURL, c.LogoURL = "https://"+name+"/privacy", "https://"+name+"/terms", "https://"+name+"/logo.png"
	})
	if err != nil {
		t.Fatal(err)
	}
	var handler http.Handler = c.Handler()
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != c.config.MetadataPath {
			t.Errorf("%s was asked for", r.URL.Path)
		}
		handler.ServeHTTP(w, r)
	})}
	go server.Serve(registry.Listen(t, "127.0.0.1:5000")) //nolint:errcheck // it ends with the listener
	t.Cleanup(func() { server.Close() })

	signIn := func() *Finished {
		t.Helper()
		started, err := c.Begin(t.Context(), Begin{Account: "alice.test"})
		if err != nil {
			t.Fatal(err)
		}
		back := newPersonBy(t, network.Account("alice"), at.Transport).allows(started.URL)
		finished, err := c.Finish(t.Context(), back, started.Browser)
		if err != nil {
			t.Fatal(err)
		}
		return finished
	}
	keyOfGrant := func(f *Finished) (key string) {
		t.Helper()
		if err := c.config.DB.Read().QueryRowContext(t.Context(), "select key_id from oauth_grant where id = $1", f.Grant.ID).Scan(&key); err != nil {
			t.Fatal(err)
		}
		return key
	}
	first := c.agent.keys.all()[0].id
	old := signIn()
	if keyOfGrant(old) != first || len(old.Grant.Missing) > 0 {
		t.Errorf("%+v, key %q, want %q", old.Grant, keyOfGrant(old), first)
	}

	// After a rotation the server still has the metadata of before, for ten minutes: nobody is turned away meanwhile.
	fresh, err := RotateKey(c.config.KeyPath)
	if err != nil {
		t.Fatal(err)
	}
	if c, err = New(t.Context(), c.config); err != nil {
		t.Fatal(err)
	}
	handler = c.Handler()
	if f := signIn(); keyOfGrant(f) != first {
		t.Errorf("key is %q: has the server fetched the metadata again? %q was expected", keyOfGrant(f), first)
	}
	network.StopPDS(t, 0)
	network.StartPDS(t, 0)
	if f := signIn(); keyOfGrant(f) != fresh {
		t.Errorf("key is %q, want %q", keyOfGrant(f), fresh)
	}

	// The grant of before goes on with the key that it began with, and ends with it.
	renewed := func() error {
		t.Helper()
		clock.add(59 * time.Minute)
		req, err := http.NewRequest(http.MethodGet, "/xrpc/com.atproto.server.getSession", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := c.Do(t.Context(), old.Grant.ID, req)
		if err != nil {
			return err
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Errorf("status %d", resp.StatusCode)
		}
		return nil
	}
	for n := range int64(2) {
		var generation int64
		if err := renewed(); err != nil {
			t.Fatal(err)
		}
		err := c.config.DB.Read().QueryRowContext(t.Context(), "select generation from oauth_grant where id = $1", old.Grant.ID).Scan(&generation)
		if err != nil || generation != n+1 {
			t.Errorf("the grant was renewed %d times, want %d, %v", generation, n+1, err)
		}
	}
	if err := os.Remove(c.config.KeyPath); err != nil {
		t.Fatal(err)
	}
	if c, err = New(t.Context(), c.config); err != nil {
		t.Fatal(err)
	}
	clock.add(2 * time.Minute) // its token has ended, too
	kindIs(t, renewed(), ErrEnded, "key")
}
