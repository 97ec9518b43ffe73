package pds_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/atcr-dev/atcr/identity"
	"github.com/atcr-dev/atcr/registry"
	"github.com/atcr-dev/atcr/registry/auth"
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

// Sessions by which an upload or a push goes on are kept when an account signs in anew.
func ExampleBackend_SessionsInUse() {
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
	directory := identity.NewMockDirectory()
	var backend *pds.Backend
	a, err := auth.New(ctx, auth.Options{
		DB: db, Directory: directory, BaseURL: "https://registry.example.com", KeyPath: filepath.Join(dir, "auth", "private-key.pem"),
		InUse: func(ctx context.Context, did string) ([]string, error) {
			if backend == nil { // which comes next
				return nil, nil
			}
			return backend.SessionsInUse(ctx, did)
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	backend, err = pds.New(ctx, pds.Options{DB: db, Directory: directory, Sessions: a.Sessions()})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer backend.Close()
	sessions, err := backend.SessionsInUse(ctx, "did:web:nobody.example.com")
	fmt.Println(len(sessions), err)
	// Output: 0 <nil>
}
