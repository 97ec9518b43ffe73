package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/atcr-dev/atcr/internal/realtest"
)

// outsideMain is a program of somebody else's: a registry beside other routes,
// a hold, and the sign-in of an AppView joined by hand, on one mux.
const outsideMain = `package main

import (
	"context"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"

	"github.com/atcr-dev/atcr/hold"
	"github.com/atcr-dev/atcr/identity"
	"github.com/atcr-dev/atcr/registry"
	"github.com/atcr-dev/atcr/registry/auth"
	"github.com/atcr-dev/atcr/registry/local"
	"github.com/atcr-dev/atcr/registry/pds"
	"github.com/atcr-dev/atcr/sqldb/sqlite"
)

func main() {
	ctx := context.Background()
	backend, err := local.Open(ctx, os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	defer backend.Close()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /hello", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "hello") })
	mux.Handle("/v2/", registry.NewHandler(backend, nil))
	server, err := hold.New(ctx, hold.Config{
		Dir: os.Args[2], PublicURL: "http://" + listener.Addr().String(), OwnerDID: "did:web:example.com", Public: true, TestMode: true,
	})
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()
	mux.Handle("/", server.Handler())
	db, err := sqlite.Open(ctx, filepath.Join(os.Args[2], "joined.db"))
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	directory := identity.NewResolver(identity.ResolverOptions{})
	tokens, err := auth.New(ctx, auth.Options{DB: db, Directory: directory, KeyPath: filepath.Join(os.Args[2], "auth", "key.pem")})
	if err != nil {
		log.Fatal(err)
	}
	mux.Handle("/auth/", tokens.Handler())
	owners, err := pds.New(ctx, pds.Options{DB: db, Directory: directory, Sessions: tokens.Sessions(), DefaultHold: server.DID()})
	if err != nil {
		log.Fatal(err)
	}
	defer owners.Close()
	_ = registry.NewHandler(owners, &registry.Options{Authorizer: tokens})
	fmt.Println(listener.Addr())
	log.Fatal(http.Serve(listener, mux))
}
`

// A module outside the tree builds against ours with what its go.mod needs, and
// serves a registry and a hold.
func TestModuleOutsideTheTree(t *testing.T) {
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("main.go", outsideMain)
	write("go.mod", "module example.com/outside\n\ngo 1.26.0\n\nrequire github.com/atcr-dev/atcr v0.0.0\n\n"+
		"replace github.com/atcr-dev/atcr => "+root+"\n")
	write("go.sum", string(must(os.ReadFile(filepath.Join(root, "go.sum")))(t)))
	program := filepath.Join(dir, "outside")
	cmd := exec.Command("go", "build", "-mod=mod", "-o", program, ".")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	p := realtest.Start(t, realtest.Command{Path: program, Args: []string{filepath.Join(dir, "registry"), filepath.Join(dir, "hold")}})
	addr := must(p.Line(startLimit))(t)
	for path, want := range map[string]string{"/hello": "hello", "/.well-known/did.json": "#atcr_hold", "/xrpc/_health": "{",
		"/auth/jwks.json": "RS256"} {
		if _, body := send(t, "", "GET", "http://"+addr+path, nil); !strings.Contains(body, want) {
			t.Errorf("%s: %s; want %q in it", path, body, want)
		}
	}
	img := realtest.Image(t, realtest.ImageOptions{Seed: 950})
	crane := realtest.NewCrane(t, realtest.Login{Registry: addr})
	must(crane.Push(img, addr+"/app:v1"))(t)
	if got := must(crane.Pull(addr + "/app:v1"))(t); got != img.Digest {
		t.Errorf("pulled %s, want %s", got, img.Digest)
	}
	if strings.Contains(p.Log(), "panic") {
		t.Error(p.Log())
	}
}
