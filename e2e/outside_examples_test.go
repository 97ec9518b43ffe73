package e2e

import (
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/random"

	"github.com/atcr-dev/atcr/internal/realtest"
)

// TestExamplesOutsideTheTree: the sources of the examples are all that somebody else needs for a backend, a storage driver with the
// suite that checks it, a hold on a given store, database and logger, and a repository in PostgreSQL: moved into a module of
// their own they build, pass and run.
func TestExamplesOutsideTheTree(t *testing.T) {
	root := must(filepath.Abs(".."))(t)
	dir := t.TempDir()
	write := func(name, text string) {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"own-backend/main.go", "own-driver/driver.go", "own-driver/driver_test.go", "own-hold/main.go",
		"postgres-repo/main.go"} {
		source := string(must(os.ReadFile(filepath.Join(root, "examples", name)))(t))
		source = strings.ReplaceAll(source, "github.com/atcr-dev/atcr/examples/", "example.com/outside/")
		if strings.Contains(source, "/internal/") {
			t.Errorf("%s imports what only this module may", name)
		}
		write(name, source)
	}
	write("go.mod", "module example.com/outside\n\ngo 1.26.0\n\nrequire github.com/atcr-dev/atcr v0.0.0\n\n"+
		"replace github.com/atcr-dev/atcr => "+root+"\n")
	write("go.sum", string(must(os.ReadFile(filepath.Join(root, "go.sum")))(t)))
	for _, args := range [][]string{{"build", "-mod=mod", "-o", filepath.Join(dir, "bin") + string(filepath.Separator), "./..."},
		{"test", "-mod=mod", "./own-driver"}} {
		cmd := exec.Command("go", args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("go %s: %v\n%s", args[0], err, out)
		}
	}
	program := func(name string) string { return filepath.Join(dir, "bin", name) }
	t.Run("backend", func(t *testing.T) { runOwnBackend(t, program("own-backend")) })
	t.Run("hold", func(t *testing.T) { runOwnHold(t, program("own-hold")) })
}

func runOwnBackend(t *testing.T, program string) {
	images := t.TempDir()
	path := must(layout.Write(images, must(random.Index(100, 1, 0))(t)))(t)
	image := must(random.Image(100_000, 3))(t)
	if err := path.AppendImage(image, layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": "v1"})); err != nil {
		t.Fatal(err)
	}
	p := realtest.Start(t, realtest.Command{Path: program, Args: []string{"--addr", "127.0.0.1:0", "--layout", images}})
	host := strings.TrimPrefix(must(p.Line(startLimit))(t), "registry on http://")
	got := must(realtest.NewCrane(t, realtest.Login{Registry: host}).Pull(host + "/app:v1"))(t)
	if want := must[v1.Hash](image.Digest())(t).String(); got != want {
		t.Errorf("pulled %s, want %s", got, want)
	}
}

func runOwnHold(t *testing.T, program string) {
	dir := t.TempDir()
	p := realtest.Start(t, realtest.Command{Path: program, Args: []string{
		"--addr", "127.0.0.1:0", "--data", filepath.Join(dir, "data"), "--layers", filepath.Join(dir,
			"layers"), "--database", filepath.Join(dir, "own.db"),
		"--owner", "did:web:captain.test", "--test-mode",
	}})
	fields := strings.Fields(must(p.Line(startLimit))(t))
	did, base := fields[1], fields[len(fields)-1]
	for path, want := range map[string]string{"/.well-known/did.json": did, "/xrpc/_health": "{", "/hello": "layers"} {
		if resp, body := send(t, "", "GET", base+path, nil); resp.StatusCode != http.StatusOK || !strings.Contains(body, want) {
			t.Errorf("%s: %s %s; want %q in it", path, resp.Status, body, want)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "own.db")); err != nil {
		t.Error(err)
	}
	for line := range strings.Lines(p.Log()) {
		if strings.HasPrefix(line, "hold did:") {
			continue // what it prints
		}
		if !json.Valid([]byte(line)) {
			t.Errorf("not of the logger that was given: %s", line)
		}
	}
}
