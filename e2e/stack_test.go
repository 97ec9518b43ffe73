package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/atcr-dev/atcr/internal/realtest"
)

const startLimit = 2 * time.Minute

// A stack is one registry to be pushed to, and where its parts can be asked.
type stack struct {
	Registry string // host:port
	realtest.Login
	Namespace string // what repository names begin with

	// Empty where nothing of the AT Protocol stands behind the registry.
	DID     string // of who pushes
	PDS     string // URL
	Hold    string // URL
	HoldDID string
}

// atproto reports whether records and holds stand behind the registry.
func (s *stack) atproto() bool { return s.DID != "" }

// ref is a reference below the stack's namespace; suffix is ":tag" or "@digest".
func (s *stack) ref(repository, suffix string) string {
	return s.Registry + "/" + s.name(repository) + suffix
}

func (s *stack) name(repository string) string { return s.Namespace + "/" + repository }

// anonymous is nobody in particular at the same registry.
func (s *stack) anonymous() realtest.Login { return realtest.Login{Registry: s.Registry} }

// embedRegistry is examples/embed-registry: no sign-in, nothing of the network.
func embedRegistry(t *testing.T) *stack {
	t.Helper()
	p := realtest.Start(t, realtest.Command{
		Path: realtest.Build(t, programs, "./examples/embed-registry"), Args: []string{"--addr", "127.0.0.1:0", "--data", t.TempDir()},
	})
	line, err := p.Line(startLimit)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(line, "http://")
	addr, _, _ := strings.Cut(rest, ",")
	return &stack{Registry: addr, Login: realtest.Login{Registry: addr}, Namespace: "alice.test"}
}

// sandbox is examples/sandbox on free ports. Started again on the same folder it
// is the same network.
func sandbox(t *testing.T, dir string, flags ...string) (*stack, *realtest.Process) {
	t.Helper()
	args := append([]string{"--registry", "127.0.0.1:0", "--hold", "127.0.0.1:0", "--pds", "127.0.0.1:0", "--data", dir, "--json"}, flags...)
	p := realtest.Start(t, realtest.Command{Path: realtest.Build(t, programs, "./examples/sandbox"), Args: args})
	line, err := p.Line(startLimit)
	if err != nil {
		t.Fatal(err)
	}
	var ready struct {
		Registry, Hold, PDS, Handle, DID, Password string
		HoldDID                                    string `json:"hold_did"`
	}
	if err := json.Unmarshal([]byte(line), &ready); err != nil {
		t.Fatalf("first line %q: %v", line, err)
	}
	return &stack{
		Registry: ready.Registry, Login: realtest.Login{Registry: ready.Registry, User: ready.Handle, Password: ready.Password},
		Namespace: ready.Handle, DID: ready.DID, PDS: ready.PDS, Hold: ready.Hold, HoldDID: ready.HoldDID,
	}, p
}

// do sends one request to the registry as login, with a token for scope when the
// registry wants one. The answer's body is read, up to 8 MiB.
func do(t *testing.T, login realtest.Login, method, path, scope string, header http.Header) (*http.Response, []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://"+login.Registry+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range header {
		req.Header[k] = v
	}
	if token := registryToken(t, login, scope); token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 8<<20))
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	return resp, body
}

// registryToken asks the token service that GET /v2/ names, as docker does; it
// is empty where the registry names none.
func registryToken(t *testing.T, login realtest.Login, scope string) string {
	t.Helper()
	resp, err := http.Get("http://" + login.Registry + "/v2/")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	challenge := resp.Header.Get("WWW-Authenticate")
	if challenge == "" {
		return ""
	}
	realm, service := parameter(challenge, "realm"), parameter(challenge, "service")
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, realm+"?service="+url.QueryEscape(service)+"&scope="+
		url.QueryEscape(scope), nil)
	if err != nil {
		t.Fatal(err)
	}
	if login.User != "" {
		req.SetBasicAuth(login.User, login.Password)
	}
	resp, err = http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var answer struct{ Token string }
	body, err := io.ReadAll(resp.Body)
	if err == nil {
		err = json.Unmarshal(body, &answer)
	}
	if err != nil || answer.Token == "" {
		t.Fatalf("token for %q, scope %q: %s, %v: %s", login.User, scope, resp.Status, err, body)
	}
	return answer.Token
}

func parameter(challenge, name string) string {
	_, rest, _ := strings.Cut(challenge, name+`="`)
	value, _, _ := strings.Cut(rest, `"`)
	return value
}

// must returns v, or fails t.
func must[T any](v T, err error) func(t *testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// xrpc GETs a JSON answer of a PDS or hold.
func xrpc(t *testing.T, server, method string, query url.Values, out any) error {
	t.Helper()
	resp, err := http.Get(server + "/xrpc/" + method + "?" + query.Encode())
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 256<<20))
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s: %.300s", method, resp.Status, body)
	}
	if raw, ok := out.(*[]byte); ok {
		*raw = body
		return nil
	}
	return json.Unmarshal(body, out)
}
