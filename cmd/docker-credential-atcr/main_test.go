package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/docker/docker-credential-helpers/client"
	"github.com/docker/docker-credential-helpers/credentials"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/atcr-dev/atcr/internal/realtest"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"docker-credential-atcr": main})
}

func TestScripts(t *testing.T) { scripts(t, "testdata") }

// The Secret Service of GNOME, open and locked.
func TestSecretService(t *testing.T) {
	dir := t.TempDir()
	open := realtest.SecretService(t, dir, "the keyring's password")
	scripts(t, "testdata/keyring", "OPEN="+open, "LOCKED="+realtest.SecretService(t, dir, ""))
}

func scripts(t *testing.T, dir string, vars ...string) {
	testscript.Run(t, testscript.Params{
		Dir: dir,
		Setup: func(env *testscript.Env) error {
			env.Vars = append(env.Vars, vars...)
			server := httptest.NewServer(&registry{})
			env.Defer(server.Close)
			env.Setenv("REGISTRY", strings.TrimPrefix(server.URL, "http://"))
			env.Setenv("TODAY", time.Now().Format("2006-01-02"))
			env.Setenv("HOME", filepath.Join(env.WorkDir, "home"))
			// A bus that would have to be started is none: whoever runs the tests keeps their keyring to themselves.
			env.Setenv("DBUS_SESSION_BUS_ADDRESS", "autolaunch:")
			return os.Mkdir(filepath.Join(env.WorkDir, "home"), 0o700)
		},
		Condition: func(name string) (bool, error) {
			_, err := os.Stat(fmt.Sprintf("/run/user/%d/bus", os.Getuid()))
			return err == nil, nil // there is one condition, bus
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){"mode": mode},
	})
}

// docker's own client of credential helpers understands what this one says.
func TestDockersClient(t *testing.T) {
	env := map[string]string{"HOME": t.TempDir(), "DBUS_SESSION_BUS_ADDRESS": "autolaunch:"}
	program := client.NewShellProgramFuncWithEnv(realtest.Build(t, t.TempDir(), "./cmd/docker-credential-atcr"), &env)
	missing := func() {
		t.Helper()
		if _, err := client.Get(program, "registry.example.com"); !credentials.IsErrCredentialsNotFound(err) {
			t.Errorf("get returns %v, want not found", err)
		}
	}
	missing()
	want := credentials.Credentials{ServerURL: "registry.example.com", Username: "alice.test", Secret: `s3cret"<&>\`}
	if err := client.Store(program, &want); err != nil {
		t.Fatal(err)
	}
	if got, err := client.Get(program, "registry.example.com"); err != nil || *got != want {
		t.Errorf("got %+v, %v", got, err)
	}
	if list, err := client.List(program); err != nil || len(list) != 1 || list["registry.example.com"] != "alice.test" {
		t.Errorf("list %v, %v", list, err)
	}
	if err := client.Erase(program, "registry.example.com"); err != nil {
		t.Error(err)
	}
	missing()
	if _, err := client.Get(program, ""); !credentials.IsCredentialsMissingServerURL(errors.Unwrap(err)) &&
		!strings.Contains(err.Error(), "no credentials server URL") {
		t.Errorf("without a server: %v", err)
	}
	err := client.Store(program, &credentials.Credentials{ServerURL: "registry.example.com", Secret: "x"})
	if err == nil || !strings.Contains(err.Error(), "no credentials username") {
		t.Errorf("without a user: %v", err)
	}
}

// mode makes sure that a file has a mode: mode 600 FILE.
func mode(ts *testscript.TestScript, _ bool, args []string) {
	st, err := os.Stat(ts.MkAbs(args[1]))
	ts.Check(err)
	if got := fmt.Sprintf("%o", st.Mode().Perm()); got != args[0] {
		ts.Fatalf("%s has mode %s, want %s", args[1], got, args[0])
	}
}

// registry is the device flow of a registry. What a device is called says what becomes of it: the handle of who approves it at the
// second question, "refused", or "late".
type registry struct {
	mu      sync.Mutex
	devices map[string]string // device_code: device_name
	asked   map[string]int
}

func (s *registry) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	answer := func(status int, v map[string]any) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		json.NewEncoder(w).Encode(v)
	}
	if r.Method != http.MethodPost || r.PostFormValue("client_id") != "docker-credential-atcr" {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	switch r.URL.Path {
	case "/auth/device/code":
		if s.devices == nil {
			s.devices, s.asked = map[string]string{}, map[string]int{}
		}
		code := fmt.Sprintf("code-%d", len(s.devices))
		s.devices[code] = r.PostFormValue("device_name")
		answer(200, map[string]any{"device_code": code, "user_code": "BCDF-GHJK", "verification_uri": "http://" + r.Host + "/device",
			"verification_uri_complete": "http://" + r.Host + "/device?user_code=BCDF-GHJK", "expires_in": 600, "interval": 1})
	case "/auth/device/token":
		code := r.PostFormValue("device_code")
		s.asked[code]++
		switch name := s.devices[code]; {
		case name == "refused":
			answer(400, map[string]any{"error": "access_denied"})
		case name == "late":
			answer(400, map[string]any{"error": "expired_token"})
		case s.asked[code] == 1:
			answer(400, map[string]any{"error": "authorization_pending"})
		default:
			answer(200, map[string]any{"access_token": "atcr_device_of-" + name, "token_type": "device_secret",
				"did": "did:plc:" + strings.TrimSuffix(name, ".test"), "handle": name})
		}
	default:
		http.NotFound(w, r)
	}
}
