package realtest

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// clientLimit bounds one command of a client. dockerd repeats a 5xx for some 50
// seconds before it gives up.
const clientLimit = 3 * time.Minute

// Login is who a client is. An empty User is anonymous.
type Login struct {
	Registry string // host:port, spoken to by plain HTTP
	User     string
	Password string
	// Helper, when set, is asked for the secret in place of User and Password; docker alone signs in with these, if there are any,
	// and so has the helper store them.
	Helper *CredentialHelper
}

// CredentialHelper is a program docker-credential-NAME that clients ask for secrets.
type CredentialHelper struct {
	Name string   // empty: the clients' configuration does not name it yet
	Dir  string   // where the program lies
	Env  []string // of the clients, and so of the program
}

// env is what clients get besides.
func (h *CredentialHelper) env() []string {
	if h == nil {
		return nil
	}
	return append([]string{"PATH=" + h.Dir + string(os.PathListSeparator) + os.Getenv("PATH")}, h.Env...)
}

// A Client pushes and pulls images with one real program. Push returns the
// digest that the client says it pushed, Pull the digest of what it fetched;
// Pull also fetches every layer, into a store that did not have them. An error
// holds what the program printed.
type Client interface {
	Name() string
	Push(img *ImageFile, ref string) (digest string, err error)
	Pull(ref string) (digest string, err error)
}

// Clients are crane, skopeo, podman and docker, signed in as login. Each has its
// own credential file, storage and (docker) daemon in the test's folder.
func Clients(t testing.TB, login Login) []Client {
	t.Helper()
	return []Client{NewCrane(t, login), NewSkopeo(t, login), NewPodman(t, login), NewDocker(t, login)}
}

// A tool runs one program of a test.
type tool struct {
	path string
	dir  string // of the test; HOME too
	env  []string
	args []string // before all others
	ctx  context.Context
}

func newTool(t testing.TB, path string, login Login) tool {
	dir := t.TempDir()
	env := append([]string{"HOME=" + dir, "XDG_RUNTIME_DIR=" + dir}, login.Helper.env()...)
	return tool{path: path, dir: dir, ctx: t.Context(), env: env}
}

// run runs the program with stdin empty and returns its standard output.
func (c tool) run(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(c.ctx, clientLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, c.path, append(append([]string{}, c.args...), args...)...)
	cmd.Env = append(os.Environ(), c.env...)
	cmd.Dir = c.dir
	cmd.SysProcAttr = dieWithParent()
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("%s %s: %w\n%s%s",
			filepath.Base(c.path), strings.Join(args, " "), err, stdout.String(), stderr.String())
	}
	return stdout.String(), nil
}

// Environ is what the program gets beside the test's own environment, for another program of the same user.
func (c tool) Environ() []string { return c.env }

// temp is a new path inside the tool's folder.
func (c tool) temp(pattern string) (string, error) { return os.MkdirTemp(c.dir, pattern) }

// writeAuth writes docker's credential file for login and returns its folder.
func writeAuth(t testing.TB, login Login) string {
	t.Helper()
	dir := t.TempDir()
	auths, config := map[string]any{}, map[string]any{}
	config["auths"] = auths
	if login.Helper != nil {
		if login.Helper.Name != "" {
			config["credHelpers"] = map[string]string{login.Registry: login.Helper.Name}
		}
	} else if login.User != "" {
		auths[login.Registry] = map[string]string{"auth": base64.StdEncoding.EncodeToString([]byte(login.User + ":" + login.Password))}
	}
	raw, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "config.json"), raw, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// layoutDigest is the digest of the one entry in an OCI layout's index.json.
func layoutDigest(dir string) (string, error) {
	raw, err := os.ReadFile(filepath.Join(dir, "index.json"))
	if err != nil {
		return "", err
	}
	var index struct {
		Manifests []struct {
			Digest string `json:"digest"`
		} `json:"manifests"`
	}
	if err := json.Unmarshal(raw, &index); err != nil {
		return "", err
	}
	if len(index.Manifests) != 1 {
		return "", fmt.Errorf("%s: %d entries in index.json, want 1", dir, len(index.Manifests))
	}
	return index.Manifests[0].Digest, nil
}
