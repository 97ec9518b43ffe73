package e2e

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"github.com/atcr-dev/atcr/identity"
	"github.com/atcr-dev/atcr/internal/realtest"
	"github.com/atcr-dev/atcr/internal/realtest/upstreamhold"
)

// servicesOptions says what stands between the clients and the reference PDS.
type servicesOptions struct {
	Network realtest.NetworkOptions
	Captain string // account; empty: the one who pushes
	Private bool
	Crew    map[string][]string // account -> permissions
	// PLC makes the hold a did:plc, at a localhost name: what a relay takes.
	PLC bool
	// Hold, if not nil, changes the hold's configuration.
	Hold func(map[string]any)
	// AppView does the same for the AppView's.
	AppView func(map[string]any)
	// Log, if not nil, gets each line that a program writes.
	Log   func(program, line string)
	Tiers []string // of the hold, which then trusts the AppView to set them
	// Upstream, if not nil, is started in place of our hold, with alice as its owner.
	Upstream *upstreamhold.Options
}

// services are AppView and hold as they ship, with a network of the reference
// PDS. The stack pushes as the account alice, with an app password.
type services struct {
	*stack
	net *realtest.Net
	dir string
	o   servicesOptions

	holdPort, appPort int
	holdPath, appPath string
	hold, app         *realtest.Process
	upstream          *upstreamhold.Hold
}

func startServices(t *testing.T, o servicesOptions) *services {
	t.Helper()
	s := &services{o: o, dir: t.TempDir(), net: realtest.Network(t, o.Network), holdPort: realtest.FreePort(t), appPort: realtest.FreePort(t)}
	alice := s.net.Account("alice")
	registry := fmt.Sprintf("127.0.0.1:%d", s.appPort)
	s.stack = &stack{
		Registry: registry, Login: realtest.Login{Registry: registry, User: alice.Handle, Password: s.net.AppPassword(t, "alice")},
		Namespace: alice.Handle, DID: alice.DID, PDS: alice.PDS,
	}
	s.appPath = realtest.Build(t, programs, "./cmd/atcr-appview")
	if o.Upstream != nil {
		u := *o.Upstream
		u.Owner = alice.DID
		u.Directory = identity.NewResolver(identity.ResolverOptions{PLCURL: s.net.PLC, HandleResolverURL: s.net.PDS[0], TestMode: true})
		s.upstream = upstreamhold.Start(t, u)
		s.Hold, s.HoldDID = s.upstream.URL, s.upstream.DID
	} else {
		s.holdPath = realtest.Build(t, programs, "./cmd/atcr-hold")
		s.Hold = fmt.Sprintf("http://127.0.0.1:%d", s.holdPort)
		if o.PLC {
			s.Hold = fmt.Sprintf("http://localhost:%d", s.holdPort)
		}
		s.startHold(t)
		var doc struct{ ID string }
		if err := getJSON(s.Hold+"/.well-known/did.json", &doc); err != nil {
			t.Fatal(err)
		}
		s.HoldDID = doc.ID
	}
	s.startAppView(t)
	return s
}

// login is one of the network's accounts at the registry, with an app password.
func (s *services) login(t *testing.T, name string) realtest.Login {
	t.Helper()
	return realtest.Login{Registry: s.Registry, User: s.net.Account(name).Handle, Password: s.net.AppPassword(t, name)}
}

// startHold writes the configuration and starts the hold; it is the same hold
// each time.
func (s *services) startHold(t *testing.T) {
	t.Helper()
	captain := s.o.Captain
	if captain == "" {
		captain = "alice"
	}
	crew := []map[string]any{}
	for name, permissions := range s.o.Crew {
		crew = append(crew, map[string]any{"member": s.net.Account(name).DID, "permissions": permissions})
	}
	appview, tiers := "", []map[string]string{}
	for _, name := range s.o.Tiers {
		appview = fmt.Sprintf("did:web:127.0.0.1:%d", s.appPort)
		tiers = append(tiers, map[string]string{"name": name})
	}
	method := "web"
	if s.o.PLC {
		method = "plc"
	}
	config := map[string]any{
		"quota": map[string]any{"tiers": tiers},
		"server": map[string]any{
			"addr": fmt.Sprintf("127.0.0.1:%d", s.holdPort), "public_url": s.Hold, "public": !s.o.Private,
			"test_mode": true, "handle_resolver_url": s.net.PDS[0], "appview_did": appview,
		},
		"registration": map[string]any{"owner_did": s.net.Account(captain).DID, "allow_all_crew": false, "crew": crew},
		"storage":      map[string]any{"driver": "file", "path": filepath.Join(s.dir, "hold", "blobs")},
		"database":     map[string]any{"path": filepath.Join(s.dir, "hold")},
		"identity":     map[string]any{"plc_directory_url": s.net.PLC, "did_method": method},
	}
	if s.o.Hold != nil {
		s.o.Hold(config)
	}
	s.hold = s.start(t, s.holdPath, "hold.yaml", config)
	s.waitFor(t, s.hold, s.Hold+"/xrpc/_health")
}

// startAppView does the same for the AppView. Its default hold is written as the
// documentation writes it, did:web:127.0.0.1:PORT.
func (s *services) startAppView(t *testing.T) {
	t.Helper()
	hold := s.HoldDID
	if s.upstream == nil && !s.o.PLC {
		hold = fmt.Sprintf("did:web:127.0.0.1:%d", s.holdPort)
	}
	config := map[string]any{
		"server": map[string]any{
			"addr": s.Registry, "base_url": "http://" + s.Registry, "default_hold_did": hold, "test_mode": true,
			"plc_directory_url": s.net.PLC, "handle_resolver_url": s.net.PDS[0],
		},
		"ui":   map[string]any{"database_path": filepath.Join(s.dir, "appview", "appview.db")},
		"auth": map[string]any{"key_path": filepath.Join(s.dir, "appview", "key.pem"), "cert_path": filepath.Join(s.dir, "appview", "cert.pem")},
	}
	if s.o.AppView != nil {
		s.o.AppView(config)
	}
	s.app = s.start(t, s.appPath, "appview.yaml", config)
	s.waitFor(t, s.app, "http://"+s.Registry+"/health")
}

func (s *services) start(t *testing.T, path, name string, config map[string]any) *realtest.Process {
	t.Helper()
	text, err := yaml.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(s.dir, name)
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	c := realtest.Command{Name: filepath.Base(path), Path: path, Args: []string{"serve", "--config", file}, Dir: s.dir}
	if s.o.Log != nil {
		c.Each = func(line string) { s.o.Log(c.Name, line) }
	}
	return realtest.Start(t, c)
}

func (s *services) waitFor(t *testing.T, p *realtest.Process, url string) {
	t.Helper()
	if err := p.WaitListening(strings.Split(strings.TrimPrefix(url, "http://"), "/")[0], startLimit); err != nil {
		t.Fatal(err)
	}
	err := realtest.WaitFor(startLimit, func() error {
		resp, err := http.Get(url)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("%s: %s", url, resp.Status)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestServices(t *testing.T) {
	t.Parallel()
	scripts(t, startServices(t, servicesOptions{}).stack)
}
