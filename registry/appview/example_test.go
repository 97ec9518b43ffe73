package appview_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"

	"github.com/atcr-dev/atcr"
	"github.com/atcr-dev/atcr/identity"
	"github.com/atcr-dev/atcr/registry"
	"github.com/atcr-dev/atcr/registry/appview"
	"github.com/atcr-dev/atcr/registry/auth"
	"github.com/atcr-dev/atcr/registry/pds"
	"github.com/atcr-dev/atcr/sqldb/sqlite"
)

// An AppView in a folder, beside a route of one's own. Without a token docker is told where to get one.
func ExampleNew() {
	dir, err := os.MkdirTemp("", "appview")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	app, err := appview.New(context.Background(), appview.Config{
		Dir: dir, BaseURL: "https://registry.example.com", DefaultHold: "did:web:hold.example.com",
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer app.Close()
	// go app.Run(ctx) settles what a crash or a silent server left open.
	mux := http.NewServeMux()
	mux.Handle("/", app.Handler())
	mux.HandleFunc("GET /hello", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "hello") })

	for _, path := range []string{"/hello", "/health", "/v2/"} {
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		fmt.Println(w.Code, path, w.Header()["Www-Authenticate"])
	}
	// Output:
	// 200 /hello []
	// 200 /health []
	// 401 /v2/ [Bearer realm="https://registry.example.com/auth/token",service="registry.example.com"]
}

// An AppView whose tables lie in a database of the program's own; with package sqldb/postgres that is
//
//	db, err := postgres.Open(ctx, "postgres://appview@db.example.com/registry?sslmode=verify-full")
func ExampleNew_database() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "appview")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	db, err := sqlite.Open(ctx, filepath.Join(dir, "program.db"))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer db.Close() // after the AppView
	app, err := appview.New(ctx, appview.Config{
		Dir: filepath.Join(dir, "appview"), DB: db, BaseURL: "https://registry.example.com", DefaultHold: "did:web:hold.example.com",
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer app.Close()

	var tables int
	err = db.Read().QueryRowContext(ctx, `select count(*) from sqlite_schema where name in ('auth_session', 'pds_manifest')`).Scan(&tables)
	fmt.Println(tables, err)
	// Output: 2 <nil>
}

// readOnly takes pushes away from everybody, and leaves the rest to the authorizer it wraps.
type readOnly struct{ registry.Authorizer }

func (a readOnly) Authorize(r *http.Request, wanted []registry.Access) (registry.Actor, error) {
	for _, access := range wanted {
		for _, action := range access.Actions {
			if action != registry.Pull {
				return registry.Actor{}, registry.ErrDenied.With("this mirror is read-only")
			}
		}
	}
	return a.Authorizer.Authorize(r, wanted)
}

// The packages joined by hand, with an authorizer of one's own before the tokens.
func Example() {
	dir, err := os.MkdirTemp("", "joined")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	ctx := context.Background()
	db, err := sqlite.Open(ctx, filepath.Join(dir, "registry.db"))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer db.Close()
	directory := identity.NewResolver(identity.ResolverOptions{})
	tokens, err := auth.New(ctx, auth.Options{
		DB: db, Directory: directory, BaseURL: "https://registry.example.com", KeyPath: filepath.Join(dir, "auth", "private-key.pem"),
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	backend, err := pds.New(ctx, pds.Options{
		DB: db, Directory: directory, Sessions: tokens.Sessions(), DefaultHold: "did:web:hold.example.com",
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer backend.Close()
	// go tokens.Run(ctx); go backend.Run(ctx)
	mux := http.NewServeMux()
	mux.Handle("/auth/", tokens.Handler())
	handler := registry.NewHandler(backend, &registry.Options{
		Authorizer: readOnly{tokens},
		Name:       func(name string) (string, error) { return atcr.RewriteName(name), nil },
	}).WithFallback(mux)

	w := httptest.NewRecorder()
	handler.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/v2/alice.example.com/app/blobs/uploads/", nil))
	fmt.Println(w.Code, w.Body)
	// Output: 403 {"errors":[{"code":"DENIED","message":"this mirror is read-only"}]}
}
