package local_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"os"
	"strings"

	"github.com/google/go-containerregistry/pkg/crane"
	"github.com/google/go-containerregistry/pkg/v1/random"

	"github.com/atcr-dev/atcr/registry"
	"github.com/atcr-dev/atcr/registry/local"
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
