package pds_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/atcr-dev/atcr/identity"
	"github.com/atcr-dev/atcr/registry"
	"github.com/atcr-dev/atcr/registry/pds"
	"github.com/atcr-dev/atcr/sqldb/sqlite"
)

// A backend that only pulls: without Sessions nobody can push.
func ExampleNew() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "pds")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	db, err := sqlite.Open(ctx, filepath.Join(dir, "appview.db"))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer db.Close()
	backend, err := pds.New(ctx, pds.Options{DB: db, Directory: identity.NewMockDirectory()})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer backend.Close()
	// http.Handle("/v2/", registry.NewHandler(backend, nil))
	app, err := backend.Repository(ctx, registry.Actor{}, "nobody.example.com/app")
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = app.Manifest(ctx, registry.Ref{Tag: "latest"})
	fmt.Println(errors.Is(err, registry.ErrNameUnknown))
	// Output: true
}
