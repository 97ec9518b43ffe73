package local_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/google/go-containerregistry/pkg/crane"
	"github.com/google/go-containerregistry/pkg/v1/random"

	"github.com/atcr-dev/atcr/registry"
	"github.com/atcr-dev/atcr/registry/local"
	"github.com/atcr-dev/atcr/repo"
	repomem "github.com/atcr-dev/atcr/repo/memstore"
	"github.com/atcr-dev/atcr/sqldb/sqlite"
	storagemem "github.com/atcr-dev/atcr/storage/memstore"
)

// A registry in a folder, and an image pushed and pulled.
func ExampleOpen() {
	dir, err := os.MkdirTemp("", "local")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	backend, err := local.Open(context.Background(), dir)
	if err != nil {
		panic(err)
	}
	defer backend.Close()
	server := httptest.NewServer(registry.NewHandler(backend, &registry.Options{Log: slog.New(slog.DiscardHandler)}))
	defer server.Close()

	host := strings.TrimPrefix(server.URL, "http://")
	image, err := random.Image(1000, 3)
	if err != nil {
		panic(err)
	}
	if err := crane.Push(image, host+"/team/app:v1"); err != nil {
		panic(err)
	}
	pushed, _ := image.Digest()
	pulled, err := crane.Digest(host + "/team/app:v1")
	fmt.Println(pulled == pushed.String(), err)
	tags, err := crane.ListTags(host + "/team/app")
	fmt.Println(tags, err)
	// Output:
	// true <nil>
	// [v1] <nil>
}

// A registry over a repository and a store of one's own: here both in memory, with the table of names in a SQLite file.
func ExampleNew() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "local")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	db, err := sqlite.Open(ctx, filepath.Join(dir, "names.db"))
	if err != nil {
		panic(err)
	}
	defer db.Close()
	key, err := atcrypto.GeneratePrivateKeyK256()
	if err != nil {
		panic(err)
	}
	records, err := repo.Open(ctx, repomem.New(), repo.Options{DID: "did:web:registry.example", Key: key, MaxBlob: 4 << 20})
	if err != nil {
		panic(err)
	}
	defer records.Close()
	backend, err := local.New(ctx, records, storagemem.New(), db, &local.Options{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		panic(err)
	}
	defer backend.Close()
	server := httptest.NewServer(registry.NewHandler(backend, &registry.Options{Log: slog.New(slog.DiscardHandler)}))
	defer server.Close()

	image, err := random.Image(1000, 3)
	if err != nil {
		panic(err)
	}
	if err := crane.Push(image, strings.TrimPrefix(server.URL, "http://")+"/team/app:v1"); err != nil {
		panic(err)
	}
	names, err := records.Collections(ctx) // a push is records of the repository
	fmt.Println(names, err)
	// Output: [io.atcr.manifest io.atcr.repo.page io.atcr.tag] <nil>
}
