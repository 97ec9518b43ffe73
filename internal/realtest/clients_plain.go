package realtest

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/atcr-dev/atcr/internal/realtest/tools"
)

// Crane is google/go-containerregistry's command.
type Crane struct{ tool }

// NewCrane is crane signed in as login.
func NewCrane(t testing.TB, login Login) *Crane {
	t.Helper()
	Need(t, tools.Crane)
	c := &Crane{newTool(t, tools.Path(tools.Crane), login)}
	c.env = append(c.env, "DOCKER_CONFIG="+writeAuth(t, login))
	c.args = []string{"--insecure"}
	return c
}

// Name is "crane".
func (c *Crane) Name() string { return "crane" }

// Push pushes img's layout.
func (c *Crane) Push(img *ImageFile, ref string) (string, error) {
	return c.digestOf(c.run("push", img.Layout, ref))
}

// PushIndex pushes an image index.
func (c *Crane) PushIndex(index *IndexFile, ref string) (string, error) {
	return c.digestOf(c.run("push", "--index", index.Flat, ref))
}

// Pull fetches ref, an image or an index with all its images, into a new layout.
func (c *Crane) Pull(ref string) (string, error) {
	dir, err := c.temp("pull-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	if _, err := c.run("pull", "--format", "oci", ref, dir); err != nil {
		return "", err
	}
	return layoutDigest(dir)
}

// Run runs any crane command and returns its output, trimmed.
func (c *Crane) Run(args ...string) (string, error) {
	out, err := c.run(args...)
	return strings.TrimSpace(out), err
}

// digestOf takes the digest from "host/name@sha256:…".
func (c *Crane) digestOf(out string, err error) (string, error) {
	if err != nil {
		return "", err
	}
	_, digest, _ := strings.Cut(strings.TrimSpace(out), "@")
	return digest, nil
}

// Skopeo is Debian's skopeo.
type Skopeo struct{ tool }

// NewSkopeo is skopeo signed in as login.
func NewSkopeo(t testing.TB, login Login) *Skopeo {
	t.Helper()
	Need(t, tools.Skopeo)
	c := &Skopeo{newTool(t, tools.Path(tools.Skopeo), login)}
	auth := filepath.Join(writeAuth(t, login), "config.json")
	c.env = append(c.env, "REGISTRY_AUTH_FILE="+auth)
	c.args = []string{"--insecure-policy", "--tmpdir", c.dir}
	return c
}

// Name is "skopeo".
func (c *Skopeo) Name() string { return "skopeo" }

// Push copies img's layout to ref.
func (c *Skopeo) Push(img *ImageFile, ref string) (string, error) {
	return c.copyIn(img.Layout, ref)
}

// PushIndex copies an index and all its images to ref. Debian 12's skopeo
// (1.9.3) writes the index anew, so that its digest is another than index.Digest;
// those of the images stay.
func (c *Skopeo) PushIndex(index *IndexFile, ref string) (string, error) {
	return c.copyIn(index.Layout, ref)
}

func (c *Skopeo) copyIn(layout, ref string) (string, error) {
	dir, err := c.temp("push-")
	if err != nil {
		return "", err
	}
	file := filepath.Join(dir, "digest")
	if _, err := c.run("copy", "--all", "--digestfile", file, "--dest-tls-verify=false",
		"oci:"+layout+":made", "docker://"+ref); err != nil {
		return "", err
	}
	raw, err := os.ReadFile(file)
	return strings.TrimSpace(string(raw)), err
}

// Pull copies ref, with all platforms of an index, to a new folder. The digest is
// that of the manifest as served: 1.9.3 writes an index anew in every copy.
func (c *Skopeo) Pull(ref string) (string, error) {
	dir, err := c.temp("pull-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	if _, err := c.run("copy", "--all", "--src-tls-verify=false", "docker://"+ref, "dir:"+dir); err != nil {
		return "", err
	}
	raw, err := c.run("inspect", "--raw", "--tls-verify=false", "docker://"+ref)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(raw))), nil
}

// Run runs any skopeo command.
func (c *Skopeo) Run(args ...string) (string, error) {
	out, err := c.run(args...)
	return strings.TrimSpace(out), err
}

// Oras is the oras command.
type Oras struct{ tool }

// NewOras is oras signed in as login.
func NewOras(t testing.TB, login Login) *Oras {
	t.Helper()
	Need(t, tools.Oras)
	c := &Oras{newTool(t, tools.Path(tools.Oras), login)}
	c.env = append(c.env, "DOCKER_CONFIG="+writeAuth(t, login))
	return c
}

// Name is "oras".
func (c *Oras) Name() string { return "oras" }

// PushFile pushes one file as an artifact of the given type and returns the
// manifest's digest.
func (c *Oras) PushFile(file, artifactType, ref string) (string, error) {
	return c.digestLine(c.runIn(filepath.Dir(file), "push", "--plain-http", "--artifact-type", artifactType, ref, filepath.Base(file)))
}

// Attach attaches one file to ref as a referrer and returns its manifest's
// digest.
func (c *Oras) Attach(file, artifactType, ref string) (string, error) {
	return c.digestLine(c.runIn(filepath.Dir(file), "attach", "--plain-http", "--artifact-type", artifactType, ref, filepath.Base(file)))
}

// Discover is the JSON that "oras discover" prints for ref.
func (c *Oras) Discover(ref string) (string, error) {
	return c.run("discover", "--plain-http", "--format", "json", ref)
}

// PullFile pulls an artifact and returns the bytes of its one file.
func (c *Oras) PullFile(ref string) ([]byte, error) {
	dir, err := c.temp("pull-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	if _, err := c.run("pull", "--plain-http", "-o", dir, ref); err != nil {
		return nil, err
	}
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(files) == 0 {
		return nil, os.ErrNotExist
	}
	return os.ReadFile(files[0])
}

// Run runs any oras command.
func (c *Oras) Run(args ...string) (string, error) {
	out, err := c.run(args...)
	return strings.TrimSpace(out), err
}

func (c *Oras) runIn(dir string, args ...string) (string, error) {
	in := c.tool
	in.dir = dir
	return in.run(args...)
}

// digestLine takes the digest from the line "Digest: sha256:…".
func (c *Oras) digestLine(out string, err error) (string, error) {
	for line := range strings.Lines(out) {
		if digest, ok := strings.CutPrefix(strings.TrimSpace(line), "Digest: "); ok {
			return digest, err
		}
	}
	return "", err
}

// Helm is the helm command; make long only.
type Helm struct{ tool }

// NewHelm is helm signed in as login.
func NewHelm(t testing.TB, login Login) *Helm {
	t.Helper()
	Need(t, tools.Helm)
	c := &Helm{newTool(t, tools.Path(tools.Helm), login)}
	c.env = append(c.env, "HELM_REGISTRY_CONFIG="+filepath.Join(writeAuth(t, login), "config.json"))
	return c
}

// Run runs any helm command.
func (c *Helm) Run(args ...string) (string, error) {
	out, err := c.run(args...)
	return strings.TrimSpace(out), err
}
