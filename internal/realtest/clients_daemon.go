package realtest

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/atcr-dev/atcr/internal/realtest/tools"
)

// Podman is Debian's podman with storage of its own.
type Podman struct{ tool }

// NewPodman is podman signed in as login.
func NewPodman(t testing.TB, login Login) *Podman {
	t.Helper()
	Need(t, tools.Podman)
	c := &Podman{newTool(t, tools.Path(tools.Podman), login)}
	c.env = append(c.env, "REGISTRY_AUTH_FILE="+filepath.Join(writeAuth(t, login), "config.json"), "TMPDIR="+c.dir)
	c.args = []string{"--storage-driver", "vfs", "--cgroup-manager", "cgroupfs", "--runtime", "runc",
		"--root", filepath.Join(c.dir, "root"), "--runroot", shortDir(t)}
	return c
}

// Name is "podman".
func (c *Podman) Name() string { return "podman" }

// Push loads img's archive and pushes it.
func (c *Podman) Push(img *ImageFile, ref string) (string, error) {
	if _, err := c.run("load", "-q", "-i", img.Archive); err != nil {
		return "", err
	}
	dir, err := c.temp("push-")
	if err != nil {
		return "", err
	}
	file := filepath.Join(dir, "digest")
	if _, err := c.run("push", "-q", "--tls-verify=false", "--digestfile", file, imageTag, ref); err != nil {
		return "", err
	}
	if err := c.forget(); err != nil {
		return "", err
	}
	raw, err := os.ReadFile(file)
	return strings.TrimSpace(string(raw)), err
}

// Pull pulls ref into an empty storage and removes it again.
func (c *Podman) Pull(ref string) (string, error) {
	if err := c.forget(); err != nil {
		return "", err
	}
	if _, err := c.run("pull", "-q", "--tls-verify=false", ref); err != nil {
		return "", err
	}
	out, err := c.run("image", "inspect", "--format", "{{.Digest}}", ref)
	if err != nil {
		return "", err
	}
	return strings.TrimSpace(out), c.forget()
}

// Run runs any podman command.
func (c *Podman) Run(args ...string) (string, error) {
	out, err := c.run(args...)
	return strings.TrimSpace(out), err
}

func (c *Podman) forget() error {
	_, err := c.run("rmi", "-a", "-f")
	return err
}

// shortDir is a temporary folder for sockets: their paths are limited, and that
// of t.TempDir grows with the test's name.
func shortDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "rt")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// Docker is a docker CLI with a daemon of its own.
type Docker struct {
	tool
	host   string
	config string
}

var digestLine = regexp.MustCompile(`(?i)digest: (sha256:[0-9a-f]{64})`)

// NewDocker starts dockerd with storage of its own and signs in as login by
// "docker login", which asks the registry. Needs root.
func NewDocker(t testing.TB, login Login) *Docker {
	t.Helper()
	Need(t, tools.Docker)
	if os.Getuid() != 0 {
		t.Skip("realtest: skipped: dockerd needs root")
	}
	short := shortDir(t)
	c := &Docker{tool: newTool(t, tools.Path(tools.Docker), login), host: "unix://" + filepath.Join(short, "d")}
	p := Start(t, Command{Path: "dockerd", Dir: c.dir, Env: []string{"HOME=" + c.dir, "TMPDIR=" + c.dir}, Args: []string{
		"--data-root", filepath.Join(c.dir, "data"), "--exec-root", filepath.Join(short, "x"),
		"-H", c.host, "-p", filepath.Join(short, "pid"),
		"--iptables=false", "--ip6tables=false", "--bridge=none", "--storage-driver=vfs", "--log-level=error"}})
	c.path, c.config = "docker", writeAuth(t, Login{Registry: login.Registry, Helper: login.Helper})
	c.env = append(c.env, "DOCKER_HOST="+c.host, "DOCKER_CONFIG="+c.config)
	err := WaitFor(30*time.Second, func() error {
		select {
		case <-p.Done():
			t.Fatalf("realtest: dockerd ended:\n%s", p.Log())
		default:
		}
		_, err := c.run("version")
		return err
	})
	if err != nil {
		t.Fatalf("realtest: dockerd: %v", err)
	}
	if login.User != "" {
		if err := c.Login(login); err != nil {
			t.Fatalf("realtest: docker login: %v", err)
		}
	}
	return c
}

// Name is "docker".
func (c *Docker) Name() string { return "docker" }

// Login signs in; what the registry's token service says decides.
func (c *Docker) Login(login Login) error {
	_, err := c.run("login", "-u", login.User, "-p", login.Password, login.Registry)
	return err
}

// Push loads img's archive and pushes it.
func (c *Docker) Push(img *ImageFile, ref string) (string, error) {
	if _, err := c.run("load", "-q", "-i", img.Archive); err != nil {
		return "", err
	}
	if _, err := c.run("tag", imageTag, ref); err != nil {
		return "", err
	}
	out, err := c.run("push", ref)
	if err != nil {
		return "", err
	}
	return c.digestOf(out)
}

// Pull removes all images, so that the layers come from the registry, and pulls
// ref.
func (c *Docker) Pull(ref string) (string, error) {
	ids, err := c.run("images", "-aq")
	if err != nil {
		return "", err
	}
	if fields := strings.Fields(ids); len(fields) > 0 {
		if _, err := c.run(append([]string{"rmi", "-f"}, fields...)...); err != nil && !strings.Contains(err.Error(), "No such image") {
			return "", err
		}
	}
	out, err := c.run("pull", ref)
	if err != nil {
		return "", err
	}
	return c.digestOf(out)
}

// Run runs any docker command.
func (c *Docker) Run(args ...string) (string, error) {
	out, err := c.run(args...)
	return strings.TrimSpace(out), err
}

func (c *Docker) digestOf(out string) (string, error) {
	found := digestLine.FindStringSubmatch(out)
	if found == nil {
		return "", fmt.Errorf("docker printed no digest:\n%s", out)
	}
	return found[1], nil
}
