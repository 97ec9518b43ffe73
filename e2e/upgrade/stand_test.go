package upgrade

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/opencontainers/go-digest"

	"github.com/atcr-dev/atcr/hold"
	"github.com/atcr-dev/atcr/hold/holdclient"
	"github.com/atcr-dev/atcr/identity"
	"github.com/atcr-dev/atcr/internal/devnet"
	"github.com/atcr-dev/atcr/registry/appview"
	"github.com/atcr-dev/atcr/registry/pds"
)

// The services' public addresses stand in identities and records, so they can't change with the ports that are free today.
// Every client of the stand is routed from them to where the services listen.
const appHost = "localhost:18080"

// facts are what an archive holds, as its maker saw it.
type facts struct {
	Made  time.Time
	Users []*user
}

// user is one account with a hold of its own.
type user struct {
	Handle, DID, Password string
	Hold                  holdFacts

	Pushed  string // digest of app:v1, which the hold was told of
	Half    string // digest of half:v1, which is at the PDS and the hold was not told of
	Never   string // digest of never:v1, which has an intent alone; may be empty
	Leased  string // digest of a blob in app that no manifest names
	Resume  string // path and query of an upload in app at the AppView
	Resumed int64  // bytes that were acknowledged of it
}

type holdFacts struct {
	Name, Host, DID, Head, Rev string
	Upload                     string // an upload at the hold itself: parts 1 and 3 of three were acknowledged
}

func (h holdFacts) url() string { return "http://" + h.Host }

// Sizes of the blobs of uploads that are open.
const (
	resumedSize = 9000
	partSize    = 2000
)

// content are n bytes that a name stands for.
func content(name string, n int64) []byte {
	sum := int64(0)
	for _, c := range name {
		sum = sum*31 + int64(c)
	}
	b := make([]byte, n)
	rand.New(rand.NewSource(sum)).Read(b)
	return b
}

// stand is a network with its holds and AppView in one process.
type stand struct {
	t     *testing.T
	dir   string
	clock func() time.Time
	facts facts

	directory *devnet.Directory
	pds       *devnet.PDS
	plcURL    string
	pdsURL    string
	silent    atomic.Bool // the PDS doesn't answer
	signedIn  atomic.Int64

	routes map[string]string // host:port to where it listens
	client *http.Client
	app    *appview.Server
	holds  map[string]*hold.Server
}

// newStand starts directory and PDS on dir/network.
func newStand(t *testing.T, dir string, f facts, clock func() time.Time) *stand {
	t.Helper()
	s := &stand{t: t, dir: dir, facts: f, clock: clock, routes: map[string]string{}, holds: map[string]*hold.Server{}}
	s.client = &http.Client{
		Transport: &http.Transport{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			if to := s.routes[addr]; to != "" {
				addr = to
			}
			return (&net.Dialer{}).DialContext(ctx, network, addr)
		}},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	t.Cleanup(s.client.CloseIdleConnections)
	var err error
	if s.directory, err = devnet.OpenDirectory(t.Context(), filepath.Join(dir, "network", "plc.jsonl"), clock); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.directory.Close() })
	s.plcURL = s.serve(s.directory)
	s.pdsURL = s.serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.silent.Load() {
			panic(http.ErrAbortHandler)
		}
		if filepath.Base(r.URL.Path) == "com.atproto.server.createSession" {
			s.signedIn.Add(1)
		}
		s.pds.ServeHTTP(w, r)
	}))
	var accounts []devnet.NewAccount
	for _, u := range f.Users {
		accounts = append(accounts, devnet.NewAccount{Handle: u.Handle, Password: u.Password})
	}
	s.pds, err = devnet.OpenPDS(t.Context(), s.directory, devnet.PDSConfig{
		Dir: filepath.Join(dir, "network", "pds"), PublicURL: s.pdsURL, Accounts: accounts, Clock: clock,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.pds.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// serve returns the address of a handler.
func (s *stand) serve(h http.Handler) string {
	server := httptest.NewServer(h)
	s.t.Cleanup(server.Close)
	_, port, _ := net.SplitHostPort(server.Listener.Addr().String())
	return "http://localhost:" + port
}

func (s *stand) mount(host string, h http.Handler) {
	server := httptest.NewServer(h)
	s.t.Cleanup(server.Close)
	s.routes[host] = server.Listener.Addr().String()
}

func (s *stand) log() *slog.Logger {
	return slog.New(slog.NewTextHandler(s.t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
}

func (s *stand) resolver() *identity.Resolver {
	return identity.NewResolver(identity.ResolverOptions{
		HTTP: s.client, PLCURL: s.plcURL, HandleResolverURL: s.pdsURL, TestMode: true, Log: s.log(), Clock: s.clock,
	})
}

// holdConfig is the configuration of a user's hold, on the files of dir/hold-NAME.
func (s *stand) holdConfig(u *user) hold.Config {
	c := hold.Config{
		Dir: filepath.Join(s.dir, "hold-"+u.Hold.Name), PublicURL: u.Hold.url(), OwnerDID: u.DID,
		Public: true, AllowAllCrew: true, TestMode: true,
		PLCURL: s.plcURL, HandleResolverURL: s.pdsURL, Directory: s.resolver(), HTTP: s.client, NoRedirect: true, Clock: s.clock, Log: s.log(),
	}
	if u.Hold.Name == "plc" {
		c.Identity.Method = "plc"
	}
	return c
}

func (s *stand) openHold(u *user, c hold.Config) *hold.Server {
	s.t.Helper()
	h, err := hold.New(s.t.Context(), c)
	if err != nil {
		s.t.Fatalf("hold %s: %v", u.Hold.Name, err)
	}
	s.holds[u.Hold.Name] = h
	s.mount(u.Hold.Host, h.Handler())
	return h
}

// appConfig is the configuration of the AppView, on the files of dir/appview.
func (s *stand) appConfig() appview.Config {
	return appview.Config{
		Dir: filepath.Join(s.dir, "appview"), BaseURL: "http://" + appHost, DefaultHold: s.facts.Users[0].Hold.DID, Redirect: pds.RedirectNever,
		TestMode: true, PLCURL: s.plcURL, HandleResolverURL: s.pdsURL, Directory: s.resolver(), HTTP: s.client, Clock: s.clock, Log: s.log(),
	}
}

func (s *stand) openApp(ctx context.Context, c appview.Config) {
	s.t.Helper()
	var err error
	if s.app, err = appview.New(ctx, c); err != nil {
		s.t.Fatal(err)
	}
	s.mount(appHost, s.app.Handler())
}

func (s *stand) ref(u *user, rest string) name.Reference {
	s.t.Helper()
	r, err := name.ParseReference(appHost+"/"+u.Handle+"/"+rest, name.Insecure)
	if err != nil {
		s.t.Fatal(err)
	}
	return r
}

// call sends a request and reads the answer, up to 1 MiB. out may be nil.
func (s *stand) call(req *http.Request, out any) (*http.Response, error) {
	resp, err := s.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return nil, err
	}
	if resp.StatusCode >= 300 {
		return resp, fmt.Errorf("%s %s: %s: %.300s", req.Method, req.URL, resp.Status, body)
	}
	if out != nil {
		err = json.Unmarshal(body, out)
	}
	return resp, err
}

func (s *stand) request(method, url string, body []byte) *http.Request {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), method, url, bytes.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	return req
}

// access is an access token of a user's PDS.
func (s *stand) access(u *user) string {
	s.t.Helper()
	in, err := json.Marshal(map[string]string{"identifier": u.Handle, "password": u.Password})
	if err != nil {
		s.t.Fatal(err)
	}
	req := s.request(http.MethodPost, s.pdsURL+"/xrpc/com.atproto.server.createSession", in)
	req.Header.Set("Content-Type", "application/json")
	var out struct{ AccessJwt string }
	if _, err := s.call(req, &out); err != nil {
		s.t.Fatal(err)
	}
	return out.AccessJwt
}

// holdClient acts for a user at the user's hold.
func (s *stand) holdClient(u *user) *holdclient.Client {
	access := s.access(u)
	c := holdclient.New(holdclient.Options{DID: u.Hold.DID, URL: u.Hold.url(), HasHoldService: true, HTTP: s.client, Clock: s.clock})
	return c.As(func(_ context.Context, aud, lxm string) (string, error) {
		req := s.request(http.MethodGet, s.pdsURL+"/xrpc/com.atproto.server.getServiceAuth?"+url.Values{"aud": {aud}, "lxm": {lxm}}.Encode(), nil)
		req.Header.Set("Authorization", "Bearer "+access)
		var out struct{ Token string }
		_, err := s.call(req, &out)
		return out.Token, err
	})
}

// registry sends a request to the AppView as a user.
func (s *stand) registry(u *user, method, path string, body []byte) (*http.Response, error) {
	s.t.Helper()
	scope := "repository:" + u.Handle + "/app:pull,push"
	req := s.request(http.MethodGet, "http://"+appHost+"/auth/token?"+url.Values{"service": {appHost}, "scope": {scope}}.Encode(), nil)
	req.SetBasicAuth(u.Handle, u.Password)
	var out struct{ Token string }
	if _, err := s.call(req, &out); err != nil {
		return nil, err
	}
	req = s.request(method, "http://"+appHost+path, body)
	req.Header.Set("Authorization", "Bearer "+out.Token)
	req.Header.Set("Content-Type", "application/octet-stream")
	return s.call(req, nil)
}

// head is the commit of a hold's repository.
func (s *stand) head(u *user) (cid, rev string) {
	s.t.Helper()
	var out struct{ CID, Rev string }
	req := s.request(http.MethodGet, u.Hold.url()+"/xrpc/com.atproto.sync.getLatestCommit?did="+url.QueryEscape(u.Hold.DID), nil)
	if _, err := s.call(req, &out); err != nil {
		s.t.Fatal(err)
	}
	return out.CID, out.Rev
}

func digestOf(b []byte) digest.Digest { return digest.FromBytes(b) }
